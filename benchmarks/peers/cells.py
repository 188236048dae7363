"""The measurements: one cell is one workload of one system once, on a store of its own.

A cell counts only if every output, and of durable engines every step record, was read back and found right.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from benchmarks.counting import watching
from benchmarks.harness import BenchmarkError, Persistence, percentile
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.environments import Environment
from benchmarks.peers.processes import Answer, Program, Value, program
from benchmarks.peers.stores import Store, postgres_store, redis_store, sqlite_store, temporal_store
from tests.support.servers import ServerKind

CHILDREN: Final = 100
FAN_OUTS: Final = 5
CONCURRENCY: Final = 100
PAD: Final = 189
"""Characters of padding that make a payload 200 bytes of JSON."""

_PATIENCE_S: Final = 300.0
_NO_PROGRESS_S: Final = 30.0
_SETTLE_S: Final = 3.0
_WARM_UP: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a whole measurement is run.

    Attributes:
        reps: repetitions.
        scale: factor on all sizes; 1 is the full form.
        server: which Redis is started.
        persistence: of all stores.
        idle_s: how long an idle worker is watched, seconds.
    """

    reps: int = 3
    scale: float = 1.0
    server: ServerKind = ServerKind.BUNDLED
    persistence: Persistence = "none"
    idle_s: float = 20.0

    def sized(self, size: int) -> int:
        """A size of this measurement."""
        return max(2, round(size * self.scale)) if size else 0


@dataclass(slots=True)
class Cell:
    """What one measurement works with.

    Attributes:
        peer: whose it is.
        environment: where its programs run.
        plan: of the whole measurement.
        figures: what it found, by name.
        store_settings: what the store was run with.
    """

    peer: Peer
    environment: Environment
    plan: Plan
    figures: dict[str, float] = field(default_factory=dict)
    store_settings: str = ""

    @contextmanager
    def stage(self) -> Iterator[tuple[Store, Path]]:
        """A fresh store, and a folder for what the processes leave."""
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
            store = stack.enter_context(self._store())
            self.store_settings = store.settings
            yield store, scratch

    def _store(self) -> contextlib.AbstractContextManager[Store]:
        persistence = self.plan.persistence
        match self.peer.store:
            case "redis":
                return redis_store(self.plan.server, persistence)
            case "sqlite":
                return sqlite_store(persistence)
            case "postgres":
                return postgres_store(persistence)
            case "temporal":
                return temporal_store(Path(self.environment.command[0]))

    def config(self, store: Store, scratch: Path, concurrency: int) -> str:
        """What the programs are told."""
        return json.dumps(
            {
                "url": store.url,
                "scratch": str(scratch),
                "concurrency": concurrency,
                "loop": self.peer.loop,
                "durable_store": self.plan.persistence != "none",
            }
        )

    @asynccontextmanager
    async def client(self, store: Store, scratch: Path) -> AsyncIterator[Program]:
        """A client that is connected and waits for orders."""
        async with program(self.environment, "client", self.config(store, scratch, CONCURRENCY), scratch) as client:
            async with asyncio.timeout(_PATIENCE_S):
                await client.answer()
            yield client

    @asynccontextmanager
    async def workers(
        self, store: Store, scratch: Path, *, concurrency: int = CONCURRENCY, processes: int = 1
    ) -> AsyncIterator[list[Program]]:
        """So many worker processes, just started."""
        config = self.config(store, scratch, concurrency)
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(program(self.environment, "worker", config, scratch))
                for _ in range(processes)
            ]


async def ask_beside(workers: list[Program], client: Program, do: str, **order: Value) -> Answer:
    """Order something that needs the workers; their end is told in place of a time-out.

    Raises:
        BenchmarkError: of the client, or a worker ended.
    """
    asking = asyncio.create_task(client.ask(do, patience_s=_PATIENCE_S, **order))
    try:
        while not asking.done():
            await asyncio.wait({asking}, timeout=0.5)
            for worker in workers:
                worker.check_alive()
        return await asking
    finally:
        asking.cancel()


def number_in(answer: Answer, name: str) -> float:
    """A number of an answer."""
    value = answer[name]
    assert isinstance(value, int | float)
    return float(value)


def numbers_in(answer: Answer, name: str) -> list[float]:
    """A list of numbers of an answer."""
    values = answer[name]
    assert isinstance(values, list)
    return [float(value) for value in values]


async def _check(client: Program) -> None:
    answer = await client.ask("check", patience_s=_PATIENCE_S)
    if answer["wrong"]:
        raise BenchmarkError(str(answer["wrong"]))


async def _ended_at(workers: list[Program], client: Program) -> float:
    return number_in(await ask_beside(workers, client, "wait", within_s=_NO_PROGRESS_S), "at")


def _first_start(scratch: Path) -> float:
    marks = [float(path.read_text("utf-8")) for path in scratch.glob("first-*")]
    if not marks:
        raise BenchmarkError("all have ended, and no work was begun")
    return min(marks)


async def live(cell: Cell) -> None:
    """W1 and W5: single emits while the worker works, from the first emit to the last end; worker CPU."""
    n = cell.plan.sized(cell.peer.sizes.runs)
    with cell.stage() as (store, scratch):
        async with cell.client(store, scratch) as client, cell.workers(store, scratch) as workers:
            await ask_beside(workers, client, "latency", n=_WARM_UP)  # the worker is up and warm
            cpu = sum(worker.cpu_s() for worker in workers)
            began = number_in(await ask_beside(workers, client, "enqueue", kind="one", n=n, how="single"), "began")
            ended = await _ended_at(workers, client)
            cpu = sum(worker.cpu_s() for worker in workers) - cpu
            await _check(client)
    cell.figures["live"] = n / (ended - began)
    cell.figures["cpu"] = cpu / n * 1000


