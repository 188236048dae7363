"""A dashboard beside a command, while the command lasts.

What it needs is imported when one is wanted, so that other commands don't wait for a web server's code.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redflow.cli.exits import Refused, refusals
from redflow.client import RedflowClient


@dataclass(frozen=True, slots=True)
class Showing:
    """How a dashboard is served; see `redflow.dashboard.serving.Serving`."""

    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None
    actions: bool = False
    hosts: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()


@asynccontextmanager
async def shown(client: RedflowClient, how: Showing) -> AsyncIterator[str]:
    """Serve the dashboard of a client meanwhile; its URL.

    Raises:
        Refused: others could see it, or the port is taken.
    """
    await asyncio.to_thread(importlib.import_module, "redflow.dashboard.serving")  # signals are heard meanwhile
    from redflow.dashboard.serving import DashboardServer, NotServed, Serving

    serving = Serving(how.host, how.port, how.token, how.actions, how.hosts, how.mask)
    try:
        with refusals():
            server = DashboardServer(client, serving)
    except NotServed as exc:
        raise Refused(str(exc)) from exc
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()
