"""`redflow runs`: look at runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.exits import Refused, refusals
from redflow.cli.options import Prefix, Url, open_client
from redflow.client import RedflowClient


def explain(
    run_id: Annotated[
        str, typer.Argument(metavar="ID", help="The run, as `redflow run` printed it.", show_default=False)
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: reason, status, waits_for ...")
    ] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Say in one sentence why a run is where it is: what it waits for, until when, and who is in its way.

    Exit codes: 0 explained, 2 no server, or no run of that id.
    """
    return asyncio.run(_explain(open_client(url, prefix), run_id, as_json))


async def _explain(client: RedflowClient, run_id: str, as_json: bool) -> int:
    try:
        with refusals():
            explanation = await client.explain_run(run_id)
    finally:
        await client.close()
    if explanation is None:
        raise Refused(f"there is no run {run_id}")
    if as_json:
        output.json_line(dict(explanation))
    else:
        output.line(f"{explanation['workflow']}, {explanation['status']}: {explanation['reason']}")
    return exits.OK
