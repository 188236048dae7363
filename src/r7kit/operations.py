"""The task operations as plain values, and what is decided about them without asking Redis.

An engine carries these values to where Redis is (an activity, a step) and carries the replies back. Operations and
replies are dataclasses of JSON values. A change has an operation id (`op`): the record remembers it, so that the same
operation sent again changes nothing and gets its reply again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias

from r7kit.models import TaskModel
from r7kit.serializer import same, to_json
from redflow.domain.names import check_name
from redflow.types import JsonData

START_TTL_S: Final = 60
"""How long the record of a start that never got to its flow lives, seconds."""

MAX_FIELDS: Final = 10_000
"""The most payload keys and attributes that one operation may write."""

META_NAMES: Final = frozenset({"uuid", "created_at", "updated_at", "ver", "deleted_at"})
"""What the record itself says of a task; no attribute may have such a name."""

PAYLOAD: Final = "payload."
"""What a payload key is preceded by in the record's field names."""

ATTRIBUTE: Final = "attr."
"""What an attribute's name is preceded by in the record's field names."""

_MAX_TTL_S = 10 * 365 * 86_400
_OWN_KEY = re.compile(r":ops\Z")


@dataclass(frozen=True, slots=True)
class CreateTask:
    """Write the record of a new task.

    Attributes:
        task_id: the task.
        op: operation id, unique to this start.
        status: its first status.
        payload: its first payload.
        starting: whether a flow is yet to be started for it: then the record lives for START_TTL_S only, until
            ConfirmTask or, where the start was refused, DiscardTask.
    """

    task_id: str
    op: str
    status: str = "new"
    payload: dict[str, JsonData] = field(default_factory=dict)
    starting: bool = True


@dataclass(frozen=True, slots=True)
class ConfirmTask:
    """Make the record of a starting task permanent: the first thing a flow does.

    Attributes:
        task_id: the task.
        op: the `op` it was created with.
        status: its first status, if it has to be created.
        payload: its first payload, if it has to be created.
        may_create: whether a record that is not there is written: a flow may (nobody made one, or nobody took up the
            flow in time), the client that started the flow must not (the flow may have ended, and removed it).
    """

    task_id: str
    op: str
    status: str = "new"
    payload: dict[str, JsonData] = field(default_factory=dict)
    may_create: bool = True


@dataclass(frozen=True, slots=True)
class DiscardTask:
    """Remove the record that CreateTask wrote, because its flow was refused; a confirmed one stays."""

    task_id: str
    op: str


@dataclass(frozen=True, slots=True)
class GetTask:
    """Read the record.

    Attributes:
        task_id: the task.
        paths: the payload keys to read; None reads all, and the attributes.
    """

    task_id: str
    paths: list[str] | None = None


@dataclass(frozen=True, slots=True)
class TaskExists:
    """Ask whether the task is there and not deleted."""

    task_id: str


@dataclass(frozen=True, slots=True)
class TaskChanges:
    """What a patch changes. Values are JSON.

    Attributes:
        status: the new status; None leaves it.
        payload: payload keys to set.
        removed: payload keys to remove.
        attributes: attributes to set.
    """

    status: str | None = None
    payload: dict[str, JsonData] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    attributes: dict[str, JsonData] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.status is None and not (self.payload or self.removed or self.attributes)


@dataclass(frozen=True, slots=True)
class PatchTask:
    """Change the record."""

    task_id: str
    op: str
    changes: TaskChanges


