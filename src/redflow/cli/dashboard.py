"""`redflow dashboard`: runs in the browser."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from redflow import config
from redflow.cli import exits, output
from redflow.cli.options import Prefix, Url, open_client
from redflow.cli.showing import Showing, shown
from redflow.cli.signals import StopSignals
from redflow.client import RedflowClient


def dashboard(
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on. Default: 7433 if it is free, else any."),
    ] = None,
    allow_actions: Annotated[
        bool, typer.Option("--allow-actions", help="Let visitors cancel, retry, start, pause and drain.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(help="What visitors must know; better set REDFLOW_DASHBOARD_TOKEN, which `ps` doesn't show."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name under which it may be asked for; may be given again."),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Keys whose values are hidden in payloads; * hides payloads whole."),
    ] = None,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Show runs, workflows, events, schedules and workers in the browser, live. Read-only unless told otherwise.

    Exit codes: 0 ended by a signal, 2 can't start (the port is taken, an address without a token, a bad URL).
    """
    showing = Showing(
        host=host,
        port=port,
        token=config.dashboard_token(token),
        actions=allow_actions,
        hosts=tuple(allow_host or ()),
        mask=mask_keys(mask),
    )
    return asyncio.run(_serve(open_client(url, prefix), showing))


def mask_keys(text: str | None) -> tuple[str, ...]:
    """The keys in a comma-separated list."""
    return tuple(key.strip() for key in (text or "").split(",") if key.strip())


async def _serve(client: RedflowClient, showing: Showing) -> int:
    signals = StopSignals()
    try:
        async with shown(client, showing) as url:
            output.dashboard_ready(url, showing.actions)
            await signals.first.wait()
    finally:
        await client.close()
    return exits.OK
