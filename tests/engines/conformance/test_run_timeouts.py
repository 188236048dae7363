"""timeout_ms of a whole run: from its first start to its end, over retries, sleeps and waits."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import pytest

from redflow import (
    CanceledError,
    OnFailureContext,
    RedflowError,
    TimeoutError,
    define_workflow,
    run_inline,
    set_default_client,
    workflow,
)
from redflow.handle import RunHandle
from redflow.types import JsonData, RunState, WorkflowCall, WorkflowRetryPolicy
from tests.support.world import DEADLINE_S, BlockingContext, Context, World, eventually, soon

LONG = "1h"


async def timed_out(world: World, handle: RunHandle[JsonData], name: str = "w") -> RunState:
    """Wait until a run has failed by its time-out; its state."""
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    error = state["error"]
    assert (error["name"], error["kind"]) == ("TimeoutError", "timeout")
    assert error["message"].startswith(f"Run timed out: {name} after ")
    assert state["finished_at"] >= state["timeout_at"]
    return state


async def test_a_running_handler_is_interrupted_like_by_a_cancel(world: World) -> None:
    tasks: list[str] = []

    @workflow("w", registry=world.registry, timeout_ms=500, max_attempts=5)
    async def w(ctx: Context) -> None:
        world.did.append(f"attempt {ctx.run.attempt}")
        try:
            await ctx.step.run("slow", asyncio.sleep, 3600)
        except asyncio.CancelledError:
            tasks.append("canceled, signal set" if ctx.signal.is_set() else "canceled")
            raise

    started = time.monotonic()
    handle = await world.begin()
    state = await timed_out(world, handle)
    assert time.monotonic() - started < 10
    assert tasks == ["canceled, signal set"]
    assert world.did == ["attempt 1"]  # not retried
    assert state["attempt"] == 1
    assert state["timeout_at"] == state["started_at"] + 500
    assert state["error"]["message"] == "Run timed out: w after 500 ms"
    with pytest.raises(RedflowError, match="Run timed out: w after 500 ms") as caught:
        await handle.result()
    assert caught.value.error is not None
    assert caught.value.error["kind"] == "timeout"
    [attempt] = await world.client.get_run_attempts(handle.id)
    assert (attempt["status"], attempt["error"]["kind"]) == ("failed", "timeout")
    [step] = await world.client.get_run_steps(handle.id)
    assert step["status"] == "canceled"
    assert not await world.client.cancel_run(handle.id)


async def test_a_plain_handler_is_interrupted_too(world: World) -> None:
    @workflow("w", registry=world.registry, timeout_ms=500)
    def w(ctx: BlockingContext) -> None:
        ctx.signal.wait_blocking(DEADLINE_S)
        world.did.append("told" if ctx.signal.is_set() else "not told")

    await timed_out(world, await world.begin())
    await soon(lambda: world.did == ["told"], "the end of the thread")


async def test_a_handler_that_does_not_let_go_is_abandoned(world: World) -> None:
    go, calls = asyncio.Event(), 0

    def tell(context: OnFailureContext) -> None:
        nonlocal calls
        calls += 1

    @workflow("w", registry=world.registry, timeout_ms=100, on_failure=tell)
    async def w(ctx: Context) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                world.did.append("held on")

    await timed_out(world, await world.begin())
    go.set()
    assert (world.did, calls) == (["held on"], 1)


@pytest.mark.parametrize("wait", ["sleep", "event", "child", "retry"])
async def test_it_ends_a_run_that_waits_for_something_else(world: World, wait: str) -> None:
    failures: list[OnFailureContext] = []

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> str:
        return str(await ctx.step.wait_for_event("e", "go-on", "k", LONG))

    @workflow(
        "w",
        registry=world.registry,
        timeout_ms=1_000,
        on_failure=failures.append,
        retries=WorkflowRetryPolicy(max_attempts=9, delay=LONG),
    )
    async def w(ctx: Context) -> None:
        world.did.append("handler")
        if wait == "sleep":
            await ctx.step.wait_for("s", LONG)
        if wait == "event":
            await ctx.step.wait_for_event("s", "go-on", "k", LONG)
        if wait == "child":
            await ctx.step.run_workflow("s", "child", None)
        raise RuntimeError("fails at once")

    handle = await world.begin()
    state = await timed_out(world, handle)
    assert state["attempt"] == 1
    assert world.did == ["handler"]
    assert [(type(seen.error), str(seen.error), seen.run.attempt) for seen in failures] == [
        (TimeoutError, "Run timed out: w after 1000 ms", 1)
    ]
    assert "available_at" not in state
    if wait == "child":  # only a cancel goes down the tree
        [step] = await world.client.get_run_steps(handle.id)
        alive = await world.client.get_run(step["child_run_id"])
        assert alive is not None
        assert alive["status"] == "scheduled"
    [handed] = [await world.client.emit_event("go-on", {}, correlation_key="k")]
    assert handed == []
    assert (await timed_out(world, handle))["finished_at"] == state["finished_at"]


async def test_a_run_without_on_failure_ends_without_any_worker_of_its_own(world: World) -> None:
    """The script ends it, whoever calls it: a worker of another queue, or one that knows other workflows only."""

    @workflow("w", registry=world.registry, timeout_ms=1_500)
    async def w(ctx: Context) -> None:
        await ctx.step.wait_for("s", LONG)

    worker = await world.worker()
    handle = await world.start()
    await world.reaches(handle, "scheduled")
    await worker.stop()
    state = await handle.get_state()
    assert state is not None
    ends = state["timeout_at"]
    await soon(lambda: time.time() * 1000 > ends, "its time, with no worker alive")
    assert await world.status(handle) == "scheduled"
    await world.worker(replace(world.options(), queues=["another"]))
    await timed_out(world, handle)


async def test_a_run_in_line_for_a_slot_times_out(world: World) -> None:
    go, tries = asyncio.Event(), 0

    @workflow("w", registry=world.registry, max_concurrency=1, retries=WorkflowRetryPolicy(max_attempts=2, delay=1))
    async def w(ctx: Context) -> None:
        nonlocal tries
        if ctx.input == "holder":
            world.did.append("holds")
            await go.wait()
        elif ctx.run.attempt == 1:
            tries += 1
            await ctx.step.wait_for_event("e", "go-on", "k", LONG)
        else:
            world.did.append("must not run")

    await world.worker()
    handle = await world.client.emit_workflow("w", None, run_timeout_ms=2_000)
    await world.reaches(handle, "scheduled")
    holder = await world.start("holder")
    await soon(lambda: world.did == ["holds"], "the holder of the slot")
    await world.client.emit_event("go-on", {}, correlation_key="k")
    await timed_out(world, handle)
    go.set()
    await holder.result()
    assert world.did == ["holds"]


async def test_a_mutex_is_handed_on_when_its_holder_has_let_go(world: World) -> None:
    @workflow("w", registry=world.registry, mutex=lambda _: "m")
    async def w(ctx: Context) -> None:
        world.did.append(f"enter {ctx.input}")
        try:
            if ctx.input == "first":
                await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            world.did.append(f"leave {ctx.input}")

    await world.worker()
    first = await world.client.emit_workflow("w", "first", run_timeout_ms=1_500)
    await soon(lambda: world.did == ["enter first"], "the first one")
    second = await world.start("second")
    await timed_out(world, first)
    await second.result(timeout_ms=DEADLINE_S * 1000)
    assert world.did == ["enter first", "leave first", "enter second", "leave second"]


async def test_time_before_the_first_start_does_not_count(world: World) -> None:
    @workflow("w", registry=world.registry, timeout_ms=5_000)
    async def w(ctx: Context) -> str:
        return "done"

    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start()
    state = await handle.get_state()
    assert state is not None
    assert "timeout_at" not in state
    await world.worker()
    assert await handle.result() == "done"
    state = await handle.get_state()
    assert state is not None
    assert state["timeout_at"] == state["started_at"] + 5_000
    [listed] = await world.client.list_runs()
    assert listed["timeout_at"] == state["timeout_at"]


async def test_every_way_to_start_a_run_takes_one(world: World) -> None:
    async def nothing(ctx: Context) -> None:
        return None

    child = define_workflow("child", handler=nothing, timeout_ms="3s", registry=world.registry)

    @workflow("w", registry=world.registry, timeout_ms=50_000)
    async def w(ctx: Context) -> list[str]:
        await ctx.step.run_workflow("awaited", child, None, run_timeout_ms="4s", timeout_ms=60_000)
        emit = ctx.step.emit_workflow
        return [await emit("own", child, None), await emit("given", "child", None, run_timeout_ms=5_000)]

    await world.worker()
    set_default_client(world.client)
    try:
        first = await world.start()
        handles = [
            first,
            await world.client.emit_workflow("w", None, run_timeout_ms="1m"),
            await world.client.run_by_name("w", None, run_timeout_ms=70_000),
            await child.run(None),
            await child.run(None, run_timeout_ms=7_000),
            *await world.client.emit_workflows([WorkflowCall("w"), WorkflowCall("w", run_timeout_ms=80_000)]),
        ]
    finally:
        set_default_client(None)

    async def limit_of(run_id: str) -> int:
        state = await world.client.get_run(run_id)
        assert state is not None
        return state["timeout_at"] - state["started_at"]

    limits: list[int] = []
    for handle in handles:
        assert not isinstance(handle, Exception)
        await handle.result(timeout_ms=DEADLINE_S * 1000)
        limits.append(await limit_of(handle.id))
    assert limits == [50_000, 60_000, 70_000, 3_000, 7_000, 50_000, 80_000]
    [awaited, *_] = await world.client.get_run_steps(first.id)
    children = [awaited["child_run_id"], *await first.result()]
    for run_id in children:
        await world.ended(world.client.make_run_handle(run_id))
    assert [await limit_of(run_id) for run_id in children] == [4_000, 3_000, 5_000]
    meta = await world.client.get_workflow_meta("child")
    assert meta is not None
    assert meta["timeout_ms"] == 3_000


async def test_a_parent_is_told_like_of_any_failure(world: World) -> None:
    @workflow("child", registry=world.registry, timeout_ms=100)
    async def child(ctx: Context) -> None:
        await ctx.step.wait_for("s", LONG)

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> None:
        await ctx.step.run_workflow("child", child, None)

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert state["error"]["message"].startswith("Run failed: ")
    assert "Run timed out: child after 100 ms" in state["error"]["message"]


async def test_nothing_new_begins_after_it(world: World) -> None:
    @workflow("w", registry=world.registry, timeout_ms=500)
    async def w(ctx: Context) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            for name in ("one", "two"):
                try:
                    await ctx.step.run(name, world.did.append, name)
                except asyncio.CancelledError:
                    world.did.append("refused")

    await timed_out(world, await world.begin())
    assert world.did == ["refused", "refused"]


async def test_a_cancel_and_a_time_out_end_in_one(world: World) -> None:
    """Whichever was first; whoever looks sees the same, and on_failure is called for a time-out only."""
    failed: list[str] = []

    def tell(context: OnFailureContext) -> None:
        failed.append(context.run.id)

    @workflow("w", registry=world.registry, on_failure=tell)
    async def w(ctx: Context) -> None:
        await ctx.step.wait_for("s", LONG)

    await world.worker()
    handles = [await world.client.emit_workflow("w", None, run_timeout_ms=1_000) for _ in range(60)]
    canceled = await asyncio.gather(*[_cancel_at(world, run, 0.9 + n / 300) for n, run in enumerate(handles)])
    for handle, won in zip(handles, canceled, strict=True):
        assert await world.ended(handle) == ("canceled" if won else "failed")
        if won:
            with pytest.raises(CanceledError):
                await handle.result()
    assert sorted(failed) == sorted(handle.id for handle, won in zip(handles, canceled, strict=True) if not won)


async def test_an_end_and_a_time_out_end_in_one(world: World) -> None:
    failed: list[str] = []

    def tell(context: OnFailureContext) -> None:
        failed.append(context.run.id)

    @workflow("w", registry=world.registry, timeout_ms=500, on_failure=tell)
    async def w(ctx: Context) -> str:
        await asyncio.sleep(0.45 + ctx.input / 600)
        return "done"

    await world.small_worker(60)
    handles = [await world.start(n) for n in range(60)]
    succeeded = [await world.ended(handle) == "succeeded" for handle in handles]
    for handle, won in zip(handles, succeeded, strict=True):
        state = await handle.get_state()
        assert state is not None
        assert (state["finished_at"] < state["timeout_at"]) == won
        assert ("output" in state, "error" in state) == (won, not won)
    assert sorted(failed) == sorted(handle.id for handle, won in zip(handles, succeeded, strict=True) if not won)


async def _cancel_at(world: World, handle: RunHandle[JsonData], delay_s: float) -> bool:
    await asyncio.sleep(delay_s)
    return await world.client.cancel_run(handle.id)


async def test_explain_says_when(world: World) -> None:
    @workflow("w", registry=world.registry, timeout_ms=LONG)
    async def w(ctx: Context) -> None:
        await ctx.step.wait_for("s", "2h")

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    explanation = await world.client.explain_run(handle.id)
    state = await handle.get_state()
    assert explanation is not None
    assert state is not None
    assert explanation["timeout_at"] == state["timeout_at"]
    assert "; it times out at " in explanation["reason"]
    assert explanation["reason"].endswith(".")


@pytest.mark.parametrize("limit", [0, -1, "0s", "soon", math.nan, math.inf, True, "3651d", 10**16])
async def test_what_is_no_time_out_is_refused_before_anything_is_written(world: World, limit: float | str) -> None:
    async def nothing(ctx: Context) -> None:
        return None

    with pytest.raises((ValueError, RedflowError), match=r"^timeout_ms"):
        define_workflow("w", handler=nothing, timeout_ms=limit, registry=world.registry)
    with pytest.raises((ValueError, RedflowError), match=r"^run_timeout_ms"):
        await world.client.run_by_name("w", None, queue_override="q", run_timeout_ms=limit)
    [answer] = await world.client.emit_workflows([WorkflowCall("w", run_timeout_ms=limit)])
    assert isinstance(answer, ValueError | RedflowError)
    assert await world.key_count() == 0


async def test_run_inline_does_not_count_it(world: World) -> None:
    """It runs one attempt with a time-out of its own, `timeout_s`."""

    @workflow("w", registry=world.registry, timeout_ms=1)
    async def w(ctx: Context) -> str:
        await ctx.step.wait_for("s", 5)
        return "done"

    assert (await run_inline(w, None)).output == "done"


async def test_they_are_met_without_polling(world: World) -> None:
    """A worker that has nothing else to do sleeps until then."""

    @workflow("w", registry=world.registry, timeout_ms=700)
    async def w(ctx: Context) -> None:
        await ctx.step.wait_for("s", LONG)

    await world.worker(replace(world.options(), blmove_timeout_sec=30, lease_ms=30_000))
    handle = await world.start()
    state = await timed_out(world, handle)
    assert state["finished_at"] - state["timeout_at"] < 500
    await eventually(world.key_count, "the keys")
