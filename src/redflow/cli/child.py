"""A worker process: `python -m redflow.cli.child <fd of the socket to its command>`; see `wire` for what is said there.

It is ended by an order, by SIGTERM or SIGINT (which mean "stop"; a service manager may send them to every process),
or by the end of the socket: then the command is gone, and nobody would watch or end this process. Orders are read by
a thread, so that a handler that blocks the event loop, or an import that takes long, can't keep them away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from redflow import config
from redflow._collector import spare_collector
from redflow.cli import exits
from redflow.cli.exits import one_line
from redflow.cli.modules import import_modules, source_directories
from redflow.cli.wire import Loaded, NotStarted, Order, Ready, Report, WorkerSettings, report_to_json
from redflow.errors import RedflowError
from redflow.registry import get_default_registry
from redflow.worker import StartWorkerOptions, WorkerHandle, start_worker

_LOOK_S: Final = 0.5
"""How often the worker is asked whether all its threads hang, seconds."""

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s[%(process)d] %(message)s"

_LAST_S: Final = 5.0
"""How long the end may take beyond the grace periods when nobody is there to end this process, seconds."""


class Command:
    """The command that started this process: gives orders and takes reports."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines = channel.makefile("r", encoding="utf-8")
        # Reentrant: a signal handler may interrupt whoever holds it.
        self._lock = threading.RLock()
        self._obey: Callable[[Order], None] | None = None
        self.settings = WorkerSettings.from_json(self._lines.readline())
        self.patience_s = 2 * self.settings.grace_ms / 1000 + _LAST_S
        threading.Thread(target=self._listen, name="redflow-orders", daemon=True).start()

    def obey(self, handler: Callable[[Order], None]) -> None:
        """From now on orders go to `handler`, which is called in any thread.

        Until then every order ends the process: there is nothing yet that could be lost.
        """
        with self._lock:
            self._obey = handler

    def order(self, order: Order) -> None:
        """Have an order carried out."""
        with self._lock:
            if self._obey is None:
                os._exit(exits.OK)
            self._obey(order)

    def tell(self, report: Report) -> None:
        """Send a report. It is lost when the command is gone; `_listen` sees that too and ends the process."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.sendall(f"{report_to_json(report)}\n".encode())

    def _listen(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            for line in self._lines:
                self.order("now" if line.strip() == "now" else "stop")
        # Nobody is left who would end this process if its own end never came.
        end_in_any_case(self.patience_s, exits.OK)
        self.order("stop")


class Orders:
    """The orders that came so far, as events of the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()
        self.now = asyncio.Event()

    def take(self, order: Order) -> None:
        """Note an order; may be called from any thread and from a signal handler."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._note, order)

    def _note(self, order: Order) -> None:
        self.stop.set()
        if order == "now":
            self.now.set()


def main() -> None:
    """Import the modules, run a worker until it is told to stop, and exit with a code of `exits`."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)  # what a step starts must not keep the socket open
    command = Command(channel)

    def on_signal(number: int, frame: FrameType | None) -> None:
        command.order("stop")

    for number in _STOP_SIGNALS:
        signal.signal(number, on_signal)
    # The command started this process with them held back: one that came during the start counts now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    settings = command.settings
    logging.basicConfig(level=settings.log_level.upper(), format=_LOG_FORMAT)
    config.say_in_environment(url=settings.url, prefix=settings.prefix, app=settings.app)
    obstacle = _load(command)
    if obstacle is not None:
        command.tell(obstacle)
        sys.exit(exits.REFUSED)
    spare_collector()
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        code = runner.run(_serve(command))
    sys.exit(code)


def _load(command: Command) -> NotStarted | None:
    modules = command.settings.modules
    obstacle = import_modules(modules)
    command.tell(Loaded(source_directories(modules)))
    if obstacle is None and not get_default_registry().list():
        names = " and ".join(module.name for module in modules)
        verb = "defines" if len(modules) == 1 else "define"
        return NotStarted("no_workflows", f"{names} {verb} no workflow (@workflow or define_workflow)")
    return obstacle


async def _serve(command: Command) -> int:
    """A worker from its start to its end; returns the process's exit code."""
    orders = Orders()
    command.obey(orders.take)
    started = await _start(command, orders)
    if not isinstance(started, WorkerHandle):
        return started
    ready = Ready(started.client.connection.address, _workflow_names(), started.queues)
    command.tell(ready)
    code = await _until_the_end(started, orders)
    if code == exits.WORKER_HANGS:
        end_in_any_case(command.patience_s, code)
    await _stop(started, orders)
    return code


async def _start(command: Command, orders: Orders) -> WorkerHandle | int:
    """The worker, or the exit code if there is none."""
    settings = command.settings
    options = StartWorkerOptions(
        app=settings.app,
        url=settings.url,
        prefix=settings.prefix,
        queues=settings.queues,
        concurrency=settings.concurrency,
        lease_ms=settings.lease_ms,
        grace_ms=settings.grace_ms,
    )
    starting = asyncio.create_task(start_worker(options))
    stopping = asyncio.create_task(orders.stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    stopping.cancel()
    try:
        return await starting
    except asyncio.CancelledError:
        return exits.OK
    except ValueError as exc:
        command.tell(NotStarted("refused", one_line(exc)))
    except RedflowError as exc:
        command.tell(NotStarted("no_server", one_line(exc)))
    return exits.REFUSED


async def _until_the_end(worker: WorkerHandle, orders: Orders) -> int:
    """Wait for an order, or for the moment from which the worker can do nothing more; returns the exit code."""
    while not worker.exhausted:
        if worker.draining == "stop" and worker.drained:
            return exits.WORKER_DRAINED
        try:
            async with asyncio.timeout(_LOOK_S):
                await orders.stop.wait()
        except TimeoutError:
            continue
        return exits.OK
    return exits.WORKER_HANGS


async def _stop(worker: WorkerHandle, orders: Orders) -> None:
    """Let runs end within the grace period, or until the order "now"; hand back the rest."""
    draining = asyncio.create_task(worker.stop(drain=True))
    hurried = asyncio.create_task(orders.now.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    await worker.stop()
    await draining


def end_in_any_case(after_s: float, code: int) -> None:
    """End this process after so many seconds if it still lives then, whatever hangs in it."""

    def end() -> None:
        time.sleep(after_s)
        os._exit(code)

    threading.Thread(target=end, name="redflow-end", daemon=True).start()


def _workflow_names() -> list[str]:
    return [definition.name for definition in get_default_registry().list()]


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's event loop if the extra `fast` is installed; None means asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
