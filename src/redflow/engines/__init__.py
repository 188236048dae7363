"""What keeps the state of runs: one folder an engine; they never import each other."""
