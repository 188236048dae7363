"""Idempotency keys: one run per (workflow, key) while it holds (spec 5.3)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from redflow import NonRetriableError, define_workflow, workflow
from tests.support.world import Context, World, eventually

WEEK_S = 7 * 86_400


async def handler(ctx: Context) -> object:
    return ctx.input


@pytest.fixture
async def registered(world: World) -> World:
    """The world with `w` and `other` known, and no worker."""
    define_workflow("w", handler=handler, registry=world.registry)
    define_workflow("other", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    return world


async def ttl_of(world: World, workflow_name: str, key: str) -> int:
    return int(await world.redis.ttl(f"{world.keys.base}idem:{len(workflow_name)}:{workflow_name}:{key}"))


async def test_a_hundred_concurrent_calls_make_one_run(registered: World) -> None:
    clients = [registered.client, *(registered.new_client() for _ in range(3))]
    handles = await asyncio.gather(
        *[clients[n % 4].emit_workflow("w", {"n": n}, idempotency_key="k") for n in range(100)]
    )
    assert len({handle.id for handle in handles}) == 1
    assert (await registered.client.get_stats())["total"] == 1


async def test_a_later_call_is_ignored_but_refreshes_the_ttl(registered: World) -> None:
    client = registered.client
    first = await client.emit_workflow("w", 1, idempotency_key="k", idempotency_ttl=100)
    assert 90 < await ttl_of(registered, "w", "k") <= 100
    at = datetime.now(UTC) + timedelta(hours=1)
    again = await client.emit_workflow("w", {"other": "input"}, idempotency_key="k", run_at=at)
    assert again == first
    state = await first.get_state()
    assert state is not None
    assert (state["input"], state["status"]) == (1, "queued")
    assert WEEK_S - 10 < await ttl_of(registered, "w", "k") <= WEEK_S


async def test_the_key_space_is_the_workflows(registered: World) -> None:
    client = registered.client
    ids = {
        (await client.emit_workflow("w", 1, idempotency_key="k")).id,
        (await client.emit_workflow("other", 1, idempotency_key="k")).id,
        (await client.emit_workflow("w", 1, idempotency_key="K")).id,
        (await client.emit_workflow("w", 1, idempotency_key="a*b?[c]")).id,
        (await client.emit_workflow("w", 1, idempotency_key="axbyc")).id,
        (await client.emit_workflow("w", 1)).id,
        (await client.emit_workflow("w", 1)).id,
    }
    assert len(ids) == 7


async def test_names_and_keys_with_colons_never_meet(registered: World) -> None:
    client = registered.client
    one = await client.run_by_name("a:b", 1, queue_override="q", idempotency_key="c")
    two = await client.run_by_name("a", 1, queue_override="q", idempotency_key="b:c")
    assert one.id != two.id


async def test_a_succeeded_run_still_counts(registered: World) -> None:
    await registered.worker()
    first = await registered.client.emit_workflow("w", 1, idempotency_key="k")
    assert await first.result() == 1
    again = await registered.client.emit_workflow("w", 2, idempotency_key="k")
    assert again.id == first.id
    assert await again.result() == 1


async def test_after_failure_cancel_or_loss_a_new_run_takes_the_key(registered: World) -> None:
    @workflow("bad", registry=registered.registry)
    async def bad(ctx: Context) -> None:
        raise NonRetriableError("no")

    await registered.worker()
    client = registered.client
    failed = await client.emit_workflow("bad", 1, idempotency_key="k")
    assert await registered.ended(failed) == "failed"
    later = datetime.now(UTC) + timedelta(hours=1)
    canceled = await client.emit_workflow("bad", 1, idempotency_key="k", run_at=later)
    assert canceled.id != failed.id
    assert await client.cancel_run(canceled.id)
    third = await client.emit_workflow("bad", 1, idempotency_key="k", run_at=later)
    assert third.id not in (failed.id, canceled.id)
    assert (await client.emit_workflow("bad", 1, idempotency_key="k")).id == third.id
    await client.reset_runs()
    assert (await client.emit_workflow("bad", 1, idempotency_key="k", run_at=later)).id != third.id


async def test_after_the_ttl_the_key_makes_a_new_run(registered: World) -> None:
    client = registered.client
    first = await client.emit_workflow("w", 1, idempotency_key="k", idempotency_ttl=1)

    async def gone() -> bool:
        return await ttl_of(registered, "w", "k") == -2

    await eventually(gone, "the key's end")
    assert (await client.emit_workflow("w", 1, idempotency_key="k")).id != first.id


@pytest.mark.parametrize("ttl", [0, -1, 1.5, True, "5", float("nan"), 10**12])
async def test_a_ttl_that_is_no_whole_number_of_seconds_is_refused(registered: World, ttl: int) -> None:
    with pytest.raises(ValueError, match="idempotency_ttl"):
        await registered.client.emit_workflow("w", 1, idempotency_key="k", idempotency_ttl=ttl)
    assert (await registered.client.get_stats())["total"] == 0


async def test_concurrent_takeover_of_a_failed_runs_key_makes_one_run(registered: World) -> None:
    client = registered.client
    first = await client.emit_workflow("w", 1, idempotency_key="k")
    await client.cancel_run(first.id)
    handles = await asyncio.gather(*[client.emit_workflow("w", n, idempotency_key="k") for n in range(50)])
    assert len({handle.id for handle in handles}) == 1
    assert handles[0].id != first.id
