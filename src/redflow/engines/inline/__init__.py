"""One attempt of a workflow in the memory of this process, for unit tests."""
