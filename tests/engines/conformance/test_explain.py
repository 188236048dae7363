"""explain_run with real workers: waits, children, mutex, throttle and debounce, told in one sentence."""

from __future__ import annotations

import asyncio

from redflow import RunHandle, define_workflow
from redflow.types import JsonData, RunExplanation, WorkflowDebounceOptions, WorkflowRateLimitOptions
from tests.support.world import Context, World, eventually


async def explained(world: World, handle: RunHandle[JsonData], waits_for: str) -> RunExplanation:
    async def look() -> RunExplanation:
        explanation = await world.client.explain_run(handle.id)
        assert explanation is not None
        return explanation

    return await eventually(look, f"{handle} waits for {waits_for}", until=lambda seen: seen["waits_for"] == waits_for)


async def test_an_unknown_run_has_no_explanation(world: World) -> None:
    assert await world.client.explain_run("run_x") is None


async def test_waits(world: World) -> None:
    async def child(ctx: Context) -> None:
        await ctx.step.wait_for("nap", "1h")

    async def parent(ctx: Context) -> None:
        if ctx.input == "event":
            await ctx.step.wait_for_event("approval", "approved", "order-7", "2h")
        else:
            await ctx.step.run_workflow("ship", "child", None)

    define_workflow("child", handler=child, registry=world.registry)
    define_workflow("w", handler=parent, registry=world.registry)
    await world.worker()
    waits, parents = await world.start("event"), await world.start("child")
    event = await explained(world, waits, "event")
    assert event["reason"].startswith("It sleeps: step 'approval' waits for event 'approved' with key 'order-7', at ")
    awaited = await explained(world, parents, "child")
    [started] = [run for run in await world.client.list_runs() if run["workflow"] == "child"]
    assert awaited["reason"].startswith(f"It sleeps: step 'ship' waits for the child {started['id']} (")
    nap = await explained(world, world.client.make_run_handle(started["id"]), "time")
    assert nap["reason"].startswith("It sleeps: step 'nap' waits until 20")
    assert nap["until"] > 0
    await asyncio.gather(*[world.client.cancel_run(handle.id) for handle in (waits, parents)])


async def test_a_mutex(world: World) -> None:
    release = asyncio.Event()

    async def handler(ctx: Context) -> None:
        await release.wait()

    define_workflow("w", handler=handler, mutex=str, registry=world.registry)
    await world.worker()
    holder = await world.start("user-7")
    await world.reaches(holder, "running")
    second = await world.start("user-7")
    explanation = await explained(world, second, "mutex")
    assert explanation["reason"] == f"It is number 1 of 1 in line for the mutex 'user-7', held by {holder.id}."
    assert (explanation["held_by"], explanation["position"]) == ([holder.id], 1)
    release.set()
    await world.ended(second)


async def test_a_throttle(world: World) -> None:
    async def handler(ctx: Context) -> None: ...

    throttle = WorkflowRateLimitOptions(key=str, limit=1, period="1h")
    define_workflow("w", handler=handler, throttle=throttle, registry=world.registry)
    await world.worker()
    await world.ended(await world.start("a"))
    explanation = await explained(world, await world.start("a"), "throttle")
    assert explanation["reason"].startswith("It is number 1 of 1 in the line of its throttle, and that moves on at 20")
    assert explanation["until"] > 0


async def test_a_debounce(world: World) -> None:
    async def handler(ctx: Context) -> None: ...

    debounce = WorkflowDebounceOptions(key=str, period="1h")
    definition = define_workflow("w", handler=handler, debounce=debounce, registry=world.registry)
    assert definition.options.debounce is debounce
    await world.worker()
    explanation = await explained(world, await world.start("a"), "time")
    assert explanation["reason"].startswith("Its debounce waits for a later input until 20")
