"""What a flow is told of its task: one memo entry."""

from __future__ import annotations

from typing import Final

from r7kit.runtime import NewTask

TASK_MEMO: Final = "r7kit.task"
"""Name of the memo entry; users' names can't begin like this."""


def task_memo(task_id: str, own: NewTask | None, parent_op: str = "") -> dict[str, object]:
    """The entry's value.

    Args:
        task_id: of the flow's task.
        own: the task if it is the flow's own; None: its parent's.
        parent_op: operation id of the parent's start, for a task that is the parent's.
    """
    if own is None:
        return {"uuid": task_id, "op": parent_op, "shared": True}
    memo: dict[str, object] = {"uuid": task_id, "op": own.op, "status": own.status}
    carried = own.carried
    if carried is not None:
        memo["payload"] = carried
    return memo
