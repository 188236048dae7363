"""R7Worker: serves the flows and activities of a package."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from r7kit import config
from r7kit.config import Settings
from r7kit.discovery import Contents, discover, discovering
from r7kit.logging import setup_if_unset
from r7kit.runtime import FlowServer, WorkAbandonedError, WorkerPlan
from r7kit.runtimes import engine_module
from redflow.domain.names import check_name

log = logging.getLogger("r7kit")

GRACE_S: Final = 10.0
"""For how long what runs may go on after SIGTERM, seconds."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class R7Worker:
    """A worker of one queue: imports a package and serves its @taskflow classes and activities.

    On Temporal it also serves plain workflows and activities of temporalio that are defined there. Plain functions run
    in a pool of threads.

    Args:
        package: dotted name of a package or module; it is imported, with all its submodules, when the worker starts.
        queue: it takes work from.
        redis_url: Redis of the task records; None: as configured.
        temporal_address: host:port; None: as configured.
        engine: `temporal` or `redflow`; None: as configured.
        concurrency: flows and activities at a time, 1 or more; None: the engine's default.

    Raises:
        TypeError, ValueError: an argument is none of its kind; the message names it.

    Example:
        >>> R7Worker("myapp", queue="producer-queue").start()
    """

    def __init__(
        self,
        package: str,
        *,
        queue: str = "default",
        redis_url: str | None = None,
        temporal_address: str | None = None,
        engine: str | None = None,
        concurrency: int | None = None,
    ) -> None:
        self.package = check_name(package, what="package")
        self.queue = check_name(queue, what="queue")
        if concurrency is not None and (
            isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
        ):
            raise ValueError(f"concurrency must be a whole number of 1 or more, got {concurrency!r}")
        self.concurrency = concurrency
        self._given = config.checked(redis_url=redis_url, temporal_address=temporal_address, engine=engine)
        self._stop: asyncio.Event | None = None
        self._owns_process = False

    def start(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what runs within the grace period and return.

        The process then ends with code 0. In a module that the worker itself imports it does nothing, so that a package
        may contain the program that serves it.

        Raises:
            ImportError: the package, or the engine's extra, can't be imported.
            TemporalNotConnected: Temporal can't be reached.
        """
        if discovering():
            log.debug("not started: %s is being imported for a worker", self.package)
            return
        self._owns_process = True
        asyncio.run(self.run())

    async def run(self) -> None:
        """Serve inside a running event loop; see `start`. Signals are handled in the main thread only.

        Raises:
            WorkAbandonedError: it was stopped, and something that runs neither ends nor can be canceled. (`start` ends
                the process then.)
        """
        setup_if_unset()
        settings = config.current(self._given)
        server = engine_module(settings.engine).open_server(settings)
        contents = discover(self.package)
        plan = WorkerPlan(
            queue=self.queue,
            flows=contents.flows,
            activities=contents.activities,
            members=contents.members,
            concurrency=self.concurrency,
            grace_s=GRACE_S,
        )
        self._announce(server, plan, contents, settings)
        self._stop = stop = asyncio.Event()
        with _stopped_by_signals(asyncio.get_running_loop(), self._signalled):
            try:
                await server.serve(plan, stop, self._ready)
            except WorkAbandonedError as error:
                log.warning("worker of queue %r: %s; another worker will take it over", self.queue, error)
                if not self._owns_process:
                    raise
                # What hangs would keep the event loop from being closed, and so the process from ending.
                logging.shutdown()
                sys.stdout.flush()
                os._exit(0)
        log.info("worker of queue %r stopped", self.queue)

    def stop(self) -> None:
        """Stop taking work, finish what runs, and let `run` return. To be called in the worker's event loop."""
        if self._stop is not None:
            self._stop.set()

    def _ready(self) -> None:
        log.info("worker of queue %r takes work", self.queue)

    def _signalled(self, name: str) -> None:
        log.info("%s: finishing what runs, for %g s at most", name, GRACE_S)
        self.stop()

    def _announce(self, server: FlowServer, plan: WorkerPlan, contents: Contents, settings: Settings) -> None:
        names = server.describe(plan)
        where = f"queue {self.queue!r} of {self.package} on {settings.engine}"
        if names:
            log.info("worker of %s serves %s", where, ", ".join(names))
        else:
            log.warning("worker of %s serves nothing: the package has no @taskflow class and no activity", where)
        for flow in contents.flows:
            if flow.default_queue != self.queue:
                log.warning(
                    "%s is started on queue %r unless its starter says otherwise; this worker serves queue %r",
                    flow.name,
                    flow.default_queue,
                    self.queue,
                )


@contextmanager
def _stopped_by_signals(loop: asyncio.AbstractEventLoop, heard: Callable[[str], None]) -> Iterator[None]:
    """Have signals tell the loop, and put back what was there; outside of the main thread there is nothing to do."""

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(heard, signal.Signals(number).name)

    before: dict[signal.Signals, object] = {}
    try:
        for one in _SIGNALS:
            before[one] = signal.signal(one, handle)
    except ValueError:  # not the main thread: whoever embeds the worker there calls stop()
        log.debug("signals are not handled outside of the main thread")
    try:
        yield
    finally:
        for one, handler in before.items():
            if callable(handler) or isinstance(handler, int):
                signal.signal(one, handler)
        sys.stderr.flush()
