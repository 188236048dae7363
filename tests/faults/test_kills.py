"""kill -9 of worker processes at each stage of a run, judged by what their functions noted in a file."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.faults.conftest import StartProcess
from tests.support.worker_process import Effects, start_processes
from tests.support.world import World, soon

KILLED = -signal.SIGKILL
LEASE_MS = 400
BODIES = {"one": 1, "two": 1, "three": 1, "four": 1}


@pytest.mark.parametrize(
    ("die_at", "again"),
    [
        ("claim:after", ""),
        ("body:one", "one"),
        ("record:one:before", "one"),
        ("record:one:after", ""),
        ("settle:suspended:before", ""),
        ("settle:suspended:after", ""),
        ("record:two:before", "two"),
        ("record:two:after", ""),
        ("settle:succeeded:before", ""),
        ("settle:succeeded:after", ""),
    ],
)
async def test_a_killed_worker_costs_at_most_the_one_step_it_was_in(
    world: World, process: StartProcess, effects: Effects, die_at: str, again: str
) -> None:
    """Steps whose result was recorded never run again; the attempt stays the first."""
    first = process(lease_ms=LEASE_MS, die_at=die_at)
    await first.ready()
    handle = await world.start(name="steps")
    assert await first.death() == KILLED
    second = await process(lease_ms=LEASE_MS).ready()
    began = time.monotonic()
    output = await handle.result()
    assert time.monotonic() - began < LEASE_MS / 1000 + 2
    counted = {name: effects.count(handle.id, name) for name in BODIES}
    assert counted == BODIES | ({again: 2} if again else {})
    assert set(effects.of(handle.id)) == {*BODIES, "attempt-1"}
    pids = [effects.pids(handle.id, name)[-1] for name in BODIES]
    assert output == pids, "what is stored is what the last call of each function gave"
    state = await handle.get_state()
    assert state is not None
    assert state["attempt"] == 1
    assert await second.stop() == 0


async def test_a_killed_worker_in_parallel_steps(world: World, process: StartProcess, effects: Effects) -> None:
    """Two bodies were begun: one may have been recorded, none runs a third time."""
    first = process(die_at="body:four")
    await first.ready()
    handle = await world.start(name="steps")
    assert await first.death() == KILLED
    await process().ready()
    await handle.result()
    assert effects.count(handle.id, "one") == effects.count(handle.id, "two") == 1
    assert effects.count(handle.id, "three") in (1, 2)
    assert effects.count(handle.id, "four") == 2


@pytest.mark.parametrize(
    ("die_at", "first_attempts"), [("settle:retry:before", 2), ("settle:retry:after", 1), ("body:one", 2)]
)
async def test_a_kill_around_a_retry_uses_no_attempt_up(
    world: World, process: StartProcess, effects: Effects, die_at: str, first_attempts: int
) -> None:
    first = process(die_at=die_at)
    await first.ready()
    handle = await world.start(name="flaky")
    assert await first.death() == KILLED
    await process().ready()
    await handle.result()
    assert effects.count(handle.id, "attempt-1") == first_attempts
    assert effects.count(handle.id, "attempt-2") == 1
    assert effects.count(handle.id, "one") == (2 if die_at == "body:one" else 1)
    traces = await world.client.get_run_attempts(handle.id)
    assert [(trace["attempt"], trace["status"]) for trace in traces] == [(1, "failed"), (2, "succeeded")]


@pytest.mark.parametrize(
    ("die_at", "handlers", "hooks"),
    [
        ("decide:before", 2, 1),
        ("decide:after", 1, 1),
        ("hook", 1, 2),
        ("settle:failed:before", 1, 2),
        ("settle:failed:after", 1, 1),
    ],
)
async def test_on_failure_is_never_lost(
    world: World, process: StartProcess, effects: Effects, die_at: str, handlers: int, hooks: int
) -> None:
    """Called at least once; once a failure is decided the handler isn't called again."""
    first = process(die_at=die_at)
    await first.ready()
    handle = await world.start(name="fails")
    assert await first.death() == KILLED
    await process().ready()
    assert await world.ended(handle) == "failed"
    assert effects.count(handle.id, "attempt-1") == handlers
    assert effects.count(handle.id, "hook-non_retriable") == hooks
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["kind"], state["attempt"]) == ("non_retriable", 1)


async def test_a_worker_killed_while_its_run_sleeps(world: World, process: StartProcess, effects: Effects) -> None:
    first = await process().ready()
    handle = await world.start(name="steps")
    await world.reaches(handle, "scheduled")
    first.kill()
    await process().ready()
    await handle.result()
    assert {name: effects.count(handle.id, name) for name in BODIES} == BODIES


