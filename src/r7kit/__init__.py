"""Task flows: a class per workflow, with a task record in Redis that anything can read while the flow runs."""
