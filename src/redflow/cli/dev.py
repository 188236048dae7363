"""`redflow dev`: server and worker for development, with reload."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.embedding import keep_server, start_dev_server
from redflow.cli.exits import Refused
from redflow.cli.options import (
    App,
    Concurrency,
    DevUrl,
    Directory,
    GraceMs,
    LeaseMs,
    Level,
    LogLevel,
    Modules,
    Prefix,
    Queues,
    located,
    open_client,
    queue_list,
)
from redflow.cli.reload import DevSession
from redflow.cli.showing import Showing, shown
from redflow.cli.signals import StopSignals
from redflow.cli.wire import WorkerSettings


def dev(
    modules: Modules,
    app: App = None,
    directory: Directory = Path(".redflow"),
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the server. Default: 6379 if it is free, else any."),
    ] = None,
    url: DevUrl = None,
    prefix: Prefix = None,
    queues: Queues = None,
    concurrency: Concurrency = 10,
    lease_ms: LeaseMs = 5000,
    grace_ms: GraceMs = 1000,
    log_level: Level = LogLevel.INFO,
    with_dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="Serve the dashboard beside it, on this machine only.")
    ] = True,
    dashboard_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the dashboard. Default: 7433 if it is free, else any."),
    ] = None,
) -> int:
    """Run the workflows of MODULE with a server of its own, and again whenever their source changes.

    Runs that are interrupted by a reload go on in the new worker, their finished steps kept. The data stays for
    the next start. Ctrl-C ends everything.

    Exit codes: 0 ended by a signal, 2 can't start (no such module, no workflow, no server, a bad option).
    """
    if url is not None and port is not None:
        raise Refused("--port is for the server that dev starts; with --url it starts none")
    names, app_name = located(modules, app)
    open_client(url, prefix, app_name)  # a bad URL is refused here, before anything is started
    settings = WorkerSettings(
        modules=names,
        app=app_name,
        url=url,
        prefix=prefix,
        queues=queue_list(queues),
        concurrency=concurrency,
        lease_ms=lease_ms,
        grace_ms=grace_ms,
        log_level=log_level.value,
    )
    # A server that somebody else runs may hold more than this session's runs: it is only looked at.
    showing = Showing(port=dashboard_port, actions=url is None) if with_dashboard else None
    return asyncio.run(_develop(settings, directory, port, showing))


async def _develop(settings: WorkerSettings, directory: Path, port: int | None, showing: Showing | None) -> int:
    signals = StopSignals()
    if settings.url is not None:
        async with _dashboard(settings, showing) as where:
            output.dev_started(None, settings.prefix, where)
            return await DevSession(settings, signals).run()
    server = await start_dev_server(directory, port, signals)
    if server is None:
        return exits.OK
    async with server:
        own = replace(settings, url=server.unix_url)
        async with _dashboard(own, showing) as where:
            output.dev_started(server.url, settings.prefix, where)
            keeping = asyncio.create_task(keep_server(server), name="redflow-keep-server")
            try:
                return await DevSession(own, signals).run()
            finally:
                keeping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await keeping


@asynccontextmanager
async def _dashboard(settings: WorkerSettings, showing: Showing | None) -> AsyncIterator[str | None]:
    """Serve the dashboard meanwhile; its URL, or None if it is not wanted."""
    if showing is None:
        yield None
        return
    client = open_client(settings.url, settings.prefix, settings.app)
    try:
        async with shown(client, showing) as url:
            yield url
    finally:
        await client.close()
