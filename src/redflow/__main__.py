"""`python -m redflow` is the command `redflow`."""

from __future__ import annotations

from redflow.cli import main

if __name__ == "__main__":
    main()
