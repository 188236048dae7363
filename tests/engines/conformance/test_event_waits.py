"""Waiting for events over retries, purges and replays (spec 8.5 and 9)."""

from __future__ import annotations

import asyncio
import time

from redflow import RunHandle, workflow
from redflow.types import JsonData, StepWaitForTarget, WorkflowRetryPolicy
from tests.support.world import Context, World, eventually, soon

Handle = RunHandle[JsonData]
DAY_MS = 86_400_000


async def test_the_deadline_is_kept_over_a_retry(world: World) -> None:
    seen: dict[int, int | None] = {}

    @workflow("w", retries=WorkflowRetryPolicy(delay=50), registry=world.registry)
    async def w(ctx: Context) -> object:
        async def fail_first() -> None:
            seen[ctx.run.attempt] = await eventually(lambda: deadline(ctx.run.attempt), "the wait")
            if ctx.run.attempt == 1:
                raise ValueError("first")

        event, _ = await asyncio.gather(
            ctx.step.wait_for_event("wait", "e", "k", "1h"), ctx.step.run("fail", fail_first)
        )
        return event and event["data"]

    async def deadline(attempt: int) -> int | None:
        for step in await world.client.get_run_steps(handle.id):
            if step["name"] == "wait" and step["attempt"] == attempt:
                return step.get("wait_until_at")
        return None

    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start()
    await world.worker()
    await soon(lambda: len(seen) == 2, "the second attempt")
    assert seen[1] == seen[2]
    assert (await world.client.emit_event_detailed("e", 7, correlation_key="k"))["resumed_run_ids"] == [handle.id]
    assert await handle.result() == 7


async def test_a_pointer_to_an_event_that_was_purged_is_ignored(world: World) -> None:
    client = world.client

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        async def emit_and_purge() -> int:
            await client.emit_event("e", 1, correlation_key="k")
            return await client.cleanup_expired_events_now(reference_time_ms=int(time.time() * 1000) + 40 * DAY_MS)

        assert await ctx.step.run("purge", emit_and_purge) == 1
        return await ctx.step.wait_for_event("wait", "e", "k", 20)

    assert await world.run() is None


async def test_a_blank_idempotency_key_of_a_step_means_the_steps_own(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        await ctx.step.emit_event("say", "e", 1, idempotency_key=" ")

    await world.run()
    assert len([key async for key in world.redis.scan_iter(match=f"{world.keys.base}evkey:1:e:*")]) == 1


async def test_names_and_keys_are_stripped(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        event = await ctx.step.wait_for_event("wait", " e ", " k ", "1h")
        return event and [event["name"], event["data"]]

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    [step] = await world.client.get_run_steps(handle.id)
    assert step["wait"] == {"kind": "event", "event": "e", "correlation_key": "k"}
    assert (await world.client.emit_event_detailed("  e", 1, correlation_key="k  "))["resumed_run_ids"] == [handle.id]
    assert await handle.result() == ["e", 1]


async def test_bad_arguments(world: World) -> None:
    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> list[str]:
        raised: list[str] = []
        bad: list[tuple[str, str, StepWaitForTarget]] = [
            (" ", "k", 1),
            ("e", " ", 1),
            ("e", "k", True),
            ("e", "k", -1),
            ("e", "k", float("nan")),
            ("e", "k", "soon"),
        ]
        for number, (event, key, timeout) in enumerate(bad):
            try:
                await ctx.step.wait_for_event(f"wait {number}", event, key, timeout)
            except Exception as exc:
                raised.append(type(exc).__name__)
        return raised

    assert await world.run() == ["ValueError"] * 2 + ["RedflowError"] * 4
    [run] = await world.client.list_runs()
    assert await world.client.get_run_steps(run["id"]) == []


async def test_an_event_reaches_no_run_that_was_canceled_meanwhile(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.wait_for_event("wait", "e", "k", "1h")

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    await world.client.cancel_run(handle.id)
    emitted = await world.client.emit_event_detailed("e", 1, correlation_key="k")
    assert emitted["resumed_run_ids"] == []
    assert await world.status(handle) == "canceled"
