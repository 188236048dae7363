"""`redflow server`: the bundled server in the foreground."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.embedding import start_server
from redflow.cli.options import Directory
from redflow.cli.signals import StopSignals


def server(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 to listen on.")] = 6379,
    directory: Directory = Path(".redflow"),
) -> int:
    """Run the bundled server until Ctrl-C; its data stays for the next start.

    Exit codes: 0 ended by a signal, 2 can't start (the port is taken, another process runs it on this data).
    """
    return asyncio.run(_serve(directory, port))


async def _serve(directory: Path, port: int) -> int:
    signals = StopSignals()
    embedded = await start_server(directory, port, signals)
    if embedded is not None:
        async with embedded:
            output.server_ready(embedded)
            await signals.first.wait()
    return exits.OK
