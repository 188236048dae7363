"""`get_task` and `watch`: a task seen from outside, live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from r7kit import config, tasks
from r7kit.exceptions import TaskNotFoundError
from r7kit.operations import CreateTask, DeleteTask, PatchTask, TaskChanges
from r7kit.records.store import TaskStore
from r7kit.records.stream import TaskChange
from r7kit.stores import close_stores, current_store
from redflow.errors import ConnectionError
from tests.r7kit.records.raw import Raw
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import soon


@pytest.fixture(autouse=True)
def configured(store: TaskStore, redis_url: str) -> Iterator[None]:
    """The settings mean the store's stream."""
    config.reset()
    config.configure(redis_url=redis_url, stream_default=store.options.stream)
    yield
    config.reset()


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    yield
    await close_stores()


async def create(store: TaskStore, task_id: str) -> None:
    await store.create(CreateTask(task_id, "op0", payload={"a": 1}, starting=False))


async def patch(store: TaskStore, task_id: str, number: int) -> None:
    await store.patch(PatchTask(task_id, f"op-{number}", TaskChanges(f"s{number}", {"n": number})))


async def test_get_task_reads_the_record(store: TaskStore, task_id: str) -> None:
    with pytest.raises(TaskNotFoundError, match=task_id):
        await tasks.get_task(task_id)
    await create(store, task_id)
    assert (await tasks.get_task(task_id)).payload == {"a": 1}
    with pytest.raises(ValueError, match="task uuid"):
        await tasks.get_task("")


async def test_watch_gives_what_was_and_what_comes_until_the_deletion(store: TaskStore, task_id: str) -> None:
    await create(store, task_id)
    await create(store, task_id + "-other")
    await patch(store, task_id, 1)
    seen: list[TaskChange] = []
    async for change in tasks.watch(task_id):
        seen.append(change)
        if change.ver == 2:  # from here on they come live
            await patch(store, task_id + "-other", 7)
            await patch(store, task_id, 2)
        elif change.ver == 3:
            await store.delete(DeleteTask(task_id, "op-end", 0))
    assert [(change.event, change.ver, change.status) for change in seen] == [
        ("created", 1, "new"),
        ("patched", 2, "s1"),
        ("patched", 3, "s2"),
        ("deleted", 4, "s2"),
    ]
    assert {change.uuid for change in seen} == {task_id}


async def test_a_watcher_goes_on_where_it_was(store: TaskStore, task_id: str) -> None:
    await create(store, task_id)
    for number in (1, 2):
        await patch(store, task_id, number)
    await store.delete(DeleteTask(task_id, "op-end"))
    everything = [change async for change in tasks.watch(task_id)]
    assert [change.ver for change in everything] == [1, 2, 3, 4]
    assert [change async for change in tasks.watch(task_id, after=everything[1].id)] == everything[2:]


async def test_a_watcher_may_want_only_what_comes(store: TaskStore, task_id: str) -> None:
    await create(store, task_id)
    changes = tasks.watch(task_id, after="$")
    first = asyncio.ensure_future(anext(changes))
    feed = (await current_store()).changes()
    await soon(lambda: bool(feed._queues), "the watcher has subscribed")
    await patch(store, task_id, 1)
    assert (await first).ver == 2
    await store.delete(DeleteTask(task_id, "op-end"))
    assert [change.event async for change in changes] == ["deleted"]


async def test_many_watchers_miss_nothing_and_share_a_reader(store: TaskStore, task_id: str) -> None:
    ids = [f"{task_id}-{number}" for number in range(20)]
    for one in ids:
        await create(store, one)

    async def versions(one: str) -> list[int]:
        return [change.ver async for change in tasks.watch(one)]

    watchers = [asyncio.ensure_future(versions(one)) for one in ids]
    for number in range(10):
        await asyncio.gather(*(patch(store, one, number) for one in ids))
    await asyncio.gather(*(store.delete(DeleteTask(one, "op-end")) for one in ids))
    assert await asyncio.gather(*watchers) == [list(range(1, 13))] * 20


async def test_a_watcher_ends_when_the_task_expires(
    store: TaskStore, raw: Raw, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_LOOK_EVERY_S", 0.05)
    await create(store, task_id)
    seen: list[str] = []
    async for change in tasks.watch(task_id):
        seen.append(change.event)
        await raw.redis.delete(f"task:{task_id}")
    assert seen == ["created"]


async def test_a_watcher_sees_what_happens_after_an_outage(
    private_server: Callable[[ServerOptions], ServerProcess], task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_LOOK_EVERY_S", 0.05)
    server = private_server(ServerOptions(appendonly=True))
    config.configure(redis_url=server.url)
    store = await current_store()
    store._connection._patience_s = 0.2  # else each look takes 3 seconds
    await create(store, task_id)
    changes = tasks.watch(task_id)
    assert (await anext(changes)).event == "created"
    coming = asyncio.ensure_future(anext(changes))
    await soon(lambda: bool(store.changes()._queues), "the watcher has subscribed")
    server.kill()
    with pytest.raises(ConnectionError):
        await patch(store, task_id, 1)
    assert not coming.done()
    server.start()
    await patch(store, task_id, 1)
    assert (await coming).status == "s1"
    await store.delete(DeleteTask(task_id, "op-end"))
    assert [change.event async for change in changes] == ["deleted"]


async def test_watching_what_is_not_there(task_id: str) -> None:
    with pytest.raises(TaskNotFoundError):
        await anext(aiter(tasks.watch(task_id)))
    with pytest.raises(ValueError, match="after must be the id of a change"):
        await anext(aiter(tasks.watch(task_id, after="yesterday")))


def test_each_event_loop_has_a_store_of_its_own(store: TaskStore, task_id: str) -> None:
    async def use() -> None:
        await create(await current_store(), task_id)
        assert (await tasks.get_task(task_id)).exists
        await (await current_store()).delete(DeleteTask(task_id, "op-end", 0))

    for _ in range(2):
        asyncio.run(use())  # an open socket would fail the test
