"""The task operations on a real server: one step each, once each, whatever is sent again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from redis.exceptions import OutOfMemoryError

from r7kit import config
from r7kit.exceptions import TaskAlreadyExistsError, TaskNotFoundError
from r7kit.operations import (
    START_TTL_S,
    ConfirmTask,
    CreateTask,
    DeleteTask,
    DiscardTask,
    GetTask,
    PatchTask,
    TaskChanges,
    TaskExists,
    Written,
)
from r7kit.records.store import RecordOptions, TaskStore
from r7kit.stores import perform
from redflow.errors import QueueFullError, RedflowError
from tests.r7kit.records.raw import Raw
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import soon


async def create(store: TaskStore, task_id: str, **payload: object) -> Written:
    return await store.create(CreateTask(task_id, "op-create", payload=payload, starting=False))


def patch(task_id: str, op: str, **payload: object) -> PatchTask:
    return PatchTask(task_id, op, TaskChanges(None, payload))


async def test_a_new_record_has_the_documented_layout(store: TaskStore, raw: Raw, task_id: str) -> None:
    written = await store.create(CreateTask(task_id, "op1", "sent", {"n": 42, "s": "42", "": {"a": []}}))
    assert await raw.record(task_id) == {
        "uuid": task_id,
        "status": "sent",
        "created_at": written.at,
        "updated_at": written.at,
        "ver": "1",
        "payload.n": "json:42",
        "payload.s": 'json:"42"',
        "payload.": 'json:{"a":[]}',
        "starting": "op1",
    }
    assert 0 < await raw.ttl_s(task_id) <= START_TTL_S
    assert 0 < await raw.ttl_s(task_id, ":ops") <= START_TTL_S
    assert await raw.events() == [
        {
            "event": "created",
            "uuid": task_id,
            "ver": 1,
            "at": written.at,
            "status": "sent",
            "fields": ["status", "payload.n", "payload.s", "payload."],
        }
    ]


async def test_times_are_the_servers_in_utc_with_milliseconds(store: TaskStore, task_id: str) -> None:
    written = await create(store, task_id)
    assert written.at.endswith("+00:00")
    assert len(written.at) == len("2024-01-01T00:00:00.000+00:00")
    assert abs(datetime.fromisoformat(written.at) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    "when",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2000, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2023, 12, 31, 0, 0, 0, 1000, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 34, 56, 789_000, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
        datetime(2100, 2, 28, 23, 0, 0, tzinfo=UTC),
        datetime(2100, 3, 1, tzinfo=UTC),
    ],
)
async def test_the_calendar_of_the_scripts_is_right(store: TaskStore, task_id: str, when: datetime) -> None:
    store.now_ms = round(when.timestamp() * 1000)
    written = await create(store, task_id)
    assert written.at == when.isoformat(timespec="milliseconds")
    assert (await store.get(GetTask(task_id))).created_at == when


async def test_a_creation_sent_again_makes_one_task(store: TaskStore, raw: Raw, task_id: str) -> None:
    order = CreateTask(task_id, "op1", payload={"a": 1})
    first = await store.create(order)
    assert await store.create(order) == first
    assert len(await raw.events()) == 1


async def test_a_uuid_that_exists_is_refused(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id, a=1)
    before = await raw.record(task_id)
    with pytest.raises(TaskAlreadyExistsError, match=task_id):
        await store.create(CreateTask(task_id, "op2", payload={"a": 1}))
    assert await raw.record(task_id) == before
    await store.delete(DeleteTask(task_id, "op3"))
    with pytest.raises(TaskAlreadyExistsError):
        await store.create(CreateTask(task_id, "op4"))
    assert len(await raw.events()) == 2


async def test_the_start_of_a_killed_client_can_be_taken_up(store: TaskStore, raw: Raw, task_id: str) -> None:
    await store.create(CreateTask(task_id, "op1", payload={"a": 1}))
    with pytest.raises(TaskAlreadyExistsError):
        await store.create(CreateTask(task_id, "op2", payload={"a": 2}))
    with pytest.raises(TaskAlreadyExistsError):
        await store.create(CreateTask(task_id, "op2", payload={"a": 1, "b": 2}))
    again = await store.create(CreateTask(task_id, "op2", payload={"a": 1}))
    assert not again.created
    assert not await store.discard(DiscardTask(task_id, "op2"))  # it is the first start's
    assert len(await raw.events()) == 1
    assert await store.confirm(ConfirmTask(task_id, "op2", payload={"a": 1})) is not None
    with pytest.raises(TaskAlreadyExistsError):
        await store.create(CreateTask(task_id, "op3", payload={"a": 1}))


async def test_confirming_makes_a_starting_task_permanent(store: TaskStore, raw: Raw, task_id: str) -> None:
    created = await store.create(CreateTask(task_id, "op1", payload={"a": 1}))
    for _ in range(2):
        assert await store.confirm(ConfirmTask(task_id, "op1")) == created.__class__(1, created.at, created=False)
    assert "starting" not in await raw.record(task_id)
    assert START_TTL_S < await raw.ttl_s(task_id) <= 1000
    assert START_TTL_S < await raw.ttl_s(task_id, ":ops") <= 1000
    assert [event["event"] for event in await raw.events()] == ["created"]


async def test_a_flow_without_a_record_writes_one(store: TaskStore, raw: Raw, task_id: str) -> None:
    written = await store.confirm(ConfirmTask(task_id, "op1", "new", {"a": 1}))
    assert written is not None
    assert written.created
    assert (await store.get(GetTask(task_id))).payload == {"a": 1}
    assert "starting" not in await raw.record(task_id)
    assert await store.confirm(ConfirmTask(task_id, "op1", "new", {"a": 1})) is not None
    assert len(await raw.events()) == 1


async def test_confirming_never_brings_a_removed_task_back(store: TaskStore, raw: Raw, task_id: str) -> None:
    order = CreateTask(task_id, "op1")
    await store.create(order)
    await store.delete(DeleteTask(task_id, "op2", 0))
    assert await store.confirm(ConfirmTask(task_id, "op1", may_create=False)) is None
    assert await store.confirm(ConfirmTask(task_id, "op1", may_create=True)) is None
    assert not await raw.record(task_id)


async def test_confirming_leaves_a_deleted_task_to_its_end(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    await store.delete(DeleteTask(task_id, "op2", 5))
    assert await store.confirm(ConfirmTask(task_id, "op-create")) is None
    assert await raw.ttl_s(task_id) <= 5


async def test_a_refused_start_leaves_nothing(store: TaskStore, raw: Raw, task_id: str) -> None:
    await store.create(CreateTask(task_id, "op1", payload={"a": 1}))
    assert await store.discard(DiscardTask(task_id, "op1"))
    assert not await store.discard(DiscardTask(task_id, "op1"))
    assert await raw.record(task_id) == {}
    assert await raw.ops(task_id) == []
    assert [event["event"] for event in await raw.events()] == ["created", "deleted"]


async def test_a_confirmed_task_is_not_discarded(store: TaskStore, task_id: str) -> None:
    await store.create(CreateTask(task_id, "op1"))
    await store.confirm(ConfirmTask(task_id, "op1"))
    assert not await store.discard(DiscardTask(task_id, "op1"))
    assert await store.exists(TaskExists(task_id))


async def test_a_patch_is_one_change(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id, keep={"deep": 1}, gone=1)
    changes = TaskChanges("done", {"new": [1.0, None], "keep": {"other": 2}}, ["gone"], {"owner": "x"})
    written = await store.patch(PatchTask(task_id, "op1", changes))
    task = await store.get(GetTask(task_id))
    assert task.payload == {"keep": {"other": 2}, "new": [1.0, None]}
    assert type(task.payload["new"][0]) is float
    assert (task.status, task.attributes, task.ver) == ("done", {"owner": "x"}, 2)
    assert task.updated_at == datetime.fromisoformat(written.at)
    assert (await raw.events())[-1] == {
        "event": "patched",
        "uuid": task_id,
        "ver": 2,
        "at": written.at,
        "status": "done",
        "fields": ["status", "payload.new", "payload.keep", "payload.gone", "attr.owner"],
    }


async def test_a_patch_sent_again_changes_nothing(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    first = await store.patch(patch(task_id, "op1", a=1))
    await store.patch(patch(task_id, "op2", a=2))
    again = await store.patch(patch(task_id, "op1", a=1))
    assert again.ver == first.ver == 2
    assert (await store.get(GetTask(task_id))).payload == {"a": 2}
    assert [event["ver"] for event in await raw.events()] == [1, 2, 3]


async def test_a_patch_renews_the_life_of_a_task(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    await raw.redis.expire(f"task:{task_id}", 10)
    await store.patch(patch(task_id, "op1", a=1))
    assert await raw.ttl_s(task_id) > 900


async def test_a_patch_does_not_make_a_starting_task_permanent(store: TaskStore, raw: Raw, task_id: str) -> None:
    await store.create(CreateTask(task_id, "op1"))
    await store.patch(patch(task_id, "op2", a=1))
    assert await raw.ttl_s(task_id) <= START_TTL_S


async def test_operations_are_remembered_within_bounds(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    await asyncio.gather(*(store.patch(patch(task_id, f"op{n}", n=n)) for n in range(600)))
    assert len(await raw.ops(task_id)) == 500
    assert (await store.get(GetTask(task_id))).ver == 601


async def test_a_missing_or_deleted_task_is_neither_revived_nor_prolonged(
    store: TaskStore, raw: Raw, task_id: str
) -> None:
    for write in (patch(task_id, "op1", a=1), DeleteTask(task_id, "op2")):
        with pytest.raises(TaskNotFoundError, match=task_id):
            await perform(store, write)
    assert not await raw.record(task_id)
    await create(store, task_id)
    await store.delete(DeleteTask(task_id, "op3", 7))
    before = await raw.record(task_id)
    for again in (patch(task_id, "op4", a=1), DeleteTask(task_id, "op5", 5000)):
        with pytest.raises(TaskNotFoundError, match="deleted"):
            await perform(store, again)
    assert await store.renew([task_id]) == 0
    assert await raw.record(task_id) == before
    assert await raw.ttl_s(task_id) <= 7
    assert [event["event"] for event in await raw.events()] == ["created", "deleted"]


async def test_deletion_is_logical_until_its_time_is_over(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id, a=1)
    written = await store.delete(DeleteTask(task_id, "op1"))
    assert await store.delete(DeleteTask(task_id, "op1")) == written
    task = await store.get(GetTask(task_id))
    assert not task.exists
    assert task.deleted_at == task.updated_at == datetime.fromisoformat(written.at)
    assert (task.payload, task.ver) == ({"a": 1}, 2)
    assert not await store.exists(TaskExists(task_id))
    assert 90 < await raw.ttl_s(task_id) <= 100  # the store's deleted_ttl
    await store.delete(DeleteTask(task_id, "op1"))
    assert len(await raw.events()) == 2


async def test_a_ttl_of_0_removes_at_once_and_may_be_sent_again(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    written = await store.delete(DeleteTask(task_id, "op1", 0))
    assert (await store.delete(DeleteTask(task_id, "op1", 0))).ver == written.ver
    assert not await raw.record(task_id)
    with pytest.raises(TaskNotFoundError):
        await store.get(GetTask(task_id))
    assert [event["event"] for event in await raw.events()] == ["created", "deleted"]


async def test_only_what_was_asked_for_is_read(store: TaskStore, task_id: str) -> None:
    await create(store, task_id, a=1, b=2, c=3)
    task = await store.get(GetTask(task_id, ["a", "c", "none"]))
    assert task.payload == {"a": 1, "c": 3}
    assert task.ver == 1


async def test_parallel_patches_of_different_keys_lose_nothing(redis_url: str, store: TaskStore, task_id: str) -> None:
    await create(store, task_id)
    clients = [TaskStore(redis_url, store.options) for _ in range(8)]

    async def write(number: int, client: TaskStore) -> None:
        for turn in range(25):
            await client.patch(patch(task_id, f"{number}-{turn}", **{f"k{number}": turn, f"k{number}-{turn}": True}))

    await asyncio.gather(*(write(number, client) for number, client in enumerate(clients)))
    for client in clients:
        await client.close()
    task = await store.get(GetTask(task_id))
    assert task.ver == 201
    assert len(task.payload) == 8 * 26
    assert all(task.payload[f"k{number}"] == 24 for number in range(8))


async def test_every_key_has_a_ttl(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    await store.patch(patch(task_id, "op1", a=1))
    await store.delete(DeleteTask(task_id, "op2", 3))
    for suffix in ("", ":ops"):
        assert await raw.ttl_s(task_id, suffix) > 0
    assert await raw.ttl_s(task_id, ":ops") > 500  # for replies that were lost


async def test_the_stream_is_capped(redis_url: str, raw: Raw, prefix: str, task_id: str) -> None:
    store = TaskStore(redis_url, RecordOptions(stream=f"{prefix}:events", stream_maxlen=10))
    await create(store, task_id)
    await asyncio.gather(*(store.patch(patch(task_id, f"op{n}", n=n)) for n in range(400)))
    assert len(await raw.events()) < 250  # whole nodes of 100 entries go
    await store.close()


async def test_a_change_whose_stream_entry_cant_be_written_changes_nothing(
    store: TaskStore, raw: Raw, task_id: str
) -> None:
    await create(store, task_id)
    before = await raw.record(task_id)
    await raw.redis.set(store.options.stream, "not a stream")
    for operation in (patch(task_id, "op1", a=1), DeleteTask(task_id, "op2")):
        with pytest.raises(RedflowError, match="WRONGTYPE"):
            await perform(store, operation)
    assert await raw.record(task_id) == before
    assert await raw.ops(task_id) == ["op-create"]


async def test_a_record_that_another_program_broke_is_a_value_error(store: TaskStore, raw: Raw, task_id: str) -> None:
    await create(store, task_id)
    await raw.redis.hset(f"task:{task_id}", "payload.bad", "pickle:gANLAS4=")
    with pytest.raises(ValueError, match=r"payload 'bad' of the task record: not a stored value"):
        await store.get(GetTask(task_id))


async def fill(raw: Raw) -> None:
    """Until the server takes nothing more."""
    for size in (100_000, 1000):
        for number in itertools.count():
            try:
                await raw.redis.set(f"filler-{size}-{number}", "x" * size)
            except OutOfMemoryError:
                break


async def test_a_full_server_refuses_changes_whole_and_lets_go_of_tasks(
    private_server: Callable[[ServerOptions], ServerProcess], task_id: str
) -> None:
    server = private_server(ServerOptions(maxmemory=8_000_000))
    store, raw = TaskStore(server.url), Raw(server.url, "task_events")
    await create(store, task_id, a=1)
    await fill(raw)
    with pytest.raises(QueueFullError):
        await store.patch(patch(task_id, "op1", a=2))
    before = await raw.record(task_id)
    events = await raw.events()
    with pytest.raises(QueueFullError):
        await store.create(CreateTask(task_id + "-other", "op"))
    assert await raw.record(task_id) == before
    assert await raw.events() == events
    await store.delete(DeleteTask(task_id, "end", 0))
    assert not await raw.record(task_id)
    await store.close()
    await raw.close()


def test_a_cluster_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"Redis Cluster.*one primary"):
        TaskStore("redis+cluster://:secret@localhost:7000")
    with pytest.raises(ValueError, match=r"redis_url must not be a Redis Cluster.*one primary") as refused:
        config.configure(redis_url="redis+cluster://:secret@localhost:7000")
    assert "secret" not in str(refused.value)


async def test_a_node_of_a_cluster_is_refused_too(
    private_server: Callable[[ServerOptions], ServerProcess], task_id: str
) -> None:
    server = private_server(ServerOptions(config=("cluster-enabled yes",)))
    store, raw = TaskStore(server.url), Raw(server.url, "task_events")
    await raw.redis.execute_command("CLUSTER", "ADDSLOTS", *range(16384))  # type: ignore[no-untyped-call]
    with pytest.raises(RedflowError, match=r"is a Redis Cluster.*one primary"):
        await create(store, task_id)
    await store.close()
    await raw.close()


async def test_the_change_feed_gives_history_and_what_comes(store: TaskStore, task_id: str) -> None:
    await create(store, task_id)
    feed = store.changes()
    async with feed.subscribe(task_id) as changes, feed.subscribe(task_id) as other:
        await store.patch(patch(task_id, "op1", a=1))
        assert (await changes.get()).ver == 2
        assert (await other.get()).fields == ["payload.a"]
    assert [change.event async for change in feed.history("0-0")] == ["created", "patched"]


async def test_the_feed_passes_over_what_others_put_into_the_stream(store: TaskStore, raw: Raw, task_id: str) -> None:
    async with store.changes().subscribe(task_id) as changes:
        await raw.redis.xadd(store.options.stream, {"hello": "world"})
        await create(store, task_id)
        assert (await changes.get()).event == "created"


async def test_the_reader_ends_with_its_last_watcher(store: TaskStore) -> None:
    feed = store.changes()
    async with feed.subscribe("any"):
        assert feed._reader is not None
    await soon(lambda: feed._reader is None, "the reader has ended")
