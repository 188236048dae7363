"""Wall clocks that are wrong or jump: those of workers, and the server's. A shim below the C library shifts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from redflow import define_workflow
from redflow.types import JsonData, WorkflowRateLimitOptions
from tests.faults.conftest import StartProcess
from tests.faults.test_kills import BODIES
from tests.support.clocks import Clock, compiler
from tests.support.invariants import violations
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.worker_process import Effects, start_processes
from tests.support.world import Context, World, eventually, judged

pytestmark = [
    pytest.mark.any_server,
    pytest.mark.skipif(compiler() is None, reason="a clock is shifted by a shim that a C compiler builds"),
]

StartServer = Callable[[ServerOptions], ServerProcess]
HOUR_S: Final = 3600.0
LEASE_MS: Final = 700


def times_in(value: object) -> Iterator[int]:
    """Every moment that a record tells."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.endswith("_at") and isinstance(inner, int):
                yield inner
            yield from times_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from times_in(inner)


async def test_clocks_of_workers_that_are_wrong_and_jump_change_nothing(
    world: World, process: StartProcess, effects: Effects, tmp_path: Path
) -> None:
    """One is an hour ahead, one behind, and both jump while they work: every time told is the server's."""
    ahead, behind = Clock(tmp_path, "ahead", HOUR_S), Clock(tmp_path, "behind", -HOUR_S)
    workers = [process(lease_ms=LEASE_MS, environment=clock.environment) for clock in (ahead, behind)]
    await start_processes(workers)
    began_ms = time.time() * 1000
    handles = [await world.start(name=name) for name in ("steps", "flaky") * 5]
    handles += [lasting := await world.start(1.5 * LEASE_MS / 1000, name="long") for _ in range(4)]
    await effects.shows(lasting.id, "begin")
    ahead.jump_to(-HOUR_S)
    behind.jump_to(HOUR_S)
    for handle in handles:
        await handle.result()
        record = [await handle.get_state(), await world.client.get_run_steps(handle.id)]
        assert all(began_ms - 5 <= at <= time.time() * 1000 + 5 for at in times_in(record)), record
        assert len(list(times_in(record))) >= 4
    for steps, flaky in zip(handles[:10:2], handles[1:10:2], strict=True):
        assert {name: effects.count(steps.id, name) for name in BODIES} == BODIES
        assert effects.of(flaky.id) == ["attempt-1", "one", "attempt-2"]
    for handle in handles[10:]:
        assert effects.of(handle.id) == ["begin", "end", "after"], "nobody took it for dead"


def test_the_shim_shifts_the_clock_of_a_process(tmp_path: Path) -> None:
    clock = Clock(tmp_path, by_s=-HOUR_S)
    look = [sys.executable, "-c", "import time; print(time.time())"]
    told = subprocess.run(look, env={**os.environ, **clock.environment}, check=True, capture_output=True, text=True)
    assert abs(float(told.stdout) - (time.time() - HOUR_S)) < 5


async def ahead_by_s(world: World) -> float:
    """How far the server's clock is ahead of this process's."""
    seconds, micros = await world.redis.time()
    return float(seconds + micros / 1e6 - time.time())


@pytest.fixture
def shifted(
    private_server: StartServer, prefix: str, tmp_path: Path
) -> Callable[[], tuple[World, ServerProcess, Clock]]:
    """A world on a server whose clock can be shifted."""

    def start() -> tuple[World, ServerProcess, Clock]:
        clock = Clock(tmp_path)
        server = private_server(ServerOptions(environment=tuple(clock.environment.items())))
        return World(server.url, prefix), server, clock

    return start


async def test_the_servers_clock_jumps_an_hour_ahead(
    shifted: Callable[[], tuple[World, ServerProcess, Clock]], process: StartProcess, effects: Effects
) -> None:
    """Every lease has run out, once: the runs are taken over, or kept; what the former holders bring is refused."""
    made, server, clock = shifted()
    async with judged(made) as world:
        workers = [process(lease_ms=LEASE_MS, url=server.url) for _ in range(2)]
        await start_processes(workers)
        handles = [await world.start(1.6 * LEASE_MS / 1000, name="long") for _ in range(6)]
        for handle in handles:
            await effects.shows(handle.id, "begin")
        clock.jump_to(HOUR_S)
        assert abs(await ahead_by_s(world) - HOUR_S) < 5
        for handle in handles:
            pids = await handle.result()
            assert isinstance(pids, list)
            assert effects.count(handle.id, "begin") <= 2, "it happens once"
            assert effects.pids(handle.id, "after") == [pids[1]], "one holder went on"
            state = await handle.get_state()
            assert state is not None
            assert state["attempt"] == 1
        later = [await world.start(1.5 * LEASE_MS / 1000, name="long") for _ in range(4)]
        for handle in later:
            await handle.result()
            assert effects.of(handle.id) == ["begin", "end", "after"], "all is as before"


async def test_the_servers_clock_jumps_ten_seconds_back(
    shifted: Callable[[], tuple[World, ServerProcess, Clock]], process: StartProcess, effects: Effects
) -> None:
    """No lease is taken, and no window of a throttle has more than its share: it lasts until its end comes again."""
    world, server, clock = shifted()
    limit, period_ms = 3, 300
    try:

        async def work(ctx: Context) -> JsonData:
            return None

        throttle = WorkflowRateLimitOptions(lambda input: "k", limit, period_ms)
        define_workflow("throttled", handler=work, registry=world.registry, throttle=throttle)
        await world.worker(replace(world.options(), lease_ms=LEASE_MS))
        await process(lease_ms=LEASE_MS, url=server.url).ready()
        lasting = [await world.start(1.6 * LEASE_MS / 1000, name="long") for _ in range(4)]
        for handle in lasting:
            await effects.shows(handle.id, "begin")
        gated = [await world.start(n, name="throttled") for n in range(limit + 2)]

        async def passed() -> int:
            return sum([await world.status(handle) == "succeeded" for handle in gated])

        await eventually(passed, "the first window", until=limit.__eq__)
        clock.jump_to(-10)
        assert abs(await ahead_by_s(world) + 10) < 5
        for handle in lasting:
            await handle.result()
            assert effects.of(handle.id) == ["begin", "end", "after"], "nobody took it for dead"
        assert await passed() == limit
        clock.jump_to(0)
        gated.append(await world.start(name="throttled"))  # whoever hears of it hears what time it is
        await eventually(passed, "the second window", until=len(gated).__eq__)
        await world.stop_workers()
        broken = [
            fault
            for shard, connection in enumerate(world.connections)
            for fault in await violations(connection, world.prefix, shard=shard, shards=world.shards)
            if "order of finishing" not in fault
        ]
        assert broken == [], "but that, all is as it should be: what ended meanwhile is removed ten seconds late"
    finally:
        await world.close()
