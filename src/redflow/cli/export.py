"""`redflow runs export`: whole runs as JSON lines."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TextIO

import typer

from redflow.cli import exits, output
from redflow.cli.asking import (
    After,
    Before,
    WithError,
    WithParent,
    WithQueue,
    WithStatus,
    WithText,
    WithWorkflow,
    ask,
    filters,
)
from redflow.cli.exits import Refused, refusals
from redflow.cli.options import Prefix, Url
from redflow.client import RedflowClient
from redflow.types import SearchRunsParams


def export(
    status: WithStatus = None,
    workflow: WithWorkflow = None,
    queue: WithQueue = None,
    error: WithError = None,
    parent: WithParent = None,
    query: WithText = None,
    after: After = None,
    before: Before = None,
    file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write there. Default: the standard output.")
    ] = None,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Write whole runs as JSON, one a line, oldest first: state, input, output, steps and attempts.

    Exit codes: 0 written, 2 no server, or the file can't be written.
    """
    params = filters(
        status=status,
        workflow=workflow,
        queue=queue,
        error=error,
        parent=parent,
        query=query,
        after=after,
        before=before,
    )
    return ask(url, prefix, lambda client: _export(client, replace(params, sort="asc"), file))


async def _export(client: RedflowClient, params: SearchRunsParams, file: Path | None) -> int:
    count = 0
    with _opened(file) as target, refusals():
        async for run in client.operate.export_runs(params):
            target.write(json.dumps(run) + "\n")  # pure ASCII: nothing that a terminal obeys
            count += 1
        target.flush()
    if file is not None:
        output.notice(f"{count:,} runs written to {file}", err=True)
    return exits.OK


@contextlib.contextmanager
def _opened(file: Path | None) -> Iterator[TextIO]:
    if file is None:
        yield sys.stdout
        return
    try:
        with file.open("w", encoding="utf-8") as target:
            yield target
    except OSError as exc:
        raise Refused(f"--output {file} can't be written: {exc.strerror}") from exc