async def test_workers_killed_one_after_another_under_load(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """Two workers at a time, four kills in the middle of their work: all runs end, each kill costs what it cut off."""
    workers = [process(concurrency=5) for _ in range(6)]
    await start_processes(workers)
    handles = []
    for n in range(4):
        noted = len(effects.all())
        handles += [await world.start(name=name) for name in ("steps", "flaky") * 6]
        await soon(lambda noted=noted: len(effects.all()) >= noted + 12, "progress")  # type: ignore[misc]
        workers[n].kill()
    for handle in handles:
        await handle.result()
        assert await world.status(handle) == "succeeded"
    calls = [(e.run_id, e.what) for e in effects.all() if not e.what.startswith("attempt")]
    assert len(calls) - len(set(calls)) <= 4 * 5 * 2, "two bodies at most in each of five slots of each killed worker"
    assert max(calls.count(call) for call in set(calls)) <= 1 + 4


async def test_sigterm_hands_back_and_ends_in_order(world: World, process: StartProcess, effects: Effects) -> None:
    first = await process(lease_ms=30_000).ready()
    handle = await world.start(2.0, name="long")
    await effects.shows(handle.id, "begin")
    began = time.monotonic()
    assert await first.stop() == 0
    second = await process(lease_ms=30_000).ready()
    await effects.shows(handle.id, "begin", 2)
    assert time.monotonic() - began < 10, "at once, not after the lease of 30 s"
    assert await handle.result() == [second.pid] * 2
    assert effects.count(handle.id, "end") == 1


async def test_a_poisonous_run_is_quarantined_after_three_deaths(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """One slot each, so that the runs behind it in the line are held by no worker that dies."""
    first = await process(lease_ms=300, concurrency=1).ready()
    handle = await world.start(name="poison")
    others = [await world.start(name="steps") for _ in range(5)]
    assert await first.death() == 1
    for _ in range(2):
        assert await process(lease_ms=300, concurrency=1).death() == 1
    survivor = await process(lease_ms=300, concurrency=1).ready()
    assert await world.ended(handle) == "failed"
    assert survivor.alive
    assert effects.count(handle.id, "deadly") == 3
    assert effects.count(handle.id, "one") == 1
    assert effects.of(handle.id)[-1] == "hook-poison"
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["kind"], state["attempt"]) == ("poison", 1)
    for other in others:
        await other.result()
        assert {name: effects.count(other.id, name) for name in BODIES} == BODIES


async def test_a_poisonous_run_takes_no_innocent_one_with_it(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """They share every worker that dies, and none lives long enough for the innocent ones to record a step."""
    first = await process(lease_ms=300).ready()
    innocent = [await world.start(0.8, name="long") for _ in range(3)]
    handle = await world.start(name="poison")
    assert await first.death() == 1
    for _ in range(2):
        assert await process(lease_ms=300).death() == 1
    await process(lease_ms=300).ready()
    assert await world.ended(handle) == "failed"
    assert effects.count(handle.id, "deadly") == 3
    for each in innocent:
        await each.result()
        assert effects.count(each.id, "after") == 1


@pytest.mark.any_server
async def test_sigterm_and_then_sigkill_costs_no_more_than_sigkill(
    world: World, process: StartProcess, effects: Effects
) -> None:
    """A step does not let go within the grace, and then the process is killed in the middle of its farewell."""
    first = await process(lease_ms=LEASE_MS).ready()
    stubborn = await world.start(name="stubborn")
    await effects.shows(stubborn.id, "begin")
    hanging = await world.start(60, name="long")
    await effects.shows(hanging.id, "begin")
    first.terminate()
    await effects.shows(stubborn.id, "stays")
    first.kill()
    second = await process(lease_ms=LEASE_MS).ready()
    began = time.monotonic()
    assert await stubborn.result() == [first.pid, second.pid]
    assert time.monotonic() - began < LEASE_MS / 1000 + 2
    assert (effects.count(stubborn.id, "one"), effects.count(stubborn.id, "begin")) == (1, 2)
    await effects.shows(hanging.id, "begin", 2)
    assert await world.client.cancel_run(hanging.id)
    for handle in (stubborn, hanging):
        state = await handle.get_state()
        assert state is not None
        assert state["attempt"] == 1


@pytest.mark.any_server
async def test_sigkill_at_any_moment_of_a_farewell(world: World, process: StartProcess, effects: Effects) -> None:
    """Under load, the second signal comes so many milliseconds after the first."""
    workers = [process(concurrency=5) for _ in range(4)]
    await start_processes(workers)
    handles = []
    for worker, later_s in zip(workers, (0, 0.003, 0.015), strict=False):
        noted = len(effects.all())
        handles += [await world.start(name=name) for name in ("steps", "flaky") * 6]
        await soon(lambda noted=noted: len(effects.all()) >= noted + 12, "progress")  # type: ignore[misc]
        worker.terminate()
        await asyncio.sleep(later_s)  # how long it lasts
        worker.kill()
    for handle in handles:
        await handle.result()
    calls = [(e.run_id, e.what) for e in effects.all() if not e.what.startswith("attempt")]
    assert len(calls) - len(set(calls)) <= 3 * 5 * 2, "two bodies at most in each of five slots of each killed worker"
    for handle in handles:
        state = await handle.get_state()
        assert state is not None
        assert state["attempt"] == (1 if effects.count(handle.id, "two") else 2)
