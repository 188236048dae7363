"""The task record in Redis: its layout, its scripts, and reading its changes; nothing else in r7kit knows Redis."""
