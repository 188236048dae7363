"""Makes a worker known, and mends the registry when it was reset or changed by somebody else."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Final

import orjson

from redflow.definitions import AnyWorkflow
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.definitions import QUIET_MS, Definitions
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import as_int, as_list
from redflow.engines.redis.runs import SERVER_TIME, RunScripts
from redflow.engines.redis.scripts import verb
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

REGISTER_WORKER = verb("register_worker", args="now, worker, alive_ms, app, info, drain", item="workflow")
UNREGISTER_WORKER = verb("unregister_worker", args="now, worker, quiet_ms", item="queue")

ALIVE_MS: Final = 30_000
"""How long a worker that says nothing counts as alive, ms, unless its lease is longer."""


class Registrar:
    """One worker's entry, and its app's workflows.

    Args:
        scripts: of the prefix.
        definitions: metadata of workflows.
        clock: told the server's time.
        worker: id of this worker.
        app: its app.
        queues: scoped queues it serves.
        concurrency: its slots; for people who look.
        workflows: the registry's present content.
        elsewhere: scripts and clock of the further shards on which these live.
        carry_on: cancels the children of canceled runs.
        alive_ms: how long it counts as alive after a heartbeat.
        drain: what the worker was told to do in the end, if it is to claim nothing more; "" while it claims.
    """

    def __init__(
        self,
        *,
        scripts: RunScripts,
        definitions: Definitions,
        clock: ServerClock,
        worker: str,
        app: str,
        queues: Sequence[str],
        concurrency: int,
        workflows: Callable[[], Sequence[AnyWorkflow]],
        alive_ms: int,
        elsewhere: Callable[[], Sequence[tuple[RunScripts, ServerClock]]] = tuple,
        carry_on: Callable[[], Awaitable[None]] | None = None,
        drain: Callable[[], str] = str,
    ) -> None:
        self._scripts = scripts
        self._definitions = definitions
        self._clock = clock
        self._worker = worker
        self._app = app
        self._queues = queues
        self._concurrency = concurrency
        self._workflows = workflows
        self._alive_ms = alive_ms
        self._elsewhere = elsewhere
        self._carry_on = carry_on or scripts.carry_cancels_on
        self._drain = drain
        self._started_at: int | None = None
        self._told: set[str] = set()
        """The workflows that Redis was told this worker knows."""

    async def register(self) -> None:
        """Make this worker known, at home and where its workflows live."""
        names = [definition.name for definition in self._workflows()]
        places = [(self._scripts, self._clock), *self._elsewhere()]
        home, *others = await asyncio.gather(*(self.register_at(*place) for place in places), return_exceptions=True)
        if isinstance(home, BaseException):
            raise home
        for result in others:  # who can't be reached now is told by the claim that finds it unknown there
            if isinstance(result, BaseException):
                log.warning("worker %s could not be registered on a shard: %s", self._worker, result)
        if self._started_at is None:
            self._started_at = home
        self._told = set(names)

    async def register_at(self, scripts: RunScripts, clock: ServerClock) -> int:
        """Make this worker known on one shard; the server's time."""
        info = {
            "queues": list(self._queues),
            "concurrency": self._concurrency,
            "host": platform.node(),
            "pid": os.getpid(),
            "version": version("redflow"),
            "alive_ms": self._alive_ms,
        }
        names = [definition.name for definition in self._workflows()]
        args: list[Argument] = [SERVER_TIME, self._worker, self._alive_ms, self._app, orjson.dumps(info)]
        args += [self._drain(), *names]
        now, _epoch = as_list(await scripts.connection.call(REGISTER_WORKER, scripts.keys.base, args))
        clock.observe(as_int(now))
        return as_int(now)

    async def sync(self) -> None:
        """Write the metadata of the registry's workflows."""
        await self._definitions.sync(self._workflows(), self._app, self._started_at)

    async def unregister(self) -> None:
        """Say goodbye."""
        args: list[Argument] = [SERVER_TIME, self._worker, QUIET_MS, *self._queues]
        for scripts in (self._scripts, *(scripts for scripts, _ in self._elsewhere())):
            await scripts.connection.call(UNREGISTER_WORKER, scripts.keys.base, args, patience_s=0.5)

    async def keep(self, every_s: float) -> None:
        """Look at each interval whether the metadata is still there, for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.mend()
            except (RedflowError, ValueError) as exc:
                log.warning("the registry could not be mended: %s", exc)

    async def mend(self) -> None:
        """Write the metadata again where it is missing or tells another queue or app, or the registry has changed."""
        workflows = list(self._workflows())
        unlike, cascade = await self._definitions.chores(workflows, self._app)
        if unlike or self._told != {definition.name for definition in workflows}:
            await self.register()
            await self.sync()
        if cascade:
            await self._carry_on()
