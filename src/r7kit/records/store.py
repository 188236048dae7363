"""TaskStore: the task operations on Redis, one script each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from r7kit import operations as ops
from r7kit.exceptions import TaskAlreadyExistsError, TaskNotFoundError
from r7kit.models import TaskModel
from r7kit.operations import ATTRIBUTE, PAYLOAD, START_TTL_S, Written
from r7kit.records.keys import META_FIELDS, OPS_TTL_S, ops_key, task_key
from r7kit.records.stream import ChangeFeed
from r7kit.serializer import dumps, loads
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.discovery import clone_of
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import Reply, as_int, as_list, as_text
from redflow.engines.redis.scripts import Script, verb
from redflow.engines.redis.sources import Source, open_source
from redflow.engines.redis.urls import parse_url
from redflow.errors import RedflowError

_PACKAGE: Final = "r7kit.records"
_CREATE = verb(
    "create_task",
    args="op, now, uuid, status, ttl_ms, maxlen, names, starting",
    item="field, value",
    package=_PACKAGE,
)
_CONFIRM = verb(
    "confirm_task",
    args="op, now, uuid, status, ttl_ms, maxlen, names, may_create",
    item="field, value",
    package=_PACKAGE,
)
_DISCARD = verb("discard_task", args="op, now, maxlen", package=_PACKAGE)
_PATCH = verb("patch_task", args="op, now, ttl_ms, maxlen, names", item="field, value", package=_PACKAGE)
_DELETE = verb("delete_task", args="op, now, ttl_ms, maxlen, ops_ttl_ms", package=_PACKAGE)
_RENEW = verb("renew_tasks", args="ttl_ms", package=_PACKAGE)

_RENEW_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How records are kept.

    Attributes:
        stream: key of the stream of changes.
        task_ttl_s: how long an untouched task lives, seconds.
        deleted_ttl_s: how long a deleted one stays readable where the deletion does not say, seconds.
        stream_maxlen: about how many entries the stream keeps.
    """

    stream: str = "task_events"
    task_ttl_s: int = 604_800
    deleted_ttl_s: int = 3600
    stream_maxlen: int = 100_000


