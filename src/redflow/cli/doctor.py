"""`redflow doctor`: what the server would lose, and what should be put right."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.exits import refusals
from redflow.cli.options import Prefix, Url, open_client
from redflow.client import RedflowClient


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: losses, findings, unseen ...")
    ] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Say what would be lost if the server died now, and what should be put right about it.

    Exit codes: 0 nothing to warn of, 1 a problem or a warning, 2 no server.
    """
    return asyncio.run(_examine(open_client(url, prefix), as_json))


async def _examine(client: RedflowClient, as_json: bool) -> int:
    try:
        with refusals():
            report = await client.doctor()
    finally:
        await client.close()
    if as_json:
        output.json_line(dict(report))
    else:
        output.diagnosis(report)
    return exits.OK if report["healthy"] else exits.WARNED
