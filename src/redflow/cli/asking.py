"""What the commands that ask a server have in common: a client, answers or one-line refusals, and shared options."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from redflow.cli.exits import Refused, refusals
from redflow.cli.options import open_client
from redflow.client import RedflowClient
from redflow.types import JsonData, RunStatus, SearchRunsParams

T = TypeVar("T")

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Status(StrEnum):
    """The statuses of runs."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="How many at most.")]
Cursor = Annotated[
    str | None, typer.Option(help="Go on here: the `next_cursor` of the page before.", show_default=False)
]
Reason = Annotated[str, typer.Option(help="Why; kept and shown.", show_default=False)]
WithStatus = Annotated[Status | None, typer.Option("--status", help="Only runs of this status.", show_default=False)]
WithWorkflow = Annotated[
    str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.", show_default=False)
]
WithQueue = Annotated[
    str | None, typer.Option("--queue", metavar="NAME", help="Only runs in this queue, app:queue.", show_default=False)
]
WithError = Annotated[
    str | None,
    typer.Option("--error", metavar="TYPE", help="Only runs with this error: ValueError.", show_default=False),
]
WithParent = Annotated[
    str | None, typer.Option("--parent", metavar="ID", help="Only children of this run.", show_default=False)
]
WithText = Annotated[
    str | None,
    typer.Option("--query", metavar="TEXT", help="Only runs in which this text occurs.", show_default=False),
]
After = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only runs created since: 2030-01-31T08:00, or 2h for so long ago."),
]
Before = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only runs created until then, as --after.", show_default=False)
]
InputText = Annotated[str | None, typer.Option("--input", metavar="JSON", help="The input.", show_default=False)]
InputFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A file with the input as JSON; - is the standard input.", show_default=False),
]


def ask(url: str | None, prefix: str | None, question: Callable[[RedflowClient], Awaitable[int]]) -> int:
    """Put a question to the server that the options mean; the exit code.

    Raises:
        Refused: the URL or the prefix is none, or the question was refused.
    """
    return asyncio.run(_ask(open_client(url, prefix), question))


async def _ask(client: RedflowClient, question: Callable[[RedflowClient], Awaitable[int]]) -> int:
    try:
        return await question(client)
    finally:
        await client.close()


async def told(answer: Awaitable[T]) -> T:
    """What redflow answers.

    Raises:
        Refused: it refuses, and why.
    """
    with refusals():
        return await answer


def filters(
    *,
    status: Status | None = None,
    workflow: str | None = None,
    queue: str | None = None,
    error: str | None = None,
    parent: str | None = None,
    query: str | None = None,
    after: str | None = None,
    before: str | None = None,
) -> SearchRunsParams:
    """What the filters on the command line mean.

    Raises:
        Refused: a time is none.
    """
    wanted: RunStatus | None = None if status is None else _STATUSES[status]
    return SearchRunsParams(
        status=wanted,
        workflow=workflow,
        queue=queue,
        parent_run_id=parent,
        query=query or None,
        created_after=time_of(after, "--after"),
        created_before=time_of(before, "--before"),
        error=error,
    )


_STATUSES: Final[dict[Status, RunStatus]] = {
    Status.SCHEDULED: "scheduled",
    Status.QUEUED: "queued",
    Status.RUNNING: "running",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELED: "canceled",
}


def time_of(text: str | None, option: str) -> int | None:
    """A time of the command line, epoch ms: a date and time, or how long ago.

    Raises:
        Refused: it is none.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return int(time.time() * 1000 - float(ago[1]) * _UNITS[ago[2]])
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        form = "a time such as 2030-01-31T08:00 or 2030-01-31T08:00Z, or how long ago, such as 2h"
        raise Refused(f"{option} must be {form}, got {text!r:.100}") from exc


def read_input(text: str | None, file: str | None) -> list[JsonData]:
    """The input as the options give it, in a list; [] if they don't.

    Raises:
        Refused: both are given, the file can't be read, or what they hold is no JSON.
    """
    if text is not None and file is not None:
        raise Refused("give the input by --input or by --input-file, not both")
    what = "--input"
    if file is not None:
        what = f"--input-file {file}"
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise Refused(f"{what} can't be read: {reason}") from exc
    if text is None:
        return []
    try:
        return [json.loads(text)]
    except json.JSONDecodeError as exc:
        raise Refused(f"{what} is not JSON: {exc.msg} at line {exc.lineno} column {exc.colno}") from exc
    except RecursionError as exc:
        raise Refused(f"{what} is nested too deeply") from exc
