"""Task records of r7kit, through the entry point by which the dashboard finds them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from r7kit.board import TaskBoard
from r7kit.operations import CreateTask, PatchTask, TaskChanges
from r7kit.records.store import RecordOptions, TaskStore
from redflow.dashboard import dashboard
from redflow.dashboard.ports import installed_task_source
from tests.dashboard.scene import NASTY
from tests.dashboard.visitor import Visitor
from tests.support.world import World


@pytest.fixture
async def store(redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskStore]:
    """A store with a stream of the test's own, which the dashboard is told of."""
    monkeypatch.setenv("R7KIT_STREAM", f"{prefix}:events")
    made = TaskStore(redis_url, RecordOptions(stream=f"{prefix}:events", task_ttl_s=1000))
    yield made
    await made.close()


async def test_tasks_that_changed_last_and_their_stream(store: TaskStore, world: World) -> None:
    ids = [secrets.token_hex(16) for _ in range(3)]
    for task_id in ids:
        await store.create(CreateTask(task_id, secrets.token_hex(8), "new", {"card": "4242", "password": "hunter2"}))
    await store.patch(PatchTask(ids[0], secrets.token_hex(8), TaskChanges(NASTY, {"done": 7}, [])))
    async with Visitor(dashboard(world.client, mask=["password"])) as visitor:
        words = await visitor.words("/tasks")
        assert all(task_id[-8:] in words for task_id in ids)
        assert NASTY in words
        assert "patched" in words
        assert words.index(ids[0][-8:]) < words.index(ids[2][-8:]), "what changed last comes first"
        words = await visitor.words(f"/task?id={ids[0]}")
        assert '"card": "4242"' in words
        assert "hunter2" not in words
        assert "payload.done" in words


async def test_a_broken_record_takes_no_other_down(store: TaskStore, world: World) -> None:
    ids = [secrets.token_hex(16) for _ in range(2)]
    for task_id in ids:
        await store.create(CreateTask(task_id, secrets.token_hex(8)))
    await world.redis.hset(f"task:{ids[0]}", mapping={"ver": "many", "payload.x": "{half"})
    await world.redis.xadd(store.options.stream, {"odd": "entry"})
    source = installed_task_source(world.client)
    assert isinstance(source, TaskBoard)
    broken, sound = await source.tasks(ids)
    assert broken is None
    assert sound is not None
    assert len(await source.changes(10)) == 2
    async with Visitor(dashboard(world.client)) as visitor:
        assert ids[1][-8:] in await visitor.words("/tasks")


async def test_no_task_yet(store: TaskStore, world: World) -> None:
    async with Visitor(dashboard(world.client)) as visitor:
        assert "No task changed yet" in await visitor.words("/tasks")
