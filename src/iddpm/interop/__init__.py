"""Other people's files and names."""
