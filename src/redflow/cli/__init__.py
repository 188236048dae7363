"""The command line: `redflow dev | worker | run | server | version`.

One file per command; what a command prints stands in `output`, and the exit codes in `exits`. Workers are processes
of their own (`child`), which the command that started them (`dev`, `worker`) watches, ends and starts again.
"""

from __future__ import annotations


def main() -> None:
    """Run the command that the command line asks for, then end the process with its exit code."""
    # Not above: a worker process imports this package too and needs neither typer nor rich.
    from redflow.cli.app import app

    app(prog_name="redflow")
