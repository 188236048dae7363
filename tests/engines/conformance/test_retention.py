"""Retention, purge, reset_state, reset_runs (spec 12)."""

from __future__ import annotations

import asyncio
import time

import pytest

from redflow import NonRetriableError, RedflowClient, define_workflow, workflow
from redflow.engines.redis.keys import Keys
from tests.support.world import Context, World, eventually

DAY_MS = 86_400_000


async def handler(ctx: Context) -> object:
    if ctx.input == "fail":
        raise NonRetriableError("x" * 40_000)
    await ctx.step.run("s", lambda: "y" * 40_000)
    return ctx.input


async def finished_runs(world: World, *values: object) -> list[str]:
    """Ids of runs of `w` that have ended."""
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    handles = [await world.start(value) for value in values]
    for handle in handles:
        await world.ended(handle)
    await world.stop_workers()
    return [handle.id for handle in handles]


async def run_keys(world: World) -> list[str]:
    """What is kept of runs, beside the registry."""
    keys = [key.decode() async for key in world.redis.scan_iter(match=f"{world.keys.base}*", count=1000)]
    names = [key.removeprefix(world.keys.base) for key in keys]
    return [n for n in names if n.startswith(("run:", "big:", "idx:", "expiry:", "waiters:", "ready:", "line:"))]


async def test_a_run_is_kept_for_its_retention_and_purged_whole_after_it(world: World) -> None:
    ids = await finished_runs(world, "a", "fail", "z" * 40_000)
    purge = world.client.cleanup_expired_runs_now
    now = int(time.time() * 1000)
    assert await purge() == 0
    assert await purge(reference_time_ms=now + 30 * DAY_MS - 60_000) == 0
    assert await purge(reference_time_ms=now + 30 * DAY_MS + 60_000) == 3
    assert await run_keys(world) == []
    for run_id in ids:
        assert await world.client.get_run(run_id) is None
        assert await world.client.get_run_steps(run_id) == []
        assert await world.client.get_run_attempts(run_id) == []
    assert (await world.client.get_stats())["total"] == 0


async def test_limit_counts_and_unfinished_runs_are_never_purged(world: World) -> None:
    await finished_runs(world, *range(5))
    waiting = await world.start("later")
    purge = world.client.cleanup_expired_runs_now
    future = int(time.time() * 1000) + 400 * DAY_MS
    assert await purge(reference_time_ms=future, limit=2) == 2
    assert await purge(reference_time_ms=future, limit=0) == 1, "the limit is at least 1"
    assert await purge(reference_time_ms=future) == 2
    assert await purge(reference_time_ms=future) == 0
    assert await world.status(waiting) == "queued"


async def test_the_default_limit_is_a_hundred(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handles = await asyncio.gather(*[world.start(n) for n in range(330)])
    await asyncio.gather(*[world.client.cancel_run(handle.id) for handle in handles])
    future = int(time.time() * 1000) + 400 * DAY_MS
    purge = world.client.cleanup_expired_runs_now
    assert await purge(reference_time_ms=future) == 100
    assert await purge(reference_time_ms=future, limit=1_000) == 230
    assert await purge(reference_time_ms=future) == 0


async def test_the_retention_is_the_finishing_clients(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    client = RedflowClient(world.redis, world.prefix, run_history_retention_ms=50.9)
    assert client.run_history_retention_ms == 50
    short, long = await world.start(1), await world.start(2)
    await client.cancel_run(short.id)
    await world.client.cancel_run(long.id)

    async def purged() -> int:
        return await client.cleanup_expired_runs_now()

    assert await eventually(purged, "the end of 50 ms") == 1
    assert await short.get_state() is None
    assert await world.status(long) == "canceled"
    await client.engine.close()


async def test_workers_purge_by_themselves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDFLOW_RUN_RETENTION_DAYS", "0.000001")  # 86 ms
    define_workflow("w", handler=handler, registry=world.registry)
    options = world.options()
    options.run_history_cleanup_interval_ms = 1
    await world.worker(options)
    handle = await world.start(1)
    assert await handle.result() == 1
    await world.reaches(handle, "gone")
    await eventually(lambda: run_keys(world), "an empty prefix", until=lambda keys: keys == [])


async def test_a_purged_runs_idempotency_key_makes_a_new_run(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    first = await world.client.emit_workflow("w", 1, idempotency_key="k")
    await first.result()
    await world.client.cleanup_expired_runs_now(reference_time_ms=int(time.time() * 1000) + 31 * DAY_MS)
    second = await world.client.emit_workflow("w", 2, idempotency_key="k")
    assert second.id != first.id
    assert await second.result() == 2


async def test_reset_state_removes_exactly_this_prefix(world: World) -> None:
    inner = World(world.url, f"{world.prefix}:inner")
    sibling = World(world.url, f"{world.prefix}x")
    worlds = (world, inner, sibling)
    try:
        for each in worlds:
            define_workflow("w", handler=handler, registry=each.registry)
            await each.client.sync_registry(each.registry, app="app")
            await each.client.emit_workflow("w", 1, idempotency_key="k")
        reply = await world.client.reset_state()
        keys = [key async for key in world.redis.scan_iter(match=f"{Keys.of(world.prefix).base}*", count=1000)]
        assert keys == []
        assert set(reply) == {"deleted"}
        assert reply["deleted"] > 3
        assert await world.client.reset_state() == {"deleted": 0}
        for each in (inner, sibling):
            assert (await each.client.get_stats())["total"] == 1
            await each.client.reset_state()
    finally:
        await inner.close()
        await sibling.close()


async def test_reset_runs_keeps_metadata_and_idempotency_keys(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    before = await world.client.get_workflow_meta("w")
    first = await world.client.emit_workflow("w", 1, idempotency_key="k")
    await world.client.run_by_name("parked", 1, queue_override="q")
    assert (await world.client.reset_runs())["deleted"] > 0
    assert await first.get_state() is None
    assert (await world.client.get_stats())["total"] == 0
    assert await world.client.get_workflow_meta("w") == before
    kept = f"{world.keys.base}idem:1:w:k"
    assert await world.redis.get(kept) is not None, "kept, and points to nothing"
    second = await world.client.emit_workflow("w", 2, idempotency_key="k")
    assert second.id != first.id
    assert await run_keys(world) != []


@pytest.mark.parametrize("empty", ["", ":", "::"])
async def test_an_empty_prefix_is_never_reset(world: World, empty: str) -> None:
    client = RedflowClient(world.redis, empty)
    for reset in (client.reset_state, client.reset_runs):
        with pytest.raises(ValueError, match="prefix"):
            await reset()
    await client.engine.close()


async def test_nothing_is_left_of_many_finished_runs(world: World) -> None:
    """Every key that runs made is gone with them, whatever they went through."""

    @workflow("v", registry=world.registry, max_concurrency=2)
    async def v(ctx: Context) -> object:
        await ctx.step.run("s", lambda: "y" * (ctx.input * 9000))
        await ctx.step.wait_for("nap", 5)
        return "z" * (ctx.input * 9000)

    ids = await finished_runs(world, "fail", "ok")
    await world.worker()
    handles = [await world.start(n, name="v") for n in range(8)]
    for handle in handles:
        await handle.result()
    await world.stop_workers()
    future = int(time.time() * 1000) + 31 * DAY_MS
    assert await world.client.cleanup_expired_runs_now(reference_time_ms=future) == len(ids) + 8
    assert await run_keys(world) == []
