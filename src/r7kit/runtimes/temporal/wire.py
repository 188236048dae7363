"""How task operations and their replies look in a Temporal history. Kept histories depend on it.

An operation is a JSON object of its fields and its `kind`, for example
`{"kind": "patch", "task_id": "...", "op": "...", "changes": {...}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from pydantic import TypeAdapter

from r7kit import operations as ops
from r7kit.models import TaskModel
from r7kit.operations import OperationKind, TaskOperation, Written, kind_of
from redflow.types import JsonData

ACTIVITY_OF: Final[Mapping[OperationKind, str]] = {
    "create": "r7kit.create",
    "confirm": "r7kit.create",
    "discard": "r7kit.delete",
    "get": "r7kit.get",
    "exists": "r7kit.get",
    "patch": "r7kit.patch",
    "delete": "r7kit.delete",
}
"""The activity that does each kind of operation."""

REPLY_OF: Final[Mapping[OperationKind, JsonData]] = {
    "create": Written,
    "confirm": Written | None,
    "discard": bool,
    "get": TaskModel,
    "exists": bool,
    "patch": Written,
    "delete": Written,
}
"""What each kind of operation replies."""

_ADAPTERS: Final[Mapping[str, TypeAdapter[TaskOperation]]] = {
    "create": TypeAdapter(ops.CreateTask),
    "confirm": TypeAdapter(ops.ConfirmTask),
    "discard": TypeAdapter(ops.DiscardTask),
    "get": TypeAdapter(ops.GetTask),
    "exists": TypeAdapter(ops.TaskExists),
    "patch": TypeAdapter(ops.PatchTask),
    "delete": TypeAdapter(ops.DeleteTask),
}


def encode(operation: TaskOperation) -> dict[str, object]:
    """The operation as JSON."""
    return {"kind": kind_of(operation), **asdict(operation)}


def decode(wire: Mapping[str, object]) -> TaskOperation:
    """The operation of that JSON, judged: other programs may send it too.

    Raises:
        ValueError: it is none.
    """
    fields = dict(wire)
    kind = fields.pop("kind", None)
    adapter = _ADAPTERS.get(kind) if isinstance(kind, str) else None
    if adapter is None:
        raise ValueError(f"kind must be one of {', '.join(_ADAPTERS)}, got {str(kind)[:80]!r}")
    operation = adapter.validate_python(fields)
    ops.check_task_id(operation.task_id)
    return operation
