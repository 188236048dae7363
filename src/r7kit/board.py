"""The task records for redflow's dashboard, which finds this class by an entry point."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from r7kit import config
from r7kit.models import TaskModel
from r7kit.records.keys import task_key
from r7kit.records.store import task_model
from r7kit.records.stream import change_of
from redflow.client import RedflowClient
from redflow.dashboard.ports import Task, TaskChange
from redflow.engines.redis.replies import as_list, as_text

log = logging.getLogger("r7kit")


class TaskBoard:
    """Reads the records that lie on the server of a client; see `redflow.dashboard.TaskSource`."""

    def __init__(self, client: RedflowClient) -> None:
        self._connection = client.connection

    async def changes(self, limit: int) -> list[TaskChange]:
        """The latest changes, newest first."""
        stream = config.current().stream_default
        entries = as_list(await self._connection.read("XREVRANGE", stream, "+", "-", "COUNT", limit))
        found = [change for change in map(change_of, entries) if change is not None]
        return [TaskChange(c.id, c.uuid, c.event, c.ver, c.at, c.status, c.fields) for c in found]

    async def tasks(self, ids: Sequence[str]) -> list[Task | None]:
        """The records of some tasks, in one trip; None for one that is gone, or broken (which is logged)."""
        if not ids:
            return []
        replies = await self._connection.read_many([("HGETALL", task_key(task_id)) for task_id in ids])
        tasks: list[Task | None] = []
        for task_id, reply in zip(ids, replies, strict=True):
            flat = as_list(reply)
            fields = {as_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
            try:
                tasks.append(_task(task_model(fields)) if "uuid" in fields else None)
            except ValueError as exc:
                log.error("task %s can't be shown: %s", task_id, exc)
                tasks.append(None)
        return tasks


def _task(model: TaskModel) -> Task:
    deleted = "" if model.deleted_at is None else model.deleted_at.isoformat()
    return Task(
        model.uuid,
        model.status,
        model.created_at.isoformat(timespec="milliseconds"),
        model.updated_at.isoformat(timespec="milliseconds"),
        model.ver,
        deleted,
        model.payload,
        model.attributes,
    )
