"""Events: emit, fan-out, history, contracts, waits (spec 8 and 9)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pydantic import BaseModel

from redflow import EventTrigger, InputValidationError, ListEventsParams, RunHandle, workflow
from redflow.types import JsonData, StepState
from tests.support.world import Context, World, eventually

Handle = RunHandle[JsonData]
DAY_MS = 86_400_000


def waiter(world: World) -> None:
    """The workflow `w`: waits for the event its input names."""

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        first = await ctx.step.wait_for_event("first", "approved", ctx.input["key"], ctx.input.get("timeout", "1h"))
        if not ctx.input.get("twice"):
            return first and first["data"]
        second = await ctx.step.wait_for_event("second", "approved", ctx.input["key"], "1h")
        return [first and first["data"], second and second["data"]]


async def only_step(world: World, handle: Handle) -> StepState:
    [step] = await world.client.get_run_steps(handle.id)
    return step


async def waits(world: World, handle: Handle) -> None:
    """Wait until a run sleeps in its wait."""
    await world.reaches(handle, "scheduled")


def subscriber(world: World, name: str, *triggers: EventTrigger) -> None:
    @workflow(name, event=list(triggers), registry=world.registry)
    async def handler(ctx: Context) -> object:
        return [name, ctx.input]


async def test_every_trigger_of_every_subscriber_gets_one_run(world: World) -> None:
    subscriber(world, "a", EventTrigger("paid"))
    subscriber(world, "b", EventTrigger(" paid "), EventTrigger("paid", id="again"), EventTrigger("other"))
    await world.worker()
    emitted = await world.client.emit_event_detailed("paid", {"n": 1}, parent_run_id="run_x")
    outputs = [await handle.result() for handle in emitted["handles"]]
    assert sorted(outputs) == [["a", {"n": 1}], ["b", {"n": 1}], ["b", {"n": 1}]]
    record = await world.client.get_event(emitted["event_id"])
    assert record is not None
    assert (record["fanout_status"], record["subscriber_count"], record["delivery_count"]) == ("completed", 3, 3)
    assert [delivery["status"] for delivery in record["deliveries"]] == ["delivered"] * 3
    assert record["deliveries"] == sorted(
        record["deliveries"], key=lambda delivery: (delivery["workflow"], delivery["subscriber_event_id"])
    )
    order = {delivery["subscriber_event_id"]: delivery.get("run_id") for delivery in record["deliveries"]}
    assert [order[trigger] for trigger in sorted(order)] == [handle.id for handle in emitted["handles"]]
    for handle in emitted["handles"]:
        state = await handle.get_state()
        assert state is not None
        assert state["parent_run_id"] == "run_x"
        assert state["queue"] == "app:default"


async def test_an_event_without_subscribers_is_recorded(world: World) -> None:
    assert await world.client.emit_event("nobody", [1]) == []
    [listed] = await world.client.list_events()
    assert (listed["name"], listed["fanout_status"], listed["subscriber_count"]) == ("nobody", "no-subscribers", 0)
    record = await world.client.get_event(listed["id"])
    assert record is not None
    assert record["data"] == [1]
    assert record["expires_at"] == record["finished_at"] + world.client.run_history_retention_ms
    assert record["processing_attempts"] == 1


@pytest.mark.parametrize(
    ("event_id", "key"), [("E", None), (None, "K"), ("E", "K")], ids=["by id", "by key", "by both"]
)
async def test_the_same_event_is_recorded_once_and_other_data_conflicts(
    world: World, event_id: str | None, key: str | None
) -> None:
    subscriber(world, "a", EventTrigger("paid"))
    await world.worker()
    emit = partial(world.client.emit_event_detailed, "paid", event_id=event_id, idempotency_key=key)
    first = await emit({"a": 1, "b": 2})
    assert await emit({"b": 2, "a": 1}) == first
    with pytest.raises(ValueError, match="already exists with different event data"):
        await emit({"a": 2})
    with pytest.raises(ValueError, match="already exists with different event data"):
        await emit({"a": 1, "b": 2}, correlation_key="c")
    assert (await world.client.get_stats())["total"] == 1


async def test_an_id_and_a_key_of_two_events_conflict(world: World) -> None:
    await world.client.emit_event("e", 1, event_id="A")
    await world.client.emit_event("e", 1, idempotency_key="K")
    with pytest.raises(ValueError, match="already exists with different event data"):
        await world.client.emit_event("e", 1, event_id="A", idempotency_key="K")


async def test_a_hundred_emits_at_once_make_one_event(world: World) -> None:
    subscriber(world, "a", EventTrigger("paid"))
    await world.client.sync_registry(world.registry, app="app")
    results = await asyncio.gather(
        *[world.client.emit_event_detailed("paid", {"n": 1}, event_id="E") for _ in range(100)]
    )
    assert all(result == results[0] for result in results)
    assert (await world.client.get_stats())["total"] == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [("", {}), (" ", {}), ("e", {"correlation_key": " "}), ("e", {"event_id": ""})],
)
async def test_blank_names_keys_and_ids_are_refused(world: World, name: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ by field
        await world.client.emit_event(name, 1, **options)  # type: ignore[arg-type]
    assert await world.client.list_events() == []


async def test_events_are_listed_in_pages(world: World) -> None:
    for number in range(7):
        await world.client.emit_event("odd" if number % 2 else "even", number, event_id=f"E{number}")
    newest = await world.client.list_events(ListEventsParams(limit=3))
    assert [event["id"] for event in newest] == ["E6", "E5", "E4"]
    older = await world.client.list_events(ListEventsParams(limit=10, cursor=newest[-1]["id"]))
    assert [event["id"] for event in older] == ["E3", "E2", "E1", "E0"]
    oldest = await world.client.list_events(ListEventsParams(sort="asc", name=" odd "))
    assert [event["id"] for event in oldest] == ["E1", "E3", "E5"]
    assert await world.client.list_events(ListEventsParams(fanout_status="completed")) == []
    assert await world.client.list_events(ListEventsParams(cursor="gone")) == []


async def test_one_event_wakes_every_run_that_waits_for_it(world: World) -> None:
    waiter(world)
    await world.worker()
    handles = [await world.start({"key": "k"}) for _ in range(250)]
    other = await world.start({"key": "other"})
    for handle in [*handles, other]:
        await waits(world, handle)
    emitted = await world.client.emit_event_detailed("approved", {"yes": True}, correlation_key=" k ")
    assert emitted["handles"] == []
    assert emitted["resumed_run_ids"] == sorted(handle.id for handle in handles)
    assert [await handle.result() for handle in handles] == [{"yes": True}] * 250
    assert await world.status(other) == "scheduled"
    record = await world.client.get_event(emitted["event_id"])
    assert record is not None
    assert (record["resumed_run_count"], record["fanout_status"]) == (250, "no-subscribers")
    await world.client.cancel_run(other.id)


async def test_what_a_waiting_step_shows(world: World) -> None:
    waiter(world)
    await world.worker()
    handle = await world.start({"key": "k"})
    await waits(world, handle)
    step = await only_step(world, handle)
    assert step["wait"] == {"kind": "event", "event": "approved", "correlation_key": "k"}
    assert step["status"] == "running"
    assert step["wait_until_at"] == step["started_at"] + 3_600_000
    emitted = await world.client.emit_event_detailed("approved", 1, correlation_key="k")
    assert await handle.result() == 1
    step = await only_step(world, handle)
    assert step["wait"]["resolved_by"] == "event"
    assert step["wait"]["event_id"] == emitted["event_id"]
    assert step["output"] == {"id": emitted["event_id"], "name": "approved", "data": 1, "ts": step["wait"]["ts"]}
    assert "wait_until_at" not in step
    assert [attempt["attempt"] for attempt in await world.client.get_run_attempts(handle.id)] == [1]


async def test_a_wait_that_nobody_answers_gives_none(world: World) -> None:
    waiter(world)
    await world.worker()
    handle = await world.start({"key": "k", "timeout": 100})
    assert await handle.result() is None
    step = await only_step(world, handle)
    assert step["wait"] == {
        "kind": "event",
        "event": "approved",
        "correlation_key": "k",
        "resolved_by": "timeout",
    }
    assert step["output"] is None
    late = await world.client.emit_event_detailed("approved", 1, correlation_key="k")
    assert late["resumed_run_ids"] == []


async def test_an_event_after_the_deadline_does_not_count_even_if_nobody_was_there(world: World) -> None:
    waiter(world)
    worker = await world.worker()
    handle = await world.start({"key": "k", "timeout": 300})
    await waits(world, handle)
    await worker.stop()
    step = await only_step(world, handle)

    async def over() -> bool:
        return time.time() * 1000 > step["wait_until_at"] + 50

    await eventually(over, "the deadline")
    late = await world.client.emit_event_detailed("approved", 1, correlation_key="k")
    assert late["resumed_run_ids"] == []
    await world.worker()
    assert await handle.result() is None


async def test_an_event_since_the_run_was_created_satisfies_a_later_wait(world: World) -> None:
    waiter(world)
    await world.client.emit_event("approved", "last week", correlation_key="k")
    before = (await world.client.list_events())[0]["ts"]

    async def later() -> bool:
        return time.time() * 1000 > before + 5

    await eventually(later, "another millisecond")
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start({"key": "k"})
    emitted = await world.client.emit_event_detailed("approved", "today", correlation_key="k")
    assert emitted["resumed_run_ids"] == []
    await world.worker()
    assert await handle.result() == "today"


async def test_a_second_wait_gets_only_a_newer_event(world: World) -> None:
    waiter(world)
    await world.worker()
    handle = await world.start({"key": "k", "twice": True})
    await waits(world, handle)
    await world.client.emit_event("approved", 1, correlation_key="k")

    async def second() -> bool:
        steps = await world.client.get_run_steps(handle.id)
        return len(steps) == 2 and await world.status(handle) == "scheduled"

    await eventually(second, "the second wait")
    await world.client.emit_event("approved", 2, correlation_key="k")
    assert await handle.result() == [1, 2]


async def test_an_event_without_a_key_wakes_nobody(world: World) -> None:
    waiter(world)
    await world.worker()
    handle = await world.start({"key": "None"})
    await waits(world, handle)
    emitted = await world.client.emit_event_detailed("approved", 1)
    assert emitted["resumed_run_ids"] == []
    assert await world.client.cancel_run(handle.id)


async def test_a_changed_wait_target_is_told(world: World) -> None:
    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        return await ctx.step.wait_for_event("s", "e", f"key {len(world.did)}", "1h")

    await world.worker()
    handle = await world.start()
    await waits(world, handle)
    await world.client.emit_event("e", 1, correlation_key="key 1")
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert "changed wait target" in state["error"]["message"]


async def test_emits_race_the_opening_of_waits(world: World) -> None:
    waiter(world)
    await world.worker()

    async def one(number: int) -> object:
        handle = await world.start({"key": f"k{number}"})
        if number % 2:
            await asyncio.sleep(0)
        await world.client.emit_event("approved", number, correlation_key=f"k{number}")
        return await handle.result()

    assert await asyncio.gather(*[one(number) for number in range(200)]) == list(range(200))


async def test_a_step_emits_an_event_once(world: World) -> None:
    subscriber(world, "a", EventTrigger("paid"))

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        ids = await ctx.step.emit_event("e", "paid", {"n": 1})
        await ctx.step.wait_for("nap", 20)
        return ids

    await world.worker()
    handle = await world.start()
    [run_id] = await handle.result()
    state = await world.client.get_run(run_id)
    assert state is not None
    assert state["parent_run_id"] == handle.id
    assert len(await world.client.list_events()) == 1


async def test_contracts_hold_between_subscribers_and_for_emitters(world: World) -> None:
    class Paid(BaseModel):
        amount: int

    @workflow("a", event=EventTrigger("paid"), input_schema=Paid, registry=world.registry)
    async def a(ctx: Context) -> int:
        return Paid.model_validate(ctx.input).amount

    await world.worker()
    [known] = await world.client.list_event_definitions()
    assert known["event"] == "paid"
    assert known["subscribers"] == [{"workflow": "a", "queue": "app:default"}]
    assert known["input_json_schema"]["properties"] == {"amount": {"type": "integer"}}
    with pytest.raises(InputValidationError, match="Event payload validation failed for 'paid'") as caught:
        await world.client.emit_event("paid", {"amount": "x"})
    issues = caught.value.issues
    assert isinstance(issues, dict)
    assert issues["eventName"] == "paid"
    assert issues["issues"][0]["instancePath"] == "/amount"
    assert await world.client.list_events() == []
    [handle] = await world.client.emit_event("paid", {"amount": 3})
    assert await handle.result() == 3
    subscriber(world, "b", EventTrigger("paid"))
    with pytest.raises(ValueError, match="Event schema conflict"):
        await world.client.sync_registry(world.registry, app="app")


async def test_a_removed_trigger_is_gone_with_the_next_sync(world: World) -> None:
    subscriber(world, "a", EventTrigger("paid"), EventTrigger("sent"))
    await world.client.sync_registry(world.registry, app="app")
    subscriber(world, "a", EventTrigger("sent"))
    await world.client.sync_registry(world.registry, app="app")
    assert [known["event"] for known in await world.client.list_event_definitions()] == ["sent"]
    assert await world.client.emit_event("paid", 1) == []
    meta = await world.client.get_workflow_meta("a")
    assert meta is not None
    assert meta["event"] == [{"name": "sent"}]


async def test_retention_takes_events_with_their_keys(world: World) -> None:
    await world.client.emit_event("e", 1, event_id="A", idempotency_key="K", correlation_key="c")
    soonest = int(datetime.now(UTC).timestamp() * 1000) + world.client.run_history_retention_ms
    assert await world.client.cleanup_expired_events_now(reference_time_ms=soonest - DAY_MS) == 0
    assert await world.client.cleanup_expired_events_now(reference_time_ms=soonest + DAY_MS) == 1
    assert await world.client.get_event("A") is None
    await world.client.emit_event("e", 2, event_id="A", idempotency_key="K")


async def test_a_wide_fan_out_is_complete_when_emit_returns(world: World) -> None:
    for number in range(120):
        subscriber(world, f"s{number}", EventTrigger("paid"))
    await world.client.sync_registry(world.registry, app="app")
    emitted = await world.client.emit_event_detailed("paid", 1)
    assert len(emitted["handles"]) == 120
    record = await world.client.get_event(emitted["event_id"])
    assert record is not None
    assert (record["fanout_status"], record["delivery_count"]) == ("completed", 120)


async def test_a_fan_out_that_was_cut_off_is_carried_on_by_a_worker(world: World) -> None:
    from redflow.emitting import build_event
    from redflow.engines.redis.engine import RedisEngine

    for number in range(60):
        subscriber(world, f"s{number}", EventTrigger("paid"))
    await world.client.sync_registry(world.registry, app="app")
    engine = world.client.engine
    assert isinstance(engine, RedisEngine)
    # The emitter dies after its first call, and its half minute is over.
    first = await engine.events.accept(build_event("paid", 1, made_id="evt_1"))
    assert first.final is False
    await world.redis.zadd(f"{world.keys.base}outbox", {"evt_1": 1})
    await world.worker()

    async def status() -> str:
        record = await world.client.get_event("evt_1")
        return "gone" if record is None else record["fanout_status"]

    await eventually(status, "the whole fan-out", until="completed".__eq__)


async def test_a_scheduled_wait_keeps_its_deadline(world: World) -> None:
    waiter(world)
    await world.worker()
    until = datetime.now(UTC) + timedelta(hours=2)
    handle = await world.start({"key": "k", "timeout": until.timestamp() * 1000 - time.time() * 1000})
    await waits(world, handle)
    state = await handle.get_state()
    assert state is not None
    assert abs(state["available_at"] - until.timestamp() * 1000) < 5000
    await world.client.cancel_run(handle.id)
