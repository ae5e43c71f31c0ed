"""What pages do with runs: each action is a command, the same lines of Python, and a job."""
