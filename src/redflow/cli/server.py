"""`redflow server`: the bundled server in the foreground."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.exits import Refused, refusals
from redflow.cli.options import Directory
from redflow.cli.signals import StopSignals
from redflow.engines.redis.embedded import EmbeddedServer


def server(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 to listen on.")] = 6379,
    directory: Directory = Path(".redflow"),
) -> int:
    """Run the bundled server until Ctrl-C; its data stays for the next start.

    Exit codes: 0 ended by a signal, 2 can't start (the port is taken, another server has the data).
    """
    return asyncio.run(_serve(directory, port))


async def _serve(directory: Path, port: int) -> int:
    signals = StopSignals()
    with refusals():
        embedded = EmbeddedServer(directory, port=port)
        embedded.start()
    try:
        if not embedded.owner:
            raise Refused(f"a server for {embedded.directory} runs already, at {embedded.url}")
        output.server_ready(embedded.url, embedded.unix_url, embedded.directory)
        await signals.first.wait()
    finally:
        embedded.stop()
    return exits.OK
