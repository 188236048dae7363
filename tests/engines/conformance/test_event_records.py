"""What is kept of events: records, deduplication, deliveries, history (spec 8.2 and 8.3)."""

from __future__ import annotations

import inspect
import time

import pytest

from redflow import EventTrigger, ListEventsParams, RedflowClient, define_workflow
from redflow.domain.event import delivery_backoff_ms
from redflow.engine import Emitted
from redflow.engines.redis.engine import RedisEngine
from redflow.engines.redis.events import Events
from redflow.engines.redis.loops import fanout
from redflow.errors import QueueFullError
from redflow.types import EventRecord, JsonData
from tests.support.world import Context, World

DAY_MS = 86_400_000
LISTED = {
    "id",
    "name",
    "ts",
    "subscriber_count",
    "resumed_run_count",
    "delivery_count",
    "failed_delivery_count",
    "fanout_status",
    "processing_attempts",
    "finished_at",
}


async def handler(ctx: Context) -> object:
    return ctx.input


async def subscribers(world: World, *names: str) -> None:
    for name in names:
        define_workflow(name, handler=handler, event=EventTrigger("paid"), registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")


async def record_of(world: World, event_id: str) -> EventRecord:
    record = await world.client.get_event(event_id)
    assert record is not None
    return record


async def test_a_record_has_exactly_the_keys_that_are_known(world: World) -> None:
    await subscribers(world, "a")
    before = time.time() * 1000
    emitted = await world.client.emit_event_detailed(" paid ", {"n": 1}, correlation_key=" k ", parent_run_id="p")
    record = await record_of(world, emitted["event_id"])
    known = LISTED | {"correlation_key", "parent_run_id"}
    assert record.keys() == known | {"data", "deliveries", "resumed_run_ids", "expires_at"}
    assert (record["name"], record["correlation_key"], record["parent_run_id"]) == ("paid", "k", "p")
    assert abs(record["ts"] - before) < 10_000
    [listed] = await world.client.list_events(ListEventsParams(name=" paid "))
    assert listed.keys() == known
    plain = await world.client.emit_event_detailed("other", 1)
    assert (await record_of(world, plain["event_id"])).keys() == LISTED | {
        "data",
        "deliveries",
        "resumed_run_ids",
        "expires_at",
    }
    assert plain["event_id"].startswith("evt_")


async def test_a_delivery_names_the_scoped_queue_and_the_run(world: World) -> None:
    await subscribers(world, "a")
    emitted = await world.client.emit_event_detailed("paid", 1)
    [delivery] = (await record_of(world, emitted["event_id"]))["deliveries"]
    assert delivery.keys() == {"subscriber_event_id", "workflow", "queue", "status", "run_id"}
    assert (delivery["workflow"], delivery["queue"], delivery["status"]) == ("a", "app:default", "delivered")
    assert delivery["run_id"] == emitted["handles"][0].id


@pytest.mark.parametrize(("known", "status"), [(False, "failed"), (True, "partial")])
async def test_a_delivery_that_fails_for_good_is_told(world: World, known: bool, status: str) -> None:
    await subscribers(world, *(["a", "lost"] if known else ["lost"]))
    await world.redis.delete(world.keys.meta("lost"))
    await world.redis.srem(world.keys.metas, "lost")
    record = await record_of(world, (await world.client.emit_event_detailed("paid", 1))["event_id"])
    assert (record["fanout_status"], record["failed_delivery_count"]) == (status, 1)
    assert record["error"]["kind"] == "unknown_workflow"
    assert record["deliveries"][-1]["error"] == record["error"]
    assert "run_id" not in record["deliveries"][-1]


async def test_large_data_that_was_lost_is_told_as_such(world: World) -> None:
    await world.client.emit_event("e", {"x": "y" * 100_000}, event_id="e1")
    assert (await record_of(world, "e1"))["data"] == {"x": "y" * 100_000}
    await world.redis.hdel(f"{world.keys.base}event:e1", "d")
    assert (await record_of(world, "e1"))["data"] == {"__redflowMissingEventBlob": True, "ref": "@blob:e1"}


async def test_what_makes_two_events_one(world: World) -> None:
    emit = world.client.emit_event_detailed
    first = await emit("e", {"a": 1, "b": [2]}, idempotency_key="k")
    assert (await emit("e", {"b": [2], "a": 1}, idempotency_key="k"))["event_id"] == first["event_id"]
    conflict = "already exists with different event data"
    with pytest.raises(ValueError, match=conflict):
        await emit("e", 2, idempotency_key="k")
    with pytest.raises(ValueError, match=conflict):
        await emit("e", {"a": 1, "b": [2]}, idempotency_key="k", correlation_key="z")
    with pytest.raises(ValueError, match=conflict):
        await emit("e", {"a": 1, "b": [2]}, idempotency_key="k", parent_run_id="p")
    with pytest.raises(ValueError, match=conflict):
        await emit("e", {"a": 1, "b": [2]}, idempotency_key="k", event_id="another")
    named = await emit("e", 1, event_id="mine")
    assert named["event_id"] == "mine"
    with pytest.raises(ValueError, match=conflict):
        await emit("f", 1, event_id="mine")  # ids are global, names are part of the fingerprint
    elsewhere = await emit("f", {"a": 1, "b": [2]}, idempotency_key="k")
    blank = await emit("e", {"a": 1, "b": [2]}, idempotency_key="  ")
    assert len({first["event_id"], elsewhere["event_id"], blank["event_id"]}) == 3


async def test_a_key_holds_no_longer_than_the_retention(world: World) -> None:
    client = RedflowClient(world.redis, world.prefix, run_history_retention_ms=90_000)
    try:
        await client.emit_event("e", 1, idempotency_key="short", idempotency_ttl=30)
        await client.emit_event("e", 1, idempotency_key="long", idempotency_ttl=3600)
        await client.emit_event("e", 1, idempotency_key="default")
        ttl = {key: await world.redis.ttl(f"{world.keys.base}evkey:1:e:{key}") for key in ("short", "long", "default")}
    finally:
        await client.engine.close()
    assert 25 <= ttl["short"] <= 30
    assert 85 <= ttl["long"] <= 90
    assert 85 <= ttl["default"] <= 90


@pytest.mark.parametrize(
    "bad", [{"idempotency_key": 5}, {"parent_run_id": 5}, {"parent_run_id": "x" * 300}, {"idempotency_ttl": 0}]
)
async def test_bad_arguments_are_value_errors_and_nothing_is_written(world: World, bad: dict[str, JsonData]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        await world.client.emit_event("e", 1, **bad)
    assert await world.key_count() == 0


def test_events_have_no_run_at() -> None:
    for method in (RedflowClient.emit_event, RedflowClient.emit_event_detailed):
        assert list(inspect.signature(method).parameters)[1:] == [
            "event_name",
            "input",
            "correlation_key",
            "event_id",
            "idempotency_key",
            "idempotency_ttl",
            "parent_run_id",
        ]


async def test_history_is_filtered_and_ordered(world: World) -> None:
    await subscribers(world, "a")
    for name in ("paid", "other", "paid"):
        await world.client.emit_event(name, 1)
    events = await world.client.list_events()
    assert [event["name"] for event in events] == ["paid", "other", "paid"] or len({e["ts"] for e in events}) < 3
    assert [(e["ts"], e["id"]) for e in events] == sorted(((e["ts"], e["id"]) for e in events), reverse=True)
    assert await world.client.list_events(ListEventsParams(sort="asc")) == events[::-1]
    assert len(await world.client.list_events(ListEventsParams(fanout_status="no-subscribers"))) == 1
    assert len(await world.client.list_events(ListEventsParams(name="paid", fanout_status="completed"))) == 2
    assert await world.client.list_events(ListEventsParams(cursor="gone")) == []
    assert await world.client.get_event("gone") is None
    assert await world.client.list_event_definitions() == [
        {"event": "paid", "subscribers": [{"workflow": "a", "queue": "app:default"}]}
    ]


class _Failing(Events):
    """Events whose passes fail."""

    async def deliver(self, event_id: str) -> Emitted:
        raise QueueFullError("no memory")


async def test_a_pass_that_fails_counts_once_and_is_put_off(world: World) -> None:
    emitted = await world.client.emit_event_detailed("e", 1)
    event_id = emitted["event_id"]
    key = f"{world.keys.base}event:{event_id}"
    await world.redis.hset(key, "fan", "pending")
    await world.redis.hdel(key, "f")
    engine = world.client.engine
    assert isinstance(engine, RedisEngine)
    failing = _Failing(engine.connection, engine.keys, DAY_MS)
    for passes in (2, 3):
        before = time.time() * 1000
        await fanout.deliver(failing, event_id)
        record = await record_of(world, event_id)
        assert record["processing_attempts"] == passes
        pause = record["next_process_at"] - before
        assert delivery_backoff_ms(passes, 0) - 5 <= pause <= delivery_backoff_ms(passes, 250) + 5000
        assert record["last_process_error"]["kind"] == "queue_full"
        assert not {"error", "finished_at", "expires_at"} & record.keys()
    await world.redis.hset(key, mapping={"fan": "no-subscribers", "f": int(time.time() * 1000)})
    await world.redis.zrem(f"{world.keys.base}outbox", event_id)
