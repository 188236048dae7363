"""The bundled server for `dev` and `server`: its port, its start that a signal may interrupt, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Final

from redflow.cli import output
from redflow.cli.exits import Refused, one_line
from redflow.cli.signals import StopSignals
from redflow.engines.redis.embedded import EmbeddedServer, EmbeddedServerError
from redflow.engines.redis.embedded_directory import owner_alive, read_record

_USUAL_PORT: Final = 6379
_TRIES: Final = 3
_LOOK_S: Final = 1.0
"""How often a session that shares another process's server looks whether it is still there, seconds."""


async def start_server(directory: Path, port: int, signals: StopSignals) -> EmbeddedServer | None:
    """A server of this process; None when a signal came before it had started.

    Raises:
        Refused: it can't be started, or another process runs one for this directory.
    """
    try:
        server = EmbeddedServer(directory, port=port)
        if not await _start(server, signals):
            return None
    except (EmbeddedServerError, ValueError) as exc:
        raise Refused(one_line(exc)) from exc
    if not server.owner:
        raise Refused(f"a server for {server.directory} runs already, at {server.url}")
    return server


async def start_dev_server(directory: Path, port: int | None, signals: StopSignals) -> EmbeddedServer | None:
    """The server of a `dev` session; None when a signal came before it had started.

    Args:
        directory: its data; if a server runs there already, for example that of another session, it is that one.
        port: to listen on; None means the usual one if it is free, else any.
        signals: the first one interrupts the start.

    Raises:
        Refused: it can't be started.
    """
    tries_left = _TRIES
    while True:
        chosen = port or _choose_port(directory)
        try:
            server = EmbeddedServer(directory, port=chosen)
            return server if await _start(server, signals) else None
        except (EmbeddedServerError, ValueError) as exc:
            tries_left -= 1
            overtaken = _runs(directory) or (chosen is not None and not _is_free(chosen))
            if port is not None or not overtaken or not tries_left:
                raise Refused(one_line(exc)) from exc


async def keep_server(server: EmbeddedServer) -> None:
    """If the server belongs to another process, take it over when that has gone; runs until it is cancelled."""
    while not server.owner:
        await asyncio.sleep(_LOOK_S)
        if await asyncio.to_thread(server.answers):
            continue
        try:
            await asyncio.to_thread(server.start)
        except EmbeddedServerError as exc:
            output.notice(one_line(exc), "red", err=True)


async def _start(server: EmbeddedServer, signals: StopSignals) -> bool:
    """Whether it was started before a signal came."""
    starting = asyncio.create_task(server.__aenter__())
    interrupted = asyncio.create_task(signals.first.wait())
    await asyncio.wait({starting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    if not starting.done():
        starting.cancel()  # which also ends it, should it still start
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


def _choose_port(directory: Path) -> int | None:
    """A port that is free now; where a server runs already its port, which may be None."""
    if _runs(directory):
        record = read_record(directory)
        if record is not None:
            return record.port
    if _is_free(_USUAL_PORT):
        return _USUAL_PORT
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _runs(directory: Path) -> bool:
    """Whether some process runs a server for this directory."""
    return directory.is_dir() and owner_alive(directory)


def _is_free(port: int) -> bool:
    """Whether a server could listen on a port of this machine, and none does under another of its addresses."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as probe:  # no IPv6: nobody listens there
            probe.settimeout(1.0)
            if probe.connect_ex((host, port)) == 0:
                return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
