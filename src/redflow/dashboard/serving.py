"""Serves a dashboard by itself: on the loopback, or elsewhere behind a token."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import uvicorn

from redflow.client import RedflowClient
from redflow.dashboard.app import dashboard
from redflow.dashboard.guard import LOOPBACK, is_loopback

USUAL_PORT: Final = 7433
"""Where the dashboard is served when nothing else is said."""

LEAST_TOKEN: Final = 16


class NotServed(Exception):
    """The dashboard can't be served so; one line says why."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a dashboard is served.

    Attributes:
        host: address to listen on.
        port: of it; None means the usual one if it is free, else any.
        token: what visitors must know; needed unless only this machine can ask.
        actions: whether anything may be changed.
        hosts: further names under which it may be asked for.
        mask: keys whose values are hidden.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None
    actions: bool = False
    hosts: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()


def check_serving(serving: Serving) -> None:
    """Judge how a dashboard is to be served.

    Raises:
        NotServed: everybody who reaches the machine could see it; or the token is too short.
    """
    if serving.token is not None and len(serving.token) < LEAST_TOKEN:
        raise NotServed(f"the token must have {LEAST_TOKEN} characters or more, got {len(serving.token)}")
    if not is_loopback(serving.host) and serving.token is None:
        raise NotServed(
            f"refusing to listen on {serving.host} without a token: everybody who reaches this machine could see your "
            "runs; set REDFLOW_DASHBOARD_TOKEN, or listen on 127.0.0.1"
        )


class DashboardServer:
    """A dashboard on a port of this machine, in the running event loop.

    Args:
        client: of the prefix that is shown; it is not closed.
        serving: how it is served.
    """

    def __init__(self, client: RedflowClient, serving: Serving) -> None:
        check_serving(serving)
        self._serving = serving
        self._socket = _listen(serving)
        app = dashboard(
            client,
            enable_actions=serving.actions,
            token=serving.token,
            allowed_hosts=_hosts(serving),
            mask=serving.mask,
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser of this machine finds it."""
        host, port = self._socket.getsockname()[:2]
        shown = (
            "127.0.0.1"
            if host in ("0.0.0.0", "")
            else "[::1]"
            if host == "::"
            else f"[{host}]"
            if ":" in host
            else host
        )
        return f"http://{shown}:{port}/"

    async def start(self) -> None:
        """Serve, until `stop`."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="redflow-dashboard")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """End it; open streams are cut off."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


class _Server(uvicorn.Server):
    """Signals belong to the command that serves, and whoever waits for the start is told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets=sockets)
        self.ready.set()


def _hosts(serving: Serving) -> Iterable[str] | None:
    """Names under which it may be asked for: on the loopback those of this machine, against DNS rebinding."""
    if is_loopback(serving.host):
        return (*LOOPBACK, serving.host, *serving.hosts)
    return serving.hosts or None


def _listen(serving: Serving) -> socket.socket:
    ports = [serving.port] if serving.port is not None else [USUAL_PORT, 0]
    trouble: OSError | None = None
    for port in ports:
        family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
        # The protocol is named because asyncio looks at it before it turns Nagle off: else each page takes 40 ms more.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((serving.host, port))
        except OSError as exc:
            made.close()
            trouble = exc
            continue
        return made
    raise NotServed(f"can't listen on {serving.host}:{serving.port or USUAL_PORT}: {trouble}") from trouble
