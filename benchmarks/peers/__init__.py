"""redflow beside the systems that a user would take in its place: `python -m benchmarks.peers`."""
