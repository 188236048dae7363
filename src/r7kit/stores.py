"""The task store of the running event loop, and doing an operation with one."""

from __future__ import annotations

from typing import assert_never

from r7kit._loops import PerLoop
from r7kit.config import Settings, current
from r7kit.operations import (
    ConfirmTask,
    CreateTask,
    DeleteTask,
    DiscardTask,
    GetTask,
    PatchTask,
    TaskExists,
    TaskOperation,
    TaskReply,
)
from r7kit.records.store import RecordOptions, TaskStore

_stores: PerLoop[tuple[str, RecordOptions], TaskStore] = PerLoop(lambda key: TaskStore(*key), TaskStore.close)


async def current_store(settings: Settings | None = None) -> TaskStore:
    """The store that the settings mean, shared by all of this event loop; closed when the loop ends.

    Args:
        settings: None: those that hold now.
    """
    settings = settings or current()
    options = RecordOptions(
        stream=settings.stream_default,
        task_ttl_s=settings.task_ttl,
        deleted_ttl_s=settings.deleted_ttl,
        stream_maxlen=settings.stream_maxlen,
    )
    return await _stores.get((settings.redis_url, options))


async def close_stores() -> None:
    """Close the stores of this event loop now; later uses open new ones."""
    await _stores.close()


async def perform(store: TaskStore, operation: TaskOperation) -> TaskReply:
    """Do one operation.

    Raises:
        TaskNotFoundError, TaskAlreadyExistsError: see the store's methods.
        RedflowError: the server can't be reached or refused; a change may have been made.
    """
    match operation:
        case CreateTask():
            return await store.create(operation)
        case ConfirmTask():
            return await store.confirm(operation)
        case DiscardTask():
            return await store.discard(operation)
        case GetTask():
            return await store.get(operation)
        case TaskExists():
            return await store.exists(operation)
        case PatchTask():
            return await store.patch(operation)
        case DeleteTask():
            return await store.delete(operation)
    assert_never(operation)
