"""Records of a training run: log files, trackers, the terminal and throughput."""
