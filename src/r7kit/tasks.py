"""Tasks seen from outside of flows (a dashboard, a web handler), and calling activities in flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Final

from r7kit.acting import act
from r7kit.exceptions import TaskNotFoundError
from r7kit.models import TaskModel
from r7kit.operations import GetTask, check_task_id
from r7kit.records.store import TaskStore
from r7kit.records.stream import TaskChange, check_position, is_after
from r7kit.stores import current_store
from redflow.errors import ConnectionError

__all__ = ["TaskChange", "act", "get_task", "watch"]

_CLOCK_MARGIN_MS: Final = 5000
"""How much older the first entry of a task may look than its record: after a failover another clock writes."""

_LOOK_EVERY_S: Final = 10.0
"""How often a watcher looks whether the task is still there: one that expires tells nobody."""


async def get_task(task_id: str) -> TaskModel:
    """A task as it is now; a deleted one too, with `deleted_at`, until its time is over.

    Args:
        task_id: its uuid.

    Raises:
        TaskNotFoundError: there is none (any more).
        ValueError: the id can't be one.
        ConnectionError: redflow's; Redis can't be reached.

    Example:
        >>> task = await get_task(uuid)
        >>> task.status, task.payload
        ('done', {'input': 42, 'result': 84})
    """
    store = await current_store()
    return await store.get(GetTask(check_task_id(task_id)))


async def watch(task_id: str, *, after: str | None = None) -> AsyncIterator[TaskChange]:
    """The changes of a task: those that the stream still holds, then each as it happens.

    It ends after the task's deletion, or when the task is gone. Values are not in the stream: read them with
    `get_task`. Any number of watchers of an event loop share one connection.

    Args:
        task_id: its uuid.
        after: go on after the change of this id (an id of a change seen before, such as a browser's Last-Event-ID);
            None begins with the task's creation, `"$"` with the next change.

    Raises:
        TaskNotFoundError: there is no such task, and `after` is not given.
        ValueError: the id, or `after`, is none.
        ConnectionError: redflow's; Redis can't be reached.

    Example:
        >>> async for change in watch(uuid):
        ...     print(change.event, change.status, change.fields)
    """
    task_id = check_task_id(task_id)
    if after is not None:
        check_position(after)
    store = await current_store()
    since = await _beginning(store, task_id) if after is None else after
    async with store.changes().subscribe(task_id) as coming:
        if since != "$":
            async with aclosing(store.changes().history(since)) as past:
                async for change in past:
                    since = change.id
                    if change.uuid == task_id:
                        yield change
                        if change.event == "deleted":
                            return
        while True:
            try:
                change = await asyncio.wait_for(coming.get(), _LOOK_EVERY_S)
            except TimeoutError:
                if await _gone(store, task_id):
                    return
                continue
            if since != "$" and not is_after(change.id, since):
                continue
            yield change
            if change.event == "deleted":
                return


async def _beginning(store: TaskStore, task_id: str) -> str:
    """A place in the stream before the task's creation."""
    created: datetime = (await store.get(GetTask(task_id, []))).created_at
    return f"{max(0, int(created.timestamp() * 1000) - _CLOCK_MARGIN_MS)}-0"


async def _gone(store: TaskStore, task_id: str) -> bool:
    try:
        return not (await store.get(GetTask(task_id, []))).exists
    except TaskNotFoundError:
        return True
    except ConnectionError:  # nobody knows; the reader waits for the server, too
        return False
