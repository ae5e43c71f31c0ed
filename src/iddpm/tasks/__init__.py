"""What each command does, from top to bottom: one file a task."""
