"""kill -9 around the time-out of a run: it still ends, and its on_failure is called."""

from __future__ import annotations

import signal
import time

import pytest

from redflow.handle import RunHandle
from redflow.types import JsonData
from tests.faults.conftest import StartProcess
from tests.support.worker_process import Effects
from tests.support.world import World, soon

KILLED = -signal.SIGKILL


async def ends_of(world: World, handle: RunHandle[JsonData]) -> tuple[int, str, int]:
    """When a run times out, epoch ms, how it ended, and in which attempt."""
    await world.ended(handle)
    state = await handle.get_state()
    assert state is not None
    return state["timeout_at"], state["error"]["kind"], state["attempt"]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_run_whose_only_worker_was_killed_times_out(
    world: World, process: StartProcess, effects: Effects, waits: bool
) -> None:
    """At once if the next worker comes later than that, and at its time if it comes before."""
    first = process()
    await first.ready()
    handle = await world.client.emit_workflow("hangs", None, run_timeout_ms=2_500)
    await effects.shows(handle.id, "one")
    first.kill()
    assert await first.death() == KILLED
    state = await handle.get_state()
    assert state is not None
    due_at = state["timeout_at"]
    if waits:
        await soon(lambda: time.time() * 1000 > due_at, "its time, with no worker alive")
        assert await world.status(handle) == "running"
    await process().ready()
    assert await ends_of(world, handle) == (due_at, "timeout", 1)
    assert effects.count(handle.id, "hook-timeout") == 1
    assert effects.count(handle.id, "one") == 1


async def test_a_worker_that_dies_in_on_failure_leaves_it_to_the_next(
    world: World, process: StartProcess, effects: Effects
) -> None:
    first = process(die_at="hook")
    await first.ready()
    handle = await world.client.emit_workflow("hangs", None, run_timeout_ms=700)
    assert await first.death() == KILLED
    await process().ready()
    assert (await ends_of(world, handle))[1:] == ("timeout", 1)
    assert effects.count(handle.id, "hook-timeout") == 2
