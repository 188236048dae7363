"""The worker's background duties, one a file. Each sleeps until the next time something is due."""
