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
from redflow.codec import PayloadCodec
from redflow.domain.names import scope_queue
from redflow.domain.shards import shard_of_run
from redflow.engines.redis.engine import RedisEngine
from redflow.engines.redis.eviction import refuse_eviction
from redflow.engines.redis.executor import Executor
from redflow.engines.redis.journal import JournalWriter
from redflow.engines.redis.loops.carrier import look_for_strays
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
from redflow.engines.redis.runs import RunScripts
from redflow.engines.redis.sharded_engine import ShardedEngine
from redflow.engines.redis.sharded_journal import ShardedWriter
from redflow.engines.redis.shards import SignalsOfAll, twins
from redflow.engines.redis.site import Site, release
from redflow.engines.redis.sources import AnyRedis
from redflow.engines.redis.spread import C, Spread, carriers_of, claimers_of
from redflow.errors import RedflowError
from redflow.execution.journal import Interruption
from redflow.execution.threads import ThreadPool
from redflow.registry import WorkflowRegistry, get_default_registry

log = logging.getLogger("redflow")

_RESTART_PAUSE_S: Final = 1.0
_FEW_RUNS: Final = 2
"""With more there is nearly always something to do while a reply is on its way."""


@dataclass
class StartWorkerOptions:
    """How a worker runs. Values out of range are moved into it.

    Attributes:
        app: name of the application; queues are scoped by it.
        redis: a redis-py asyncio client; not closed by `stop()`. Several workers may share one.
        url: of the server, if no `redis` is given; None means REDIS_URL, else redis://localhost:6379.
        prefix: of all keys; None means REDFLOW_PREFIX, else "redflow:v1".
        shards: over how many hash slots the prefix is spread; None means REDFLOW_SHARDS, else 1.
        codec: encrypts payloads; None means the keys that the environment names, else nothing is encrypted.
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
    shards: int | None = None
    codec: PayloadCodec | None = None


async def start_worker(options: StartWorkerOptions) -> WorkerHandle:
    """Start a worker in this process; it runs until `stop()`.

    Returns:
        Its handle, once the workflows are registered and the worker claims.

    Raises:
        ValueError: a blank app, or a definition that can't be registered.
        ConnectionError, ServerTooOldError: the server can't be used; also one whose maxmemory-policy is allkeys-*.

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
        self.client = create_client(
            app=app,
            redis=options.redis,
            url=options.url,
            prefix=options.prefix,
            shards=options.shards,
            codec=options.codec,
        )
        engine = self.client.engine
        assert isinstance(engine, RedisEngine)
        self._engine = engine
        self._registry = get_default_registry() if options.registry is None else options.registry
        self._app = app
        self.queues = self._queue_names()
        self._concurrency = _at_least(options.concurrency, 1, 1)
        self._lease_ms = _at_least(options.lease_ms, 100, 5000)
        self._threads = ThreadPool(self._concurrency)
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._stopping: asyncio.Future[None] | None = None
        self._hurry = asyncio.Event()
        self._lease_s = max(self._lease_ms, options.reaper_interval_ms) / 1000
        shards = engine.shards if isinstance(engine, ShardedEngine) else [engine]
        self._sites = [Site(shard, self._lease_s) for shard in shards]
        for site in self._sites:  # one voice for all shards
            site.scripts.connection.complaints = self._sites[0].scripts.connection.complaints
        self._clock = self._sites[0].clock
        self._turn = 0
        self._build(engine)

    def _queue_names(self) -> list[str]:
        given = self._options.queues
        names = [d.options.queue for d in self._registry.list()] if given is None else given
        return list(dict.fromkeys(scope_queue(name, self._app) for name in names))

    def _build(self, engine: RedisEngine) -> None:
        clock = self._clock
        self._fanouts = Deadline(clock, 30.0)
        self._spread = Spread(engine, self._sites, self._registry.list) if isinstance(engine, ShardedEngine) else None
        self._channels = {
            channel: shard
            for shard, site in enumerate(self._sites)
            for channel in (site.keys.worker_channel(self.id), site.keys.timers_channel)
        }
        self._claimers: list[Claimer] = []
        self._writers = [self._writer(shard) for shard in range(len(self._sites))]
        self._executor = Executor(
            self._writer_of, self._registry.get, self._threads, self._slot_freed, lambda: self._registrar.register()
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
            elsewhere=tuple if self._spread is None else self._spread.elsewhere,
            carry_on=None if self._spread is None else self._spread.carry_cancels_on,
            drain=lambda: self.draining,
        )
        self._claimers += claimers_of(self._sites, self._spread, self._make_claimer)
        self._carriers = [] if self._spread is None else carriers_of(self._spread, len(self._sites), self.id)
        connections = [site.scripts.connection for site in self._sites]
        for connection in connections:
            connection.poll_when(self._has_little_to_do)
        self._signals = SignalsOfAll(connections, self._channels, self._heard, self._look_everywhere)

    def _make_claimer(self, site: Site, kind: type[C]) -> C:
        return kind(
            scripts=site.scripts,
            worker=self.id,
            queues=self.queues,
            executor=self._executor,
            threads=self._threads,
            clock=site.clock,
            due=site.due,
            lease=site.lease,
            concurrency=self._concurrency,
            lease_ms=self._lease_ms,
            check_s=min(_at_least(self._options.blmove_timeout_sec, 1.0, 1.0), self._lease_s),
            register=self._registrar.register,
        )

    def _writer(self, shard: int) -> JournalWriter:
        """What the journals of runs on a shard write through."""

        def settling(run_ids: list[str]) -> None:
            self._executor.outcomes_sent(run_ids)
            for claimer in self._in_turn():
                claimer.slots_leaving()

        def settled(more: bool) -> None:
            self._claimers[shard].settled(more)

        site, events, spread = self._sites[shard], self._engine.events, self._spread
        who = (events, site.clock, self.id, self.queues, self._interrupt)
        heard = (lambda: self._claimers[shard].wants_idle_mark(), settling, settled)
        if spread is None:
            return JournalWriter(site.scripts, *who, *heard)
        return ShardedWriter([its.scripts for its in self._sites], spread.engine.outgoing, shard, *who, *heard)

    def _has_little_to_do(self) -> bool:
        """Whether it pays to look for replies without sleeping: few runs, and no thread that wants the interpreter."""
        return len(self._executor.held) <= _FEW_RUNS and not self._threads.busy

    def _interrupt(self, run_id: str, why: Interruption) -> None:
        self._executor.interrupt(run_id, why)

    def _writer_of(self, run_id: str) -> JournalWriter:
        return self._writers[0 if self._spread is None else shard_of_run(run_id)]

    async def _start(self) -> None:
        if not self.queues:
            log.warning("worker %s serves no queue: it claims nothing", self.id)
        await refuse_eviction([site.scripts.connection for site in self._sites])
        await self._registrar.register()
        await self._registrar.sync()
        await self._signals.open()
        self._leases = LeaseKeeper(
            twins=self._twins,
            serves=lambda shard: shard == 0 or (self._spread is not None and self._spread.serves(shard)),
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

    def _twins(self) -> list[RunScripts]:
        """The scripts of all shards over connections of their own."""
        mine = [site.scripts for site in self._sites]
        others = twins([scripts.connection for scripts in mine])
        return [scripts.on(connection) for scripts, connection in zip(mine, others, strict=True)]

    def _spawn_loops(self) -> None:
        options, scripts = self._options, [site.scripts for site in self._sites]
        self._spawn_claimers()
        for shard, site in enumerate(self._sites):
            self._spawn_site(site, "" if self._spread is None else f"-{shard}")
        recovery_s = _at_least(options.registry_recovery_interval_ms, 250, 5000) / 1000
        self._spawn("fanout", lambda: carry_on_fan_outs(self._engine.events, self._clock, self._fanouts))
        self._spawn("registrar", lambda: self._registrar.keep(recovery_s))
        for shard, carrier in enumerate(self._carriers):
            self._spawn(f"carrier-{shard}", carrier.run)
        if (spread := self._spread) is not None:
            self._spawn(
                "strays",
                lambda: look_for_strays(
                    scripts, spread.serves, self.id, self.queues, self._register_at, self._lease_ms
                ),
            )
        if options.watchdog_enabled:
            every_ms = _at_least(options.watchdog_interval_ms, 250, 1000)
            stalled_s = _at_least(options.watchdog_stalled_for_ms, 2 * every_ms, 15_000) / 1000
            self._spawn(
                "watchdog",
                lambda: watch_claimer(
                    scripts, self._executor, self.queues, self._restart_claimer, every_ms / 1000, stalled_s
                ),
            )

    def _spawn_site(self, site: Site, name: str) -> None:
        """The duties that each shard has."""
        batch = min(200, _at_least(self._options.reaper_batch_size, 1, 100))
        cleanup_s = _at_least(self._options.run_history_cleanup_interval_ms, 1000, 60_000) / 1000
        events = self._engine.events if site is self._sites[0] else None

        async def recover() -> None:
            await site.know_time()
            await recover_dead_runs(site.scripts, site.clock, site.lease, batch, self._lease_ms)

        self._spawn("promoter" + name, lambda: promote_due_runs(site.scripts, site.clock, site.due))
        self._spawn("reaper" + name, recover)
        self._spawn("cleaner" + name, lambda: clean_up(site.scripts, events, cleanup_s))
        self._spawn("cron" + name, lambda: fire_crons(site.engine.crons, site.clock, site.ticks))

    def _spawn_claimers(self) -> None:
        for shard, claimer in enumerate(self._claimers):
            self._spawn("claimer" if self._spread is None else f"claimer-{shard}", claimer.run)

    async def _register_at(self, shard: int) -> None:
        await self._registrar.register_at(self._sites[shard].scripts, self._sites[shard].clock)

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
        for name, loop in self._loops.items():
            if name.startswith("claimer"):
                loop.cancel()
        self._look_everywhere()
        self._spawn_claimers()

    # -- what it hears ------------------------------------------------------------------------------------------

    def _heard(self, channel: str, message: bytes) -> None:
        shard = self._channels[channel]
        if message == b"bell":
            self._claimers[shard].ring()
        elif message.startswith(b"cancel "):
            self._executor.interrupt(message[7:].decode(), "canceled")
        elif message.startswith(b"timeout "):
            self._executor.interrupt(message[8:].decode(), "timed_out")
        elif message.startswith(b"wake "):
            self._executor.look_again(message[5:].decode())
        elif message.startswith(b"cron "):
            self._sites[shard].ticks.bring_forward(int(message[5:]))
        elif message == b"out":
            self._carriers[shard].ring()
        elif channel == self._sites[shard].keys.timers_channel:
            self._sites[shard].due.bring_forward(int(message))

    def _look_everywhere(self) -> None:
        """Messages may have been missed."""
        for claimer in self._claimers:
            claimer.ring()
        for carrier in self._carriers:
            carrier.ring()

    def _slot_freed(self) -> None:
        for claimer in self._in_turn():
            claimer.slot_freed()

    def _in_turn(self) -> list[Claimer]:
        """Of several shards each is offered free slots first in its turn."""
        self._turn = (self._turn + 1) % len(self._claimers)
        return self._claimers[self._turn :] + self._claimers[: self._turn]

    def _register_again(self) -> None:
        self._spawn("registration", self._registrar.register)

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether all its threads hang in steps that were given up; a supervisor should restart the process."""
        return self._threads.exhausted

    @property
    def draining(self) -> str:
        """What an operator told it to do when its last run has ended, "idle" or "stop"; "" while it claims.

        "stop" is for whoever runs the worker: see `drained`. The worker itself claims nothing either way.
        """
        told = [claimer.drain for claimer in self._claimers]
        return next((drain for drain in told if drain), "")

    @property
    def drained(self) -> bool:
        """Whether it claims nothing more and holds no run."""
        return bool(self.draining) and not self._executor.held and all(claimer.drained for claimer in self._claimers)

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
        for name, loop in self._loops.items():
            if name.startswith(("claimer", "watchdog", "strays")):
                loop.cancel()
        await asyncio.gather(*(claimer.end() for claimer in self._claimers))
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
        await asyncio.gather(*(carrier.end() for carrier in self._carriers))
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
                await release([site.scripts for site in self._sites], leases, patience_s=0.5)
            if self._clock.known:
                await self._registrar.unregister()
        except RedflowError as exc:
            log.warning("worker %s could not say goodbye: %s", self.id, exc)


def _at_least(value: float, least: float, otherwise: float) -> int:
    """A number moved into its range; what is no number becomes the default."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return int(otherwise)
    return int(max(value, least))
