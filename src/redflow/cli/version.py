"""`redflow version`."""

from __future__ import annotations

from redflow import __version__
from redflow.cli import exits, output


def version() -> int:
    """Print the version of redflow."""
    output.line(f"redflow {__version__}")
    return exits.OK