@dataclass(frozen=True, slots=True)
class DeleteTask:
    """Mark the task deleted.

    Attributes:
        task_id: the task.
        op: operation id.
        ttl_s: for how many seconds it stays readable; 0 removes it at once; None means the configured deleted_ttl.
    """

    task_id: str
    op: str
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The reply to a change.

    Attributes:
        ver: the version that the change made.
        at: when, UTC, ISO 8601.
        created: whether a ConfirmTask had to create the record, or a CreateTask did (False: it was there already,
            written by the same start).
    """

    ver: int
    at: str
    created: bool = False


TaskChange: TypeAlias = CreateTask | ConfirmTask | DiscardTask | PatchTask | DeleteTask
TaskOperation: TypeAlias = TaskChange | GetTask | TaskExists
TaskReply: TypeAlias = TaskModel | Written | bool | None
"""The replies: GetTask gets a TaskModel, TaskExists and DiscardTask a bool, ConfirmTask None if there is no task."""

OperationKind: TypeAlias = Literal["create", "confirm", "discard", "get", "exists", "patch", "delete"]

_KINDS: Final[Mapping[type[TaskOperation], OperationKind]] = {
    CreateTask: "create",
    ConfirmTask: "confirm",
    DiscardTask: "discard",
    GetTask: "get",
    TaskExists: "exists",
    PatchTask: "patch",
    DeleteTask: "delete",
}


def kind_of(operation: TaskOperation) -> OperationKind:
    """The word for an operation, of which engines make activity and step names."""
    return _KINDS[type(operation)]


# --- what users say -------------------------------------------------------------------------------------------------


def check_task_id(value: object) -> str:
    """Return `value` if it can be the uuid of a task.

    Raises:
        ValueError: blank, no text, longer than 255 bytes, with control characters, or ending in ":ops", which would
            name another task's keys.
    """
    text = check_name(value, what="task uuid")
    if _OWN_KEY.search(text):
        raise ValueError(f'task uuid must not end in ":ops", got {text!r}')
    return text


def check_status(value: object) -> str:
    """Return `value` if it can be a status: a text that is not blank, of at most 255 bytes.

    Raises:
        ValueError: it can't.
    """
    return check_name(value, what="status")


def check_payload(value: object) -> dict[str, JsonData]:
    """A payload as plain JSON; None is an empty one.

    Raises:
        TypeError, ValueError: not a mapping, more than 10,000 keys, or no JSON; the path is named.
    """
    if value is None:
        return {}
    plain = to_json(dict(value) if isinstance(value, Mapping) else value, what="payload")
    if not isinstance(plain, dict):
        raise TypeError(f"payload must be a mapping, got {type(value).__name__}")
    _check_count(len(plain))
    return plain


def check_patch(patch: object) -> TaskChanges:
    """What `patch_task(patch)` changes.

    Args:
        patch: `status`, `payload` (its top-level keys are merged, their values replaced whole), and any other name,
            which is an attribute of the task.

    Raises:
        TypeError, ValueError: no mapping, empty, a name of the record's own, or values that are no JSON.
    """
    if not isinstance(patch, Mapping):
        raise TypeError(f"patch must be a mapping, got {type(patch).__name__}")
    if not patch:
        raise ValueError("patch must not be empty: give a status, a payload or an attribute")
    status: str | None = None
    payload: dict[str, JsonData] = {}
    attributes: dict[str, JsonData] = {}
    for name, value in patch.items():
        if name == "status":
            status = check_status(value)
        elif name == "payload":
            if not isinstance(value, Mapping):
                raise TypeError(f"patch: payload must be a mapping, got {type(value).__name__}")
            payload = check_payload(value)
        else:
            attributes[check_attribute(name)] = to_json(value, what=f"attribute {name!r}")
    _check_count(len(payload) + len(attributes))
    return TaskChanges(status, payload, [], attributes)


def check_attribute(name: object) -> str:
    """Return `name` if an attribute may have it.

    Raises:
        ValueError: blank, too long, or a name of the record's own.
    """
    text = check_name(name, what="attribute name")
    if text in META_NAMES:
        raise ValueError(f"patch: {text!r} is kept by the record itself and can't be set")
    return text


def check_delete_ttl(ttl: object) -> int | None:
    """Return `ttl` if it is a whole number of seconds of 0 or more, or None.

    Raises:
        ValueError: it is something else.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 <= ttl <= _MAX_TTL_S:
        raise ValueError(f"ttl must be a whole number of seconds from 0 to {_MAX_TTL_S}, got {ttl!r}")
    return ttl


def changes_between(before: Mapping[str, object], after: Mapping[str, object]) -> TaskChanges:
    """What `state()` writes: the payload keys that were set to another value, and those that were removed.

    Args:
        before: the payload as it was when the block was entered, plain JSON.
        after: the payload as the block left it.

    Raises:
        TypeError, ValueError: `after` holds no JSON; the path is named.
    """
    plain = check_payload(after)
    old = check_payload(before)
    changed = {key: value for key, value in plain.items() if key not in old or not same(old[key], value)}
    return TaskChanges(None, changed, [key for key in old if key not in plain])


def applied(task: TaskModel, changes: TaskChanges, written: Written) -> TaskModel:
    """The task after a patch that was written, as `self.task` shows it."""
    payload = {key: value for key, value in task.payload.items() if key not in changes.removed}
    return task.model_copy(
        update={
            "status": task.status if changes.status is None else changes.status,
            "payload": payload | changes.payload,
            "attributes": task.attributes | changes.attributes,
            "ver": written.ver,
            "updated_at": datetime.fromisoformat(written.at),
        }
    )


def field_names(changes: TaskChanges) -> list[str]:
    """The record's field names that a patch touches, as the stream entry lists them."""
    names = [] if changes.status is None else ["status"]
    names += _prefixed(PAYLOAD, changes.payload) + _prefixed(PAYLOAD, changes.removed)
    return names + _prefixed(ATTRIBUTE, changes.attributes)


def _prefixed(prefix: str, names: Iterable[str]) -> list[str]:
    return [prefix + name for name in names]


def _check_count(count: int) -> None:
    if count > MAX_FIELDS:
        raise ValueError(f"at most {MAX_FIELDS} payload keys and attributes may be written at once, got {count}")