class TaskStore:
    """The task records of one Redis, for one event loop. Opens its connection at the first call.

    Every change may be sent again with its operation id; so a call whose reply was lost is repeated until
    `patience_s` is over.

    Args:
        url: of the server; one primary, no Cluster.
        options: how records are kept.
        patience_s: how long a call is repeated while the server can't be reached, seconds.

    Raises:
        ValueError: the URL is none, or leads to a Cluster.
    """

    def __init__(self, url: str, options: RecordOptions | None = None, *, patience_s: float = 3.0) -> None:
        self.options = options or RecordOptions()
        self._source = _open(url)
        self._connection = Connection(clone_of(self._source.redis, ""), self._source.address, patience_s=patience_s)
        if self._source.reply_timeout_s is not None:
            self._connection.limit_silence(self._source.reply_timeout_s)
        self._feed: ChangeFeed | None = None
        self.now_ms: int | None = None
        """For tests: the time of changes, in place of the server's clock; ms since 1970."""

    async def create(self, order: ops.CreateTask) -> Written:
        """Write the record of a new task.

        Returns:
            Its version and time. `created` is False where another start of the same content wrote it before and has
            not got to its flow yet: whoever starts the flow first has the task.

        Raises:
            TaskAlreadyExistsError: there is a task of this uuid.
        """
        ttl_s = START_TTL_S if order.starting else self.options.task_ttl_s
        pairs, names = _payload_fields(order.payload)
        args = self._creation(order, ttl_s, names, "1" if order.starting else "")
        reply = await self._call(_CREATE, order.task_id, [*args, *pairs])
        if reply[0] == b"exists":
            raise TaskAlreadyExistsError.of(order.task_id)
        return Written(as_int(reply[1]), as_text(reply[2]), created=reply[0] != b"waiting")

    async def confirm(self, order: ops.ConfirmTask) -> Written | None:
        """Make the record of a starting task permanent; renews the life of one that is.

        Returns:
            Version and time of the last change; None if the task is deleted or not there.
        """
        pairs, names = _payload_fields(order.payload)
        args = self._creation(order, self.options.task_ttl_s, names, "1" if order.may_create else "")
        reply = await self._call(_CONFIRM, order.task_id, [*args, *pairs])
        if reply[0] in (b"missing", b"gone"):
            return None
        return Written(as_int(reply[1]), as_text(reply[2]), created=reply[0] == b"created")

    async def discard(self, order: ops.DiscardTask) -> bool:
        """Remove the record of a refused start; returns whether there was one to remove."""
        reply = await self._call(_DISCARD, order.task_id, [order.op, self._now, self.options.stream_maxlen])
        return reply[0] == b"discarded"

    async def patch(self, order: ops.PatchTask) -> Written:
        """Change a task.

        Raises:
            TaskNotFoundError: it is not there, or deleted.
        """
        changes = order.changes
        pairs: list[Argument] = []
        if changes.status is not None:
            pairs += ["=status", changes.status]
        pairs += _pairs(PAYLOAD, changes.payload) + _pairs(ATTRIBUTE, changes.attributes)
        for key in changes.removed:
            pairs += [f"-{PAYLOAD}{key}", ""]
        options = self.options
        args: list[Argument] = [
            order.op,
            self._now,
            options.task_ttl_s * 1000,
            options.stream_maxlen,
            _text(ops.field_names(changes)),
        ]
        reply = await self._call(_PATCH, order.task_id, [*args, *pairs])
        return _written(reply, order.task_id)

    async def delete(self, order: ops.DeleteTask) -> Written:
        """Mark a task deleted, or remove it.

        Raises:
            TaskNotFoundError: it is not there, or deleted already.
        """
        ttl_s = self.options.deleted_ttl_s if order.ttl_s is None else order.ttl_s
        ops_ttl_s = max(ttl_s, OPS_TTL_S)
        args: list[Argument] = [order.op, self._now, ttl_s * 1000, self.options.stream_maxlen, ops_ttl_s * 1000]
        return _written(await self._call(_DELETE, order.task_id, args), order.task_id)

    async def get(self, order: ops.GetTask) -> TaskModel:
        """Read a task, also a deleted one.

        Raises:
            TaskNotFoundError: it is not there.
        """
        key = task_key(order.task_id)
        if order.paths is None:
            flat = as_list(await self._connection.read("HGETALL", key))
            fields = {as_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        else:
            wanted = [*META_FIELDS, *(PAYLOAD + path for path in order.paths)]
            values = as_list(await self._connection.read("HMGET", key, *wanted))
            fields = {name: value for name, value in zip(wanted, values, strict=True) if value is not None}
        if "uuid" not in fields:
            raise TaskNotFoundError.of(order.task_id)
        return task_model(fields)

    async def exists(self, order: ops.TaskExists) -> bool:
        """Whether the task is there and not deleted."""
        uuid, deleted = as_list(await self._connection.read("HMGET", task_key(order.task_id), "uuid", "deleted_at"))
        return uuid is not None and deleted is None

    async def renew(self, task_ids: Sequence[str]) -> int:
        """Prolong the lives of tasks whose flows run; returns how many there were."""
        renewed = 0
        for start in range(0, len(task_ids), _RENEW_AT_ONCE):
            keys = [key for task in task_ids[start : start + _RENEW_AT_ONCE] for key in (task_key(task), ops_key(task))]
            renewed += as_int(await self._connection.call(_RENEW, keys, [self.options.task_ttl_s * 1000]))
        return renewed

    def changes(self) -> ChangeFeed:
        """The changes of all tasks, as they happen."""
        if self._feed is None:
            self._feed = ChangeFeed(self._connection, self.options.stream)
        return self._feed

    async def close(self) -> None:
        """Close the connections; an embedded server is given back."""
        if self._feed is not None:
            await self._feed.close()
        await self._connection.close()
        await self._source.redis.aclose()
        if self._source.embedded is not None:
            await self._source.embedded.release()

    @property
    def _now(self) -> str:
        return "" if self.now_ms is None else str(self.now_ms)

    def _creation(
        self, order: ops.CreateTask | ops.ConfirmTask, ttl_s: int, names: Sequence[str], flag: str
    ) -> list[Argument]:
        maxlen = self.options.stream_maxlen
        names_text = _text(["status", *names])
        return [order.op, self._now, order.task_id, order.status, ttl_s * 1000, maxlen, names_text, flag]

    async def _call(self, script: Script, task_id: str, args: Sequence[Argument]) -> list[Reply]:
        keys = (task_key(task_id), ops_key(task_id), self.options.stream)
        try:
            return as_list(await self._connection.call(script, keys, args))
        except RedflowError as exc:
            if "CROSSSLOT" in str(exc) or "hash to the same slot" in str(exc):  # redis-py takes the code away
                raise RedflowError(_NO_CLUSTER.format(self._connection.address)) from exc
            raise


_NO_CLUSTER: Final = (
    "{} is a Redis Cluster, where task records can't be kept: a record and its stream change in one step, which "
    "needs one primary. Give redis_url a single server or a Sentinel"
)


def _open(url: str) -> Source:
    address = parse_url(url)
    if address.kind == "cluster":
        raise ValueError("redis_url: " + _NO_CLUSTER.format(address))
    return open_source(url)


def _written(reply: list[Reply], task_id: str) -> Written:
    if reply[0] in (b"missing", b"gone"):
        why = "there is no such task (any more)" if reply[0] == b"missing" else "it is deleted"
        raise TaskNotFoundError.of(task_id, why)
    return Written(as_int(reply[1]), as_text(reply[2]))


def _payload_fields(payload: Mapping[str, object]) -> tuple[list[Argument], list[str]]:
    return _pairs(PAYLOAD, payload), [PAYLOAD + key for key in payload]


def _pairs(prefix: str, values: Mapping[str, object]) -> list[Argument]:
    pairs: list[Argument] = []
    for name, value in values.items():
        pairs += [f"={prefix}{name}", dumps(value)]
    return pairs


def _text(names: Sequence[str]) -> str:
    return orjson.dumps(names).decode()


def task_model(fields: Mapping[str, Reply]) -> TaskModel:
    """A record's fields as a model.

    Raises:
        ValueError: a field is broken.
    """
    meta = {name: as_text(fields[name]) for name in META_FIELDS if name in fields}
    payload = {name[len(PAYLOAD) :]: as_text(value) for name, value in fields.items() if name.startswith(PAYLOAD)}
    attributes = {
        name[len(ATTRIBUTE) :]: as_text(value) for name, value in fields.items() if name.startswith(ATTRIBUTE)
    }
    return TaskModel.model_validate(
        {**meta, "payload": _loaded("payload", payload), "attributes": _loaded("attribute", attributes)}
    )


def _loaded(what: str, texts: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, text in texts.items():
        try:
            values[name] = loads(text)
        except ValueError as exc:
            raise ValueError(f"{what} {name!r} of the task record: {exc}") from exc
    return values
