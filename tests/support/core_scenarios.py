"""What every way to a server must be able to do: one short scenario for each thing that a run can do.

Used by the tests of Clusters, Sentinels and TLS; what these things mean in detail is the conformance suite's business.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from redflow import CronTrigger, EventTrigger, define_workflow, workflow
from redflow.engines.redis import results
from redflow.types import BlockingStepApi, ListRunsParams, SearchRunsParams, WorkflowRetryPolicy
from tests.support.worker_process import Effects, WorkerProcess
from tests.support.world import DEADLINE_S, BlockingContext, Context, World, eventually

Scenario = Callable[[World], Awaitable[None]]


async def runs_with_steps(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return [await ctx.step.run("one", lambda: ctx.input), await ctx.step.run("big", lambda: "x" * 40_000)]

    @workflow("plain", registry=world.registry)
    def plain(ctx: BlockingContext) -> object:
        step: BlockingStepApi = ctx.step
        return step.run("one", lambda: ctx.input)

    await world.worker()
    handles = [await world.start(n, name="plain" if n % 2 else "w") for n in range(20)]
    for n, handle in enumerate(handles):
        assert await handle.result() == (n if n % 2 else [n, "x" * 40_000])
    assert (await world.client.get_stats())["by_status"]["succeeded"] == 20


async def retries(world: World) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=20))
    async def w(ctx: Context) -> object:
        await ctx.step.run("one", world.did.append, "one")
        if ctx.run.attempt < 3:
            raise ValueError("not yet")
        return ctx.run.attempt

    assert await world.run() == 3
    assert world.did == ["one"]


async def sleeps(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.run("one", world.did.append, "one")
        await ctx.step.wait_for("nap", 50)
        return "awake"

    assert await world.run() == "awake"
    assert world.did == ["one"]


async def children(world: World) -> None:
    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> object:
        return [ctx.input]

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await asyncio.gather(*(ctx.step.run_workflow(f"c{n}", "child", n) for n in range(5)))

    assert await world.run() == [[n] for n in range(5)]


async def events(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        event = await ctx.step.wait_for_event("wait", "paid", "order-1", "1h")
        return event and event["data"]

    @workflow("sub", registry=world.registry, event=EventTrigger("paid"))
    async def sub(ctx: Context) -> None:
        world.did.append("sub")

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    emitted = await world.client.emit_event_detailed("paid", {"sum": 7}, correlation_key="order-1")
    assert emitted["resumed_run_ids"] == [handle.id]
    assert await handle.result() == {"sum": 7}
    await emitted["handles"][0].result()
    assert world.did == ["sub"]


async def cron(world: World) -> None:
    async def handler(ctx: Context) -> None:
        world.did.append(ctx.run.id)

    define_workflow("w", handler=handler, cron=[CronTrigger("*/1 * * * * *", timezone="UTC")], registry=world.registry)
    for _ in range(2):
        await world.worker()

    async def ran() -> int:
        return len(world.did)

    await eventually(ran, "a tick", until=lambda ticks: ticks >= 1)
    assert len(world.did) == len(set(world.did))


async def cancels(world: World) -> None:
    begun = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    handle = await world.begin()
    await begun.wait()
    assert await world.client.cancel_run(handle.id, reason="enough")
    assert await world.ended(handle) == "canceled"


async def lists_and_searches(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None: ...

    await world.worker()
    handles = [await world.start(n) for n in range(12)]
    for handle in handles:
        await handle.result()
    made = [handle.id for handle in handles]
    assert [run["id"] for run in await world.client.list_runs(ListRunsParams(sort="asc", limit=12))] == sorted(made)
    found = await world.client.search_runs(SearchRunsParams(workflow="w", limit=5))
    assert [run["id"] for run in found["runs"]] == sorted(made, reverse=True)[:5]


async def results_are_pushed(world: World) -> None:
    """Over a connection of their own; the slow check would come too late."""
    go = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await go.wait()
        return "told"

    handle = await world.begin()
    with patch.object(results, "CHECK_EVERY_S", 60.0):
        told = asyncio.ensure_future(handle.result(timeout_ms=DEADLINE_S * 1000))
        await world.waited_for(handle)
        go.set()
        assert await told == "told"


async def a_busy_worker_hands_over(world: World) -> None:
    """What a stopped worker held goes on at another, in the same attempt and with its steps kept."""
    begun, again = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.run("one", world.did.append, "one")
        if not begun.is_set():
            begun.set()
            await again.wait()
        return ctx.run.attempt

    first = await world.worker(replace(world.options(), lease_ms=30_000))
    handle = await world.start()
    await begun.wait()
    await world.worker()
    await first.stop()
    assert await handle.result() == 1
    assert world.did == ["one"]


async def a_killed_worker_is_replaced(world: World, directory: Path) -> None:
    """SIGKILL between two steps: another process goes on, and the step that was recorded is not called again."""
    effects = Effects(directory / "effects")
    first = WorkerProcess(world.url, world.prefix, effects, die_at="body:two", shards=world.shards)
    second: WorkerProcess | None = None
    try:
        await first.ready()
        handle = await world.start(name="steps")
        assert await first.death() == -signal.SIGKILL
        second = await WorkerProcess(world.url, world.prefix, effects, shards=world.shards).ready()
        assert len(await handle.result(timeout_ms=DEADLINE_S * 1000)) == 4
        assert (effects.count(handle.id, "one"), effects.count(handle.id, "two")) == (1, 2)
        assert await second.stop() == 0
    finally:
        for process in (first, second):
            if process is not None:
                process.discard()


CORE: tuple[Scenario, ...] = (
    runs_with_steps,
    retries,
    sleeps,
    children,
    events,
    cron,
    cancels,
    lists_and_searches,
    results_are_pushed,
    a_busy_worker_hands_over,
)
"""All of them."""


def name_of(scenario: Scenario) -> str:
    """For the test's id."""
    return getattr(scenario, "__name__", "?")
