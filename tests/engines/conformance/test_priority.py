"""Priority: of the ready runs of a queue those with a higher one start first."""

from __future__ import annotations

import asyncio
import math

import pytest

from redflow import CronTrigger, EventTrigger, define_workflow, set_default_client, workflow
from redflow.types import WorkflowCall
from tests.support.world import DEADLINE_S, Context, World, eventually, soon


async def nothing(ctx: Context) -> None:
    """A handler."""


async def test_higher_first_and_first_come_first_served_within_one(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append(str(ctx.input))

    await world.client.sync_registry(world.registry, app="app")
    handles = [
        await world.client.emit_workflow("w", f"{priority}.{number}", priority=priority)
        for number in range(3)
        for priority in (-100, 0, 1, 100)
    ]
    await world.small_worker(1)
    for handle in handles:
        await handle.result(timeout_ms=DEADLINE_S * 1000)
    assert world.did == [f"{priority}.{number}" for priority in (100, 1, 0, -100) for number in range(3)]


async def test_every_way_to_start_a_run_takes_one(world: World) -> None:
    definition = define_workflow("child", handler=nothing, priority=3, registry=world.registry)

    @workflow("w", registry=world.registry, priority=-5)
    async def w(ctx: Context) -> list[str]:
        emit = ctx.step.emit_workflow
        await ctx.step.run_workflow("awaited", "child", None, priority=8)
        return [
            await emit("own", definition, None),
            await emit("by-name", "child", None),
            await emit("given", definition, None, priority=7),
        ]

    await world.worker()
    set_default_client(world.client)
    try:
        first = await world.client.emit_workflow("w", None)
        handles = [
            first,
            await world.client.emit_workflow("w", None, priority=1),
            await world.client.emit_workflow("w", None, priority=0),
            await world.client.run_by_name("w", None, priority=2),
            await definition.run(None),
            await definition.run(None, priority=4),
            await definition.run(None, priority=0),
            *await world.client.emit_workflows([WorkflowCall("w"), WorkflowCall("w", priority=6)]),
        ]
    finally:
        set_default_client(None)
    told: list[int | None] = []
    for handle in handles:
        assert not isinstance(handle, Exception)
        await handle.result(timeout_ms=DEADLINE_S * 1000)
        state = await handle.get_state()
        assert state is not None
        told.append(state.get("priority"))
    assert told == [-5, 1, None, 2, 3, 4, None, -5, 6]
    children = [await world.client.get_run(run_id) for run_id in await first.result()]
    assert [child and child.get("priority") for child in children] == [3, 3, 7]
    [step, *_] = await world.client.get_run_steps(first.id)
    awaited = await world.client.get_run(step["child_run_id"])
    assert awaited is not None
    assert awaited["priority"] == 8
    listed = {run["id"]: run.get("priority") for run in await world.client.list_runs()}
    assert listed[first.id] == -5


async def test_runs_of_triggers_have_the_priority_of_their_workflow(world: World) -> None:
    ran = asyncio.Event()

    @workflow("w", registry=world.registry, priority=9, event=EventTrigger("paid"), cron=CronTrigger("* * * * * *"))
    async def w(ctx: Context) -> None:
        ran.set()

    await world.worker()
    [handle] = await world.client.emit_event("paid", {})
    state = await handle.get_state()
    assert state is not None
    assert state["priority"] == 9
    meta = await world.client.get_workflow_meta("w")
    assert meta is not None
    assert meta["priority"] == 9

    async def runs() -> int:
        return len([run for run in await world.client.list_runs() if run.get("priority") == 9])

    await eventually(runs, "the run of a tick", until=lambda count: count >= 2)


async def test_a_resumed_run_and_a_retried_one_keep_theirs(world: World) -> None:
    """The slot is taken while the others become ready, so that all of them stand in the line."""
    go, tries = asyncio.Event(), 0

    @workflow("blocker", registry=world.registry, priority=100)
    async def blocker(ctx: Context) -> None:
        world.did.append("blocker")
        await go.wait()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        nonlocal tries
        if ctx.input == "resumed":
            await ctx.step.wait_for_event("e", "go-on", "k", "1h")
        if ctx.input == "retried" and ctx.run.attempt == 1:
            tries += 1
            raise RuntimeError("once")
        world.did.append(str(ctx.input))

    await world.small_worker(1)
    resumed = await world.client.emit_workflow("w", "resumed", priority=10)
    await world.reaches(resumed, "scheduled")
    retried = await world.client.emit_workflow("w", "retried", priority=20)
    await soon(lambda: tries == 1, "the first attempt")
    await world.reaches(retried, "scheduled")
    blocking = await world.client.emit_workflow("blocker", None)
    await soon(lambda: world.did == ["blocker"], "the blocker")
    plain = [await world.client.emit_workflow("w", f"plain {n}") for n in range(2)]
    await world.client.emit_event("go-on", {}, correlation_key="k")
    await world.reaches(resumed, "queued")
    await world.reaches(retried, "queued")
    go.set()
    for handle in (blocking, resumed, retried, *plain):
        await handle.result(timeout_ms=DEADLINE_S * 1000)
    assert world.did == ["blocker", "retried", "resumed", "plain 0", "plain 1"]


@pytest.mark.parametrize("priority", [101, -101, 1.0, math.nan, True, "1", 10**400])
async def test_what_is_no_priority_is_refused_before_anything_is_written(world: World, priority: int) -> None:
    with pytest.raises(ValueError, match="priority must be a whole number from -100 to 100, got "):
        workflow("w", registry=world.registry, priority=priority)(nothing)
    with pytest.raises(ValueError, match="priority must be a whole number from -100 to 100, got "):
        await world.client.run_by_name("w", None, queue_override="q", priority=priority)
    [answer] = await world.client.emit_workflows([WorkflowCall("w", priority=priority)])
    assert isinstance(answer, ValueError)
    assert await world.key_count() == 0
