"""Very many runs: in line, due at one instant, behind one mutex. In small here; `make faults-full` has a million.

What they cost in full, and beside what limits, is measured by `make acceptance ARGS=scale` and `ARGS=contract`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
from redis.asyncio import Redis

from benchmarks.bulk import Loader, create_due_at_once, create_runs
from benchmarks.counting import counts, used_memory
from benchmarks.stalls import longest_by_cpu
from benchmarks.waiters import start_many
from benchmarks.workflows import APP, ONE_STEP, REGISTRY
from redflow import RedflowClient, StartWorkerOptions, WorkflowRegistry, create_client, start_worker
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.runs import RunScripts
from tests.faults.conftest import StartProcess
from tests.support.servers import ServerProcess
from tests.support.worker_process import Effects, start_processes
from tests.support.world import World, eventually, soon

FULL: Final = bool(os.environ.get("REDFLOW_TEST_FULL"))
QUEUED: Final = 1_000_000 if FULL else 10_000
DUE: Final = 1_000_000 if FULL else 3_000
WAITERS: Final = 10_000 if FULL else 300
SHALLOW: Final = 1_000
CHUNK: Final = 100
pytestmark = [pytest.mark.any_server, pytest.mark.timeout(1_800 if FULL else 60)]


@pytest.fixture
async def clients(server: ServerProcess, prefix: str) -> AsyncIterator[list[RedflowClient]]:
    """Two prefixes of one shard with one workflow that nobody serves."""
    made = [create_client(url=server.url, prefix=f"{prefix}-{n}", app=APP, shards=1) for n in range(2)]
    for client in made:
        await client.sync_registry(REGISTRY, app=APP)
    yield made
    for client in made:
        await client.reset_runs()
        await client.close()


async def test_a_long_line_makes_nothing_slower(server: ServerProcess, clients: list[RedflowClient]) -> None:
    async with Redis.from_url(server.url) as redis:
        shallow, deep = clients
        await create_runs(shallow, ONE_STEP.name, SHALLOW)
        before = await used_memory(redis)
        await create_runs(deep, ONE_STEP.name, QUEUED)
        assert (await used_memory(redis) - before) / QUEUED <= 1_536, "bytes a queued run"
    loaders = [await Loader.register(client, ONE_STEP.name) for client in clients]
    took: list[list[float]] = [[], []]
    for _ in range(200):
        for loader, times in zip(loaders, took, strict=True):
            began = time.perf_counter()
            runs = await loader.claim(1)
            times.append(time.perf_counter() - began)
            assert len(runs) == 1
            await loader.settle(runs)
    few, many = map(statistics.median, took)
    assert many <= 2 * few, "in turn on one server, so what disturbs one of them disturbs both"
    began = time.perf_counter()
    options = StartWorkerOptions(app=APP, url=server.url, prefix=deep.prefix, registry=WorkflowRegistry(), shards=1)
    worker = await start_worker(options)
    assert time.perf_counter() - began <= 5
    await worker.stop()


async def test_very_many_runs_due_at_one_instant(server: ServerProcess, clients: list[RedflowClient]) -> None:
    """In chunks, none of which keeps the server for long; all become ready."""
    client, other = clients
    await create_runs(client, ONE_STEP.name, DUE, run_at_ms=int(time.time() * 1000) + 3_600_000)
    later = int(time.time() * 1000) + 7_200_000
    scripts = RunScripts(client.connection, Keys.of(client.prefix), client.run_history_retention_ms, later)
    async with Redis.from_url(server.url) as redis:

        async def promote() -> int:
            return (await scripts.promote(CHUNK))[2]

        done, longest_ms = await longest_by_cpu(redis, promote)
    assert done == DUE
    assert longest_ms <= 10
    await client.reset_runs()
    await create_due_at_once(other, ONE_STEP.name, DUE, "nobody's")
    options = StartWorkerOptions(app=APP, url=server.url, prefix=other.prefix, registry=WorkflowRegistry(), shards=1)
    workers = await asyncio.gather(start_worker(options), start_worker(options))

    async def ready() -> int:
        return (await other.get_stats())["by_status"]["queued"]

    await eventually(ready, "all of them ready", until=DUE.__eq__, timeout_s=600 if FULL else 15)
    await asyncio.gather(*(worker.stop() for worker in workers))


async def test_a_mutex_that_very_many_wait_for(
    server: ServerProcess, world: World, process: StartProcess, effects: Effects
) -> None:
    """First come, first served; never two; a hand-over costs the server few commands, since nobody polls."""
    await start_processes([process(lease_ms=2_000) for _ in range(2)])
    holder = await world.start(3_600, name="exclusive")
    await effects.shows(holder.id, "enter")
    handles = await start_many(world.client, "exclusive", [0] * WAITERS)

    async def in_line() -> int:
        return await world.mutex_line("the only one")

    await eventually(in_line, "all in line", until=WAITERS.__eq__, timeout_s=120 if FULL else 15)
    async with Redis.from_url(server.url) as redis:
        before = await counts(redis)
        assert await world.client.cancel_run(holder.id)
        noted = 2 * (WAITERS + 1)
        await soon(lambda: effects.path.read_bytes().count(b"\n") >= noted, "the end of the line", timeout_s=600)
        calls = (await counts(redis)).since(before).scripts
    notes = [(effect.run_id, effect.what) for effect in effects.all()][2:]
    assert notes == [(handle.id, what) for handle in handles for what in ("enter", "leave")]
    assert calls / WAITERS <= (10 if world.shards == 1 else 15), "on several shards the lock is on another one"
