"""Creating runs: emit_workflow, run_by_name, queues, parking, run_at (spec 5.1, 5.2)."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from redflow import UnknownWorkflowError, define_workflow, set_default_client, workflow
from redflow.errors import LimitExceededError
from redflow.types import RunState
from tests.support.world import BlockingContext, Context, World


async def handler(ctx: Context) -> object:
    return ctx.input


async def state_of(world: World, run_id: str) -> RunState:
    state = await world.client.get_run(run_id)
    assert state is not None
    return state


async def register(world: World, app: str = "app") -> None:
    """What a worker does at its start, without the worker."""
    await world.client.sync_registry(world.registry, app=app)


async def test_a_new_run_is_queued_with_the_synced_queue_and_attempts(world: World) -> None:
    define_workflow("w", handler=handler, queue="mail", max_attempts=5, registry=world.registry)
    await register(world)
    before = time.time() * 1000
    handle = await world.client.emit_workflow("w", {"a": 1})
    state = await state_of(world, handle.id)
    assert re.fullmatch(r"run_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", handle.id)
    assert abs(state["created_at"] - before) < 10_000
    assert state == {
        "id": handle.id,
        "workflow": "w",
        "queue": "app:mail",
        "status": "queued",
        "input": {"a": 1},
        "attempt": 0,
        "max_attempts": 5,
        "created_at": state["created_at"],
    }


async def test_max_attempts_override_then_metadata_then_three(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    define_workflow("five", handler=handler, max_attempts=5, registry=world.registry)
    await register(world)
    expected = [("w", None, 3), ("five", None, 5), ("five", 2, 2), ("five", 4.9, 4), ("five", True, 5), ("w", 0, 3)]
    for name, override, attempts in expected:
        handle = await world.client.run_by_name(name, None, max_attempts_override=override)
        assert (await state_of(world, handle.id))["max_attempts"] == attempts, (name, override)
    parked = await world.client.run_by_name("nowhere", None, queue_override="q")
    assert (await state_of(world, parked.id))["max_attempts"] == 3


async def test_an_unknown_workflow_is_refused_with_near_names(world: World) -> None:
    define_workflow("send_invoice", handler=handler, registry=world.registry)
    await register(world)
    with pytest.raises(UnknownWorkflowError) as caught:
        await world.client.emit_workflow("send_invoise", {})
    assert str(caught.value) == "Unknown workflow: send_invoise"
    assert caught.value.workflow_name == "send_invoise"
    assert caught.value.near_names == ("send_invoice",)
    assert await world.client.get_stats() == {
        "total": 0,
        "by_status": dict.fromkeys(("scheduled", "queued", "running", "succeeded", "failed", "canceled"), 0),
    }


async def test_an_unsynced_workflow_with_a_queue_is_accepted_and_parked_until_a_worker_comes(world: World) -> None:
    other = world.new_client(app="another")  # a client's app must not decide where a parked run goes
    handles = [await other.run_by_name("w", n, queue_override="q") for n in range(3)]
    assert [await world.status(handle) for handle in handles] == ["queued"] * 3

    @workflow("w", registry=world.registry, queue="q")
    async def w(ctx: Context) -> object:
        world.did.append(str(ctx.input))
        return ctx.run.queue

    await world.small_worker()
    assert [await handle.result() for handle in handles] == ["app:q"] * 3
    assert world.did == ["0", "1", "2"], "first come first served"
    assert (await state_of(world, handles[0].id))["queue"] == "app:q"


async def test_a_parked_run_with_a_time_waits_for_both(world: World) -> None:
    at = datetime.now(UTC) + timedelta(milliseconds=150)
    handle = await world.client.run_by_name("w", None, queue_override="q", run_at=at)
    assert await world.status(handle) == "scheduled"
    define_workflow("other", handler=handler, registry=world.registry)
    await world.worker()  # promotes the due run, but doesn't know its workflow
    await world.reaches(handle, "queued")
    define_workflow("w", handler=handler, queue="q", registry=world.registry)
    await world.worker()
    assert await handle.result() is None


async def test_defn_run_works_before_any_worker(world: World) -> None:
    @workflow("w", registry=world.registry, queue="q", max_attempts=7)
    async def w(ctx: Context) -> object:
        return ctx.input

    set_default_client(world.client)
    try:
        handle = await w.run({"x": (1, "é")}, parent_run_id="whoever")
        overridden = await w.run(None, queue_override="elsewhere")
    finally:
        set_default_client(None)
    state = await state_of(world, handle.id)
    assert (state["max_attempts"], state["parent_run_id"], state["status"]) == (7, "whoever", "queued")
    await world.worker(replace(world.options(), queues=["q", "elsewhere"]))
    assert await handle.result() == {"x": [1, "é"]}
    assert await overridden.result() is None
    assert (await state_of(world, overridden.id))["queue"] == "app:elsewhere"


async def test_queue_override_of_a_registered_workflow_is_scoped_by_its_app(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await register(world)
    client = world.new_client(app="another")
    expected = {"q": "app:q", "app:q": "app:q", " ": "app:default", "other:q": "app:other:q"}
    for given, stored in expected.items():
        if given.strip():
            handle = await client.run_by_name("w", None, queue_override=given)
            assert (await state_of(world, handle.id))["queue"] == stored


async def test_a_worker_serves_the_scoped_queues_it_is_given(world: World) -> None:
    define_workflow("w", handler=handler, queue="a", registry=world.registry)
    await world.worker(replace(world.options(), queues=["b", "app:c"]))
    left = await world.client.emit_workflow("w", 0)
    taken = [await world.client.run_by_name("w", n, queue_override=q) for n, q in enumerate(("b", "c"), 1)]
    assert [await handle.result() for handle in taken] == [1, 2]
    assert await world.status(left) == "queued"


async def test_no_queues_claims_nothing_but_metadata_and_loops_work(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    worker = await world.worker(replace(world.options(), queues=[]))
    assert worker.queues == []
    assert "serves no queue" in caplog.text
    assert await world.client.list_workflows() == ["w"]
    at = datetime.now(UTC) + timedelta(milliseconds=50)
    handle = await world.client.emit_workflow("w", None, run_at=at)
    assert await world.status(handle) == "scheduled"
    await world.reaches(handle, "queued")


async def test_run_at_in_the_future_schedules_and_in_the_past_queues(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await register(world)
    soon = datetime.now(UTC) + timedelta(hours=1)
    scheduled = await state_of(world, (await world.client.emit_workflow("w", 1, run_at=soon)).id)
    assert scheduled["status"] == "scheduled"
    assert scheduled["available_at"] == math.floor(soon.timestamp() * 1000)
    past = datetime.now(UTC) - timedelta(hours=1)
    for at in (past, datetime.fromtimestamp(past.timestamp())):  # noqa: DTZ006 - naive means local time
        queued = await state_of(world, (await world.client.emit_workflow("w", 1, run_at=at)).id)
        assert queued["status"] == "queued"
        assert "available_at" not in queued
    local = datetime.now() + timedelta(hours=1)  # noqa: DTZ005 - naive means local time
    naive = await state_of(world, (await world.client.emit_workflow("w", 1, run_at=local)).id)
    assert naive["available_at"] == math.floor(local.timestamp() * 1000)


async def test_a_run_never_starts_before_its_time_and_soon_after(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    at = datetime.now(UTC) + timedelta(milliseconds=250)
    handle = await world.client.emit_workflow("w", 1, run_at=at)
    await handle.result()
    state = await state_of(world, handle.id)
    assert state["started_at"] >= math.floor(at.timestamp() * 1000)
    assert "available_at" not in state


async def test_first_in_first_out_per_queue(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append(str(ctx.input))

    await register(world)
    handles = [await world.client.emit_workflow("w", n) for n in range(20)]
    await world.small_worker()
    for handle in handles:
        await handle.result()
    assert world.did == [str(n) for n in range(20)]


async def test_plain_and_async_handlers_run_and_none_is_an_output(world: World) -> None:
    @workflow("plain", registry=world.registry)
    def plain(ctx: BlockingContext) -> object:
        return ctx.input

    @workflow("none", registry=world.registry)
    async def none(ctx: Context) -> None:
        return None

    values: list[object] = ["", None, False, 0, [], {}, [[]], {"a": {}}, "é\u2028", 2**64 - 1, -(2**63), 1.5]
    for value in values:
        assert await world.run(value, name="plain") == value
    handle = await world.start(name="none")
    assert await handle.result() is None
    state = await state_of(world, handle.id)
    assert state["output"] is None
    assert "error" not in state


async def test_blank_queues(world: World) -> None:
    for start in (world.client.run_by_name("w", 1, queue_override=""), world.client.emit_workflow("w", 1)):
        with pytest.raises(UnknownWorkflowError, match=r"^Unknown workflow: w$"):
            await start
    handle = await world.client.run_by_name("w", 1, queue_override="  ")
    assert (await state_of(world, handle.id))["queue"] == "default"


async def test_a_parent_is_stored_as_given_and_need_not_exist(world: World) -> None:
    handle = await world.client.run_by_name("w", 1, queue_override="q", parent_run_id=" nobody ")
    assert (await state_of(world, handle.id))["parent_run_id"] == " nobody "


async def test_a_time_beyond_ten_years_is_over_the_limit(world: World) -> None:
    late = datetime.now(UTC) + timedelta(days=3700)
    with pytest.raises(LimitExceededError, match="Invalid runAt date: at most 10 years"):
        await world.client.run_by_name("w", 1, queue_override="q", run_at=late)
    assert await world.key_count() == 0


async def test_the_clients_app_scopes_what_has_no_app(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await register(world)
    await world.redis.hdel(world.keys.meta("w"), "app")
    meta = await world.client.get_workflow_meta("w")
    assert meta is not None
    assert (meta["app"], meta["queue"]) == ("unknown", "default")
    plain = await world.client.emit_workflow("w", 1)
    scoped = await world.new_client(app="shop").emit_workflow("w", 1)
    assert [(await state_of(world, run.id))["queue"] for run in (plain, scoped)] == ["default", "shop:default"]
    await register(world)
