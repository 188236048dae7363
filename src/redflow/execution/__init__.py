"""One attempt of one run, the same for every engine that replays by name."""
