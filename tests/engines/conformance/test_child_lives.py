"""Children over the attempts, deaths and depths of their parents (spec 9)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from redflow import NonRetriableError, RedflowError, SearchRunsParams, UnknownWorkflowError, workflow
from redflow.errors import LimitExceededError
from redflow.types import WorkflowRetryPolicy
from tests.support.world import Context, World, eventually, soon

FAST = WorkflowRetryPolicy(delay=10)


async def test_a_child_that_lives_on_when_its_parents_attempt_fails_stays_its_child(world: World) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> str:
        world.did.append("child")
        await gate.wait()
        return "once"

    @workflow("w", retries=FAST, registry=world.registry)
    async def w(ctx: Context) -> object:
        async def fail_first() -> None:
            await soon(lambda: "child" in world.did, "the child")
            if ctx.run.attempt == 1:
                raise ValueError("first")

        output, _ = await asyncio.gather(ctx.step.run_workflow("c", child, None), ctx.step.run("fail", fail_first))
        return output

    async def second_attempt_sleeps() -> bool:
        state = await handle.get_state()
        return state is not None and (state["attempt"], state["status"]) == (2, "scheduled")

    await world.worker()
    handle = await world.start()
    await eventually(second_attempt_sleeps, "the second attempt in its wait")
    gate.set()
    assert await handle.result() == "once"
    assert world.did == ["child"]


async def test_a_child_that_never_began_is_tried_anew_after_a_sleep(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        try:
            await ctx.step.run_workflow("c", "nobody", None)
        except UnknownWorkflowError:
            await ctx.step.wait_for("nap", 20)
            return "twice unknown"
        return "?"

    assert await world.run() == "twice unknown"


async def test_children_nest_a_hundred_deep(world: World) -> None:
    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append(str(ctx.input))
        try:
            await ctx.step.run_workflow("down", "w", ctx.input + 1)
        except LimitExceededError as exc:
            raise NonRetriableError(str(exc)) from exc

    await world.worker()
    handle = await world.start(0)
    with pytest.raises(RedflowError):
        await handle.result()
    assert max(map(int, world.did)) == 100
    [deepest] = (await world.client.search_runs(SearchRunsParams(query="at most 100 levels", limit=1, sort="desc")))[
        "runs"
    ]
    assert deepest["status"] == "failed"


async def test_a_lost_lease_does_not_cancel_the_child(world: World) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> str:
        world.did.append("child")
        await gate.wait()
        return "once"

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("parent")
        if world.did.count("parent") == 1:  # something that is no wait keeps the first pass awake
            await asyncio.gather(ctx.step.run_workflow("c", child, None), asyncio.Event().wait())
        return await ctx.step.run_workflow("c", child, None)

    worker = await world.worker(replace(world.options(), lease_ms=300))
    handle = await world.start()
    await soon(lambda: "child" in world.did, "the child")
    worker._executor.interrupt(handle.id.removeprefix("run_").replace("-", ""), "lost")
    await soon(lambda: world.did.count("parent") == 2, "the parent's second pass")
    await world.reaches(handle, "scheduled")
    gate.set()
    assert await handle.result() == "once"
    assert world.did.count("child") == 1
    state = await handle.get_state()
    assert state is not None
    assert state["attempt"] == 1
