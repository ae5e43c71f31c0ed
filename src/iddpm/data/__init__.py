"""Where x0 comes from, and how samples are written."""
