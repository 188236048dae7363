"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from redflow import config
from redflow.cli.exits import Refused, refusals
from redflow.cli.modules import default_app, locate
from redflow.cli.wire import ModuleName
from redflow.client import RedflowClient, checked_app, create_client


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Modules = Annotated[
    list[str],
    typer.Argument(
        metavar="MODULE",
        help="Where the workflows are: shop.workflows, or a path such as ./flows.py.",
        show_default=False,
    ),
]
App = Annotated[
    str | None,
    typer.Option(help="Name of the application. Default: REDFLOW_APP, else the first module's package."),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "--redis-url",
        help="Server to use: redis://, rediss://, unix://, redis+sentinel:// or embedded://. "
        "Default: REDIS_URL, else redis://localhost:6379.",
    ),
]
DevUrl = Annotated[
    str | None,
    typer.Option("--url", "--redis-url", help="Use this server instead of starting one.", show_default=False),
]
Prefix = Annotated[
    str | None,
    typer.Option(help="First part of all keys. Default: REDFLOW_PREFIX, else redflow:v1."),
]
Queues = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Queues to serve. Default: those of the workflows."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Runs at a time, in each process.")]
LeaseMs = Annotated[
    int,
    typer.Option(min=100, help="How long a run stays a worker's after its last sign of life, ms."),
]
GraceMs = Annotated[
    int,
    typer.Option(min=0, help="How long runs may go on when the worker is to end, ms; then they are handed back."),
]
Level = Annotated[LogLevel, typer.Option("--log-level", help="Lowest level that is logged.")]
Directory = Annotated[
    Path,
    typer.Option("--dir", file_okay=False, help="Where the server keeps its data; made when missing."),
]


def located(modules: list[str], app: str | None) -> tuple[list[ModuleName], str]:
    """What the MODULE arguments mean, and the application's name.

    Raises:
        Refused: a path does not exist, or a name can't be a module's or an application's.
    """
    names = [locate(module) for module in modules]
    with refusals():
        return names, checked_app(config.resolve_app(app) or default_app(names[0]), "--app")


def queue_list(queues: str | None) -> list[str] | None:
    """The queues in a comma-separated list.

    Raises:
        Refused: there is none in it.
    """
    if queues is None:
        return None
    names = [name.strip() for name in queues.split(",") if name.strip()]
    if not names:
        raise Refused("--queues names no queue; leave it out to serve those of the workflows")
    return names


def open_client(url: str | None, prefix: str | None, app: str | None = None) -> RedflowClient:
    """A client of the server that the options mean; opens no connection.

    Raises:
        Refused: the URL or the prefix is none.
    """
    with refusals():
        return create_client(url=url, prefix=prefix, app=app)
