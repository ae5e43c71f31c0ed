"""Training state on disk: what is saved, how it is committed, and how it is read again."""
