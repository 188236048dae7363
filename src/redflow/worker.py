"""The worker: claims runs and executes them. This is where its parts are put together."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from redflow import telemetry
from redflow.client import checked_app, create_client
from redflow.domain.names import scope_queue
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.engine import RedisEngine
from redflow.engines.redis.executor import Executor
from redflow.engines.redis.journal import JournalWriter
from redflow.engines.redis.loops.claimer import Claimer
from redflow.engines.redis.loops.cleaner import clean_up
from redflow.engines.redis.loops.cron import fire_crons
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.loops.fanout import carry_on_fan_outs
from redflow.engines.redis.loops.leases import LeaseKeeper
from redflow.engines.redis.loops.promoter import promote_due_runs
from redflow.engines.redis.loops.reaper import recover_dead_runs
from redflow.engines.redis.loops.registrar import ALIVE_MS, Registrar
from redflow.engines.redis.loops.watchdog import watch_claimer
from redflow.engines.redis.signals import Signals
from redflow.engines.redis.sources import AnyRedis
from redflow.errors import RedflowError
from redflow.execution.threads import ThreadPool
from redflow.registry import WorkflowRegistry, get_default_registry

log = logging.getLogger("redflow")

_RESTART_PAUSE_S: Final = 1.0


@dataclass
class StartWorkerOptions:
    """How a worker runs. Values out of range are moved into it.

    Attributes:
        app: name of the application; queues are scoped by it.
        redis: a redis-py asyncio client; not closed by `stop()`. Several workers may share one.
        url: of the server, if no `redis` is given; None means REDIS_URL, else redis://localhost:6379.
        prefix: of all keys; None means REDFLOW_PREFIX, else "redflow:v1".
        registry: the workflows it can run; None is the default registry.
        queues: the queues it serves; None means all queues of its workflows, [] none.
        concurrency: runs at a time, at least 1.
        lease_ms: how long a run stays this worker's after its last sign of life, ms, at least 100.
        blmove_timeout_sec: the longest wait for a bell, seconds, at least 1.
        reaper_interval_ms: how late a dead worker's runs may be recovered, ms.
        reaper_batch_size: runs recovered in one call.
        watchdog_enabled: whether a claimer that fell asleep is restarted.
        watchdog_interval_ms: how often that is looked at, ms, at least 250.
        watchdog_stalled_for_ms: after how long without progress, ms, at least twice the interval.
        run_history_cleanup_interval_ms: how often expired runs are removed, ms, at least 1000.
        registry_recovery_interval_ms: how often lost metadata is looked for, ms, at least 250.
        grace_ms: how long running handlers get to unwind at `stop()`, ms.
        loop_stall_limit_ms: for how long a handler may block the event loop before its leases are let go, ms.
    """

    app: str
    redis: AnyRedis | None = None
    url: str | None = None
    prefix: str | None = None
    registry: WorkflowRegistry | None = None
    queues: list[str] | None = None
    concurrency: int = 1
    lease_ms: int = 5000
    blmove_timeout_sec: float = 1
    reaper_interval_ms: int = 500
    reaper_batch_size: int = 100
    watchdog_enabled: bool = True
    watchdog_interval_ms: int = 1000
    watchdog_stalled_for_ms: int = 15000
    run_history_cleanup_interval_ms: int = 60000
    registry_recovery_interval_ms: int = 5000
    grace_ms: int = 1000
    loop_stall_limit_ms: int = 60000


async def start_worker(options: StartWorkerOptions) -> WorkerHandle:
    """Start a worker in this process; it runs until `stop()`.

    Returns:
        Its handle, once the workflows are registered and the worker claims.

    Raises:
        ValueError: a blank app, or a definition that can't be registered.
        ConnectionError, ServerTooOldError: the server can't be used.

    Example:
        >>> worker = await start_worker(StartWorkerOptions(app="shop", concurrency=10))
        >>> await worker.stop()
    """
    if not isinstance(options.app, str) or not options.app.strip():
        raise ValueError("start_worker requires a non-empty options.app")
    worker = WorkerHandle(options, checked_app(options.app, "start_worker"))
    try:
        await worker._start()
    except BaseException:
        await worker._tear_down()
        raise
    return worker


class WorkerHandle:
    """A running worker.

    Attributes:
        id: name of this worker among all.
        queues: scoped names of the queues it serves.
        client: the client it works with.
    """

    def __init__(self, options: StartWorkerOptions, app: str) -> None:
        self.id = secrets.token_hex(5)
        self._options = options
        self._owns_redis = options.redis is None
        self.client = create_client(app=app, redis=options.redis, url=options.url, prefix=options.prefix)
        engine = self.client.engine
        assert isinstance(engine, RedisEngine)
        self._engine = engine
        self._registry = get_default_registry() if options.registry is None else options.registry
        self._app = app
        self.queues = self._queue_names()
        self._clock = ServerClock()
        self._concurrency = _at_least(options.concurrency, 1, 1)
        self._lease_ms = _at_least(options.lease_ms, 100, 5000)
        self._threads = ThreadPool(self._concurrency)
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._stopping: asyncio.Future[None] | None = None
        self._hurry = asyncio.Event()
        self._build(engine)

    def _queue_names(self) -> list[str]:
        given = self._options.queues
        names = [d.options.queue for d in self._registry.list()] if given is None else given
        return list(dict.fromkeys(scope_queue(name, self._app) for name in names))

    def _build(self, engine: RedisEngine) -> None:
        options, clock = self._options, self._clock
        check_s = _at_least(options.blmove_timeout_sec, 1.0, 1.0)
        knowledge_s = min(check_s, max(self._lease_ms, options.reaper_interval_ms) / 1000)
        self._due = Deadline(clock, 60.0)
        self._fanouts = Deadline(clock, 30.0)
        self._ticks = Deadline(clock, 30.0)
        self._lease = Deadline(clock, max(self._lease_ms, options.reaper_interval_ms) / 1000)
        self._writer = JournalWriter(
            engine.scripts,
            engine.events,
            clock,
            self.id,
            self.queues,
            lambda run_id, why: self._executor.interrupt(run_id, why),
            lambda: self._claimer.wants_idle_mark(),
            self._settling,
            self._settled,
        )
        self._executor = Executor(
            self._writer, self._registry.get, self._threads, self._slot_freed, lambda: self._registrar.register()
        )
        self._registrar = Registrar(
            scripts=engine.scripts,
            definitions=engine.definitions,
            clock=clock,
            worker=self.id,
            app=self._app,
            queues=self.queues,
            concurrency=self._concurrency,
            workflows=self._registry.list,
            alive_ms=max(ALIVE_MS, 3 * self._lease_ms),
        )
        self._claimer = Claimer(
            scripts=engine.scripts,
            worker=self.id,
            queues=self.queues,
            executor=self._executor,
            threads=self._threads,
            clock=clock,
            due=self._due,
            lease=self._lease,
            concurrency=self._concurrency,
            lease_ms=self._lease_ms,
            check_s=knowledge_s,
            register=self._registrar.register,
        )
        self._signals = Signals(
            engine.connection,
            [engine.keys.worker_channel(self.id), engine.keys.timers_channel],
            self._heard,
            self._claimer.ring,
        )

    async def _start(self) -> None:
        if not self.queues:
            log.warning("worker %s serves no queue: it claims nothing", self.id)
        await self._registrar.register()
        await self._registrar.sync()
        await self._signals.open()
        self._leases = LeaseKeeper(
            scripts=self._engine.scripts,
            worker=self.id,
            executor=self._executor,
            lease_ms=self._lease_ms,
            alive_ms=max(ALIVE_MS, 3 * self._lease_ms),
            loop_stall_limit_s=max(1.0, self._options.loop_stall_limit_ms / 1000),
            on_unregistered=self._register_again,
        )
        self._leases.start()
        self._spawn_loops()
        telemetry.emit(
            telemetry.WORKER_STARTED,
            worker=self.id,
            app=self._app,
            queues=self.queues,
            concurrency=self._concurrency,
        )

    def _spawn_loops(self) -> None:
        options, scripts = self._options, self._engine.scripts
        self._spawn("claimer", self._claimer.run)
        self._spawn("promoter", lambda: promote_due_runs(scripts, self._clock, self._due))
        batch = min(200, _at_least(options.reaper_batch_size, 1, 100))
        self._spawn("reaper", lambda: recover_dead_runs(scripts, self._clock, self._lease, batch, self._lease_ms))
        cleanup_s = _at_least(options.run_history_cleanup_interval_ms, 1000, 60_000) / 1000
        self._spawn("cleaner", lambda: clean_up(scripts, self._engine.events, cleanup_s))
        recovery_s = _at_least(options.registry_recovery_interval_ms, 250, 5000) / 1000
        self._spawn("fanout", lambda: carry_on_fan_outs(self._engine.events, self._clock, self._fanouts))
        self._spawn("cron", lambda: fire_crons(self._engine.crons, self._clock, self._ticks))
        self._spawn("registrar", lambda: self._registrar.keep(recovery_s))
        if options.watchdog_enabled:
            every_ms = _at_least(options.watchdog_interval_ms, 250, 1000)
            stalled_s = _at_least(options.watchdog_stalled_for_ms, 2 * every_ms, 15_000) / 1000
            self._spawn(
                "watchdog",
                lambda: watch_claimer(
                    scripts, self._executor, self.queues, self._restart_claimer, every_ms / 1000, stalled_s
                ),
            )

    def _spawn(self, name: str, duty: Callable[[], Coroutine[object, object, None]]) -> None:
        self._loops[name] = asyncio.get_running_loop().create_task(self._keep_on(name, duty), name=f"redflow-{name}")

    async def _keep_on(self, name: str, duty: Callable[[], Coroutine[object, object, None]]) -> None:
        """A duty that breaks is logged and begins anew: a worker never goes on without one of them."""
        while True:
            try:
                await duty()
                return
            except Exception:
                log.exception("the %s of worker %s broke; it starts again", name, self.id)
                await asyncio.sleep(_RESTART_PAUSE_S)

    def _restart_claimer(self) -> None:
        self._loops["claimer"].cancel()
        self._claimer.ring()
        self._spawn("claimer", self._claimer.run)

    # -- what it hears ------------------------------------------------------------------------------------------

    def _heard(self, channel: str, message: bytes) -> None:
        if message == b"bell":
            self._claimer.ring()
        elif message.startswith(b"cancel "):
            self._executor.interrupt(message[7:].decode(), "canceled")
        elif message.startswith(b"timeout "):
            self._executor.interrupt(message[8:].decode(), "timed_out")
        elif message.startswith(b"wake "):
            self._executor.look_again(message[5:].decode())
        elif message.startswith(b"cron "):
            self._ticks.bring_forward(int(message[5:]))
        elif channel == self._engine.keys.timers_channel:
            self._due.bring_forward(int(message))

    def _settling(self, run_ids: list[str]) -> None:
        self._executor.outcomes_sent(run_ids)
        self._claimer.slots_leaving()

    def _settled(self, more: bool) -> None:
        self._claimer.settled(more)

    def _slot_freed(self) -> None:
        self._claimer.slot_freed()

    def _register_again(self) -> None:
        self._spawn("registration", self._registrar.register)

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether all its threads hang in steps that were given up; a supervisor should restart the process."""
        return self._threads.exhausted

    async def stop(self, *, drain: bool = False) -> None:
        """Stop claiming, interrupt what runs and hand it back at once, then return.

        Interrupted runs go on elsewhere in the same attempt, with their finished steps kept.

        Args:
            drain: let running handlers finish within `grace_ms` before they are interrupted. A later call without
                it cuts that short.
        """
        if not drain:
            self._hurry.set()
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(drain))
        await asyncio.shield(self._stopping)

    async def _stop(self, drain: bool) -> None:
        for name in ("claimer", "watchdog"):
            if name in self._loops:
                self._loops[name].cancel()
        await self._claimer.end()
        grace_s = max(0.0, self._options.grace_ms / 1000)
        if drain:
            waits = [asyncio.ensure_future(w) for w in (self._executor.emptied(grace_s), self._hurry.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        self._executor.interrupt_all("stopping")
        await self._executor.emptied(grace_s)
        for held in list(self._executor.held.values()):
            log.warning("run %s did not end within %g s of stop(); it is abandoned", held.attempt.claim.run_id, grace_s)
        await self._tear_down()
        telemetry.emit(telemetry.WORKER_STOPPED, worker=self.id)

    async def _tear_down(self) -> None:
        for task in self._loops.values():
            task.cancel()
        await asyncio.gather(*self._loops.values(), return_exceptions=True)
        if hasattr(self, "_leases"):
            await self._leases.stop()
        await self._hand_back_rest()
        self._threads.close()
        await self._signals.close()
        if self._owns_redis:
            await self.client.close()
        else:
            await self._engine.close()

    async def _hand_back_rest(self) -> None:
        """What was abandoned, and what a claim brought while it was being cancelled, goes back as well."""
        try:
            leases = [held.lease for held in self._executor.held.values()] + self._executor.given_up
            self._executor.held.clear()
            if leases:
                await self._engine.scripts.release(leases, patience_s=0.5)
            if self._clock.known:
                await self._registrar.unregister()
        except RedflowError as exc:
            log.warning("worker %s could not say goodbye: %s", self.id, exc)


def _at_least(value: float, least: float, otherwise: float) -> int:
    """A number moved into its range; what is no number becomes the default."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return int(otherwise)
    return int(max(value, least))
