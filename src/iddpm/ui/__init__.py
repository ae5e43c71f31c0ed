"""The web page of the runs: a server on this machine, its pages and the queue of its jobs."""
