"""Workers that are frozen longer than their lease, and workers whose event loop is blocked."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.faults.conftest import StartProcess
from tests.support.worker_process import Effects, start_processes
from tests.support.world import World, eventually

LEASE_MS = 400


async def recorded(world: World, run_id: str) -> bool:
    """Whether the first step of a run is durable."""
    return [step["status"] for step in await world.client.get_run_steps(run_id)][:1] == ["succeeded"]


async def test_a_frozen_worker_loses_its_run_and_begins_nothing_when_it_wakes(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """Frozen between two steps: on waking it must notice by its own clock, before it has heard from anybody."""
    for _ in range(3):
        frozen = await process(lease_ms=LEASE_MS).ready()
        handle = await world.start(0.15, name="gap")
        await effects.shows(handle.id, "one")
        await eventually(partial(recorded, world, handle.id), "the record of step one")
        frozen.freeze()
        successor = await process(lease_ms=LEASE_MS).ready()
        output = await handle.result()
        frozen.thaw()
        assert output == [frozen.pid, successor.pid, successor.pid]
        successor.kill()
        # It is still of use, and by the time it has done this it would have begun the old run's step.
        assert await (await world.start(0, name="gap")).result() == [frozen.pid] * 3
        assert effects.of(handle.id) == ["one", "two", "three"]
        assert await world.client.get_run_attempts(handle.id) != []
        frozen.kill()


async def test_a_frozen_step_is_done_elsewhere_and_its_late_result_refused(
    world: World, process: StartProcess, effects: Effects
) -> None:
    frozen = await process(lease_ms=LEASE_MS).ready()
    handle = await world.start(0.3, name="long")
    await effects.shows(handle.id, "begin")
    frozen.freeze()
    successor = await process(lease_ms=LEASE_MS).ready()
    assert await handle.result() == [successor.pid] * 2
    before = (await handle.get_state(), await world.client.get_run_steps(handle.id))
    frozen.thaw()
    successor.kill()
    assert await (await world.start(0, name="long")).result() == [frozen.pid] * 2
    assert effects.pids(handle.id, "after") == [successor.pid], "the stale holder begins no further step"
    assert (await handle.get_state(), await world.client.get_run_steps(handle.id)) == before


async def test_a_freeze_shorter_than_the_lease_goes_unnoticed(
    world: World, process: StartProcess, effects: Effects
) -> None:
    worker = await process(lease_ms=3000).ready()
    other = await process(lease_ms=3000).ready()
    handle = await world.start(0.3, name="long")
    await effects.shows(handle.id, "begin")
    [pid] = effects.pids(handle.id, "begin")
    holder = worker if worker.pid == pid else other
    holder.freeze()
    await asyncio.sleep(0.5)  # how long it is frozen
    holder.thaw()
    assert await handle.result() == [pid] * 2
    assert effects.of(handle.id) == ["begin", "end", "after"]


async def test_a_blocked_event_loop_keeps_the_lease(world: World, process: StartProcess, effects: Effects) -> None:
    """A step blocks for four leases: while the worker lives nobody else may run it."""
    first, second = await process(lease_ms=300).ready(), await process(lease_ms=300).ready()
    handle = await world.start({"s": 1.2}, name="blocks")
    pid = await handle.result()
    assert pid in (first.pid, second.pid)
    assert effects.of(handle.id) == ["begin", "end"]


async def test_a_loop_blocked_beyond_the_steps_time_lets_the_lease_go(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """The step's time-out can't interrupt it; a second later the run is given up to somebody else."""
    process(lease_ms=300)
    first = await process(lease_ms=300).ready()
    handle = await world.start({"s": 60, "timeout_ms": 200}, name="blocks")
    await effects.shows(handle.id, "begin", 2)
    begun = effects.pids(handle.id, "begin")
    assert len(set(begun)) == 2
    assert await world.client.cancel_run(handle.id)
    del first


@pytest.mark.slow
async def test_a_frozen_worker_of_many_runs(world: World, process: StartProcess, effects: Effects) -> None:
    """Twenty runs in its slots: all go on elsewhere, none of their later steps begins twice."""
    frozen = await process(lease_ms=LEASE_MS, concurrency=20).ready()
    handles = [await world.start(1.0, name="gap") for _ in range(20)]

    async def recorded() -> int:
        steps = [await world.client.get_run_steps(handle.id) for handle in handles]
        return sum(any(step["status"] == "succeeded" for step in of_one) for of_one in steps)

    await eventually(recorded, "the first step of each", until=len(handles).__eq__)
    frozen.freeze()
    successor = await process(lease_ms=LEASE_MS, concurrency=20).ready()
    for handle in handles:
        assert await handle.result() == [frozen.pid, successor.pid, successor.pid]
    frozen.thaw()
    successor.kill()
    assert await (await world.start(0, name="gap")).result() == [frozen.pid] * 3
    for handle in handles:
        assert effects.of(handle.id) == ["one", "two", "three"]


@pytest.mark.any_server
async def test_a_call_of_c_that_keeps_the_gil_beyond_the_lease_is_like_a_freeze(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """The thread that renews gets no turn either: the run goes on elsewhere, and what comes late is refused."""
    lease_ms = 300
    seized, successor = process(lease_ms=lease_ms), process(lease_ms=lease_ms)
    await start_processes([seized, successor])
    successor.freeze()  # it is there at once when it is needed, and takes nothing before
    beside = await world.start(60, name="long")
    await effects.shows(beside.id, "begin")
    handle = await world.start(4 * lease_ms / 1000, name="seizes")
    await effects.shows(handle.id, "begin")
    successor.thaw()
    await effects.shows(beside.id, "begin", 2)
    assert await world.client.cancel_run(beside.id)
    assert await handle.result() == [successor.pid] * 2, "what is stored is what the later holder gave"
    before = (await handle.get_state(), await world.client.get_run_steps(handle.id))
    await effects.shows(handle.id, "end", 2)
    successor.kill()
    assert await (await world.start(0, name="long")).result() == [seized.pid] * 2, "the worker is still of use"
    assert effects.pids(handle.id, "begin") == [seized.pid, successor.pid]
    assert effects.pids(handle.id, "end") == [successor.pid, seized.pid], "the call outlasted the lease"
    assert effects.pids(handle.id, "after") == [successor.pid], "the stale holder begins no further step"
    assert effects.pids(beside.id, "begin") == [seized.pid, successor.pid], "nor does the run beside it"
    assert (await handle.get_state(), await world.client.get_run_steps(handle.id)) == before
    assert seized.text().count(f"run {handle.id.removeprefix('run_').replace('-', '')} was interrupted") <= 1