async def _drain(
    cell: Cell, kind: str, n: int, *, concurrency: int = CONCURRENCY, processes: int = 1, bulk: bool = False
) -> tuple[float, float]:
    """Seconds to enqueue `n`, and from the first work begun to the last end, with the workers started after it."""
    with cell.stage() as (store, scratch):
        async with cell.client(store, scratch) as client:
            how = "bulk" if bulk else "single"
            order = client.ask("enqueue", patience_s=_PATIENCE_S, kind=kind, n=n, how=how)
            seconds = number_in(await order, "seconds")
            async with cell.workers(store, scratch, concurrency=concurrency, processes=processes) as workers:
                ended = await _ended_at(workers, client)
            await _check(client)
        return seconds, ended - _first_start(scratch)


async def drain(cell: Cell) -> None:
    """W1 and W7: single emits, then a worker drains them."""
    n = cell.plan.sized(cell.peer.sizes.runs)
    enqueued, drained = await _drain(cell, "one", n)
    cell.figures["single"] = n / enqueued
    cell.figures["drain"] = n / drained


async def two(cell: Cell) -> None:
    """W9 and W7: bulk emits where there are such, then two worker processes drain them."""
    n = cell.plan.sized(cell.peer.sizes.two)
    bulk = await _has_bulk(cell)
    enqueued, drained = await _drain(cell, "one", n, processes=2, bulk=bulk)
    if bulk:
        cell.figures["bulk"] = n / enqueued
    cell.figures["two"] = n / drained


async def _has_bulk(cell: Cell) -> bool:
    with cell.stage() as (store, scratch):
        async with cell.client(store, scratch) as client:
            return bool((await client.ask("about"))["bulk"])


async def serial(cell: Cell) -> None:
    """W8: drain with one slot."""
    n = cell.plan.sized(cell.peer.sizes.serial)
    cell.figures["serial"] = n / (await _drain(cell, "one", n, concurrency=1))[1]


async def steps(cell: Cell) -> None:
    """W2: drain ten-step runs."""
    n = cell.plan.sized(cell.peer.sizes.ten)
    if n:
        cell.figures["steps"] = 10 * n / (await _drain(cell, "ten", n))[1]


async def latency(cell: Cell) -> None:
    """W3 and W4: one after another, then a hundred at once, on an idle worker."""
    n = cell.plan.sized(cell.peer.sizes.triggers)
    with cell.stage() as (store, scratch):
        async with cell.client(store, scratch) as client, cell.workers(store, scratch) as workers:
            await ask_beside(workers, client, "latency", n=_WARM_UP)
            times = numbers_in(await ask_beside(workers, client, "latency", n=n), "ms")
            fan_outs = await ask_beside(workers, client, "children", n=CHILDREN, times=FAN_OUTS)
            await _check(client)
    cell.figures["p50"] = percentile(times, 0.50)
    cell.figures["p99"] = percentile(times, 0.99)
    cell.figures["children"] = percentile(numbers_in(fan_outs, "ms"), 0.50)


async def memory(cell: Cell) -> None:
    """W6: what the store has grown by, a finished run; tiny payloads and such of 200 bytes."""
    n = cell.plan.sized(cell.peer.sizes.memory)
    for name, pad in (("bytes", 0), ("bytes-200", PAD)):
        with cell.stage() as (store, scratch):
            if store.size is None:
                return
            async with cell.client(store, scratch) as client:
                async with cell.workers(store, scratch) as workers:  # scripts are loaded, buffers have grown
                    await ask_beside(workers, client, "latency", n=_WARM_UP)
                before = store.size()
                bulk = bool((await client.ask("about"))["bulk"])
                how = "bulk" if bulk else "single"
                await client.ask("enqueue", patience_s=_PATIENCE_S, kind="one", n=n, how=how, pad=pad)
                async with cell.workers(store, scratch) as workers:
                    await _ended_at(workers, client)
                after = store.size()
                await _check(client)
        cell.figures[name] = (after - before) / n


async def idle(cell: Cell) -> None:
    """Commands a second of an idle worker."""
    with cell.stage() as (store, scratch):
        if not store.redis:
            return
        async with cell.client(store, scratch) as client, cell.workers(store, scratch) as workers:
            await ask_beside(workers, client, "latency", n=_WARM_UP)
            await client.stop()
            await asyncio.sleep(min(_SETTLE_S, cell.plan.idle_s))
            async with Redis.from_url(store.url) as redis, watching(redis) as seen:
                await asyncio.sleep(cell.plan.idle_s)
    cell.figures["idle"] = seen.top_level.total() / cell.plan.idle_s


WORKLOADS: Final[dict[str, Callable[[Cell], Coroutine[None, None, None]]]] = {
    "live": live,
    "drain": drain,
    "two": two,
    "serial": serial,
    "steps": steps,
    "latency": latency,
    "memory": memory,
    "idle": idle,
}

ONCE: Final = frozenset({"memory", "idle"})
"""Counted, not timed: once is enough."""
