"""The recipe bench: settings compared on equal wall-clock budgets (docs/choosing.md)."""
