"""The commands, put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from redflow.cli import output
from redflow.cli.dashboard import dashboard
from redflow.cli.dev import dev
from redflow.cli.doctor import doctor
from redflow.cli.exits import INTERRUPTED, REFUSED, Refused
from redflow.cli.run import run
from redflow.cli.runs import explain
from redflow.cli.server import server
from redflow.cli.version import version
from redflow.cli.worker import worker

P = ParamSpec("P")

app = typer.Typer(
    help="Durable workflows in plain Python, with their state in Redis.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback of ours is a bug; with the values of variables it might show a password.
    pretty_exceptions_enable=False,
)


def _answering(command: Callable[P, int]) -> Callable[P, None]:
    """A command whose result is its exit code, and whose refusals are one line on stderr."""

    @wraps(command)
    def answered(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except Refused as exc:
            output.refusal(str(exc))
            code = REFUSED
        except KeyboardInterrupt:
            code = INTERRUPTED
        raise typer.Exit(code)

    return answered


_runs = typer.Typer(help="Look at runs.", no_args_is_help=True)
_runs.command()(_answering(explain))
app.add_typer(_runs, name="runs")

for _command in (dev, dashboard, worker, run, doctor, server, version):
    app.command()(_answering(_command))
