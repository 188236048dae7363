"""`redflow worker`: worker processes for production."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from redflow.cli import output
from redflow.cli.options import (
    App,
    Concurrency,
    GraceMs,
    LeaseMs,
    Level,
    LogLevel,
    Modules,
    Prefix,
    Queues,
    Url,
    located,
    open_client,
    queue_list,
)
from redflow.cli.supervisor import Supervisor
from redflow.cli.wire import WorkerSettings


def worker(
    modules: Modules,
    app: App = None,
    concurrency: Concurrency = 10,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes; one that dies is replaced.")] = 1,
    queues: Queues = None,
    url: Url = None,
    prefix: Prefix = None,
    lease_ms: LeaseMs = 5000,
    grace_ms: GraceMs = 10_000,
    log_level: Level = LogLevel.INFO,
) -> int:
    """Run the workflows of MODULE, until SIGTERM or Ctrl-C.

    Then it claims nothing more, gives its runs the grace period to end, and hands back the rest, which go on
    elsewhere. A second signal hands them back at once.

    Exit codes: 0 ended by a signal or drained, 2 can't start (no server, no such module, no workflow, a bad option),
    70 all threads of a process hang: start it again.
    """
    names, app_name = located(modules, app)
    open_client(url, prefix, app_name)  # a bad URL is refused here, before any process is started
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
    return asyncio.run(_supervise(settings, processes))


async def _supervise(settings: WorkerSettings, processes: int) -> int:
    return await Supervisor(settings, processes, output.WorkerLines()).run()
