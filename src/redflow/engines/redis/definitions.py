"""Workflow metadata: what a worker registers, what clients read."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from redflow.definitions import AnyWorkflow
from redflow.domain.names import scope_queue
from redflow.domain.payload import encode
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import as_fields, as_int, as_list, as_text
from redflow.engines.redis.runs import SERVER_TIME
from redflow.engines.redis.scripts import verb
from redflow.types import WorkflowMeta

REGISTER = verb("register_workflow", args="now, name, app, queue, max_concurrency, max_attempts, version, meta")
REMOVE = verb("remove_workflows", args="now, app, quiet_ms", item="workflow (still in the registry)")

COUNT_CHORES = verb("count_chores", args="app", item="name, queue")

QUIET_MS = 30_000
"""A worker that was heard of within this time, ms, keeps the metadata of its workflows."""


class Definitions:
    """The registered workflows of one prefix."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def sync(self, definitions: Sequence[AnyWorkflow], app: str, version: int | None) -> None:
        """Make Redis know exactly these workflows of the app.

        Args:
            definitions: all workflows of the registry.
            app: the app, not blank.
            version: start of the worker, server ms; an older worker never overwrites a newer one. None: no worker.

        Raises:
            ValueError: a workflow of that name belongs to another app that is alive, or has an option that this
                version does not serve yet.
        """
        for definition in definitions:
            refuse_unserved(definition)
        names = [definition.name for definition in definitions]
        await self._connection.call(REMOVE, self._keys.base, (SERVER_TIME, app, QUIET_MS, *names))
        for definition in definitions:
            await self._register(definition, app, version)

    async def _register(self, definition: AnyWorkflow, app: str, version: int | None) -> None:
        options = definition.options
        args = (
            SERVER_TIME,
            definition.name,
            app,
            options.queue,
            "" if options.max_concurrency is None else options.max_concurrency,
            definition.max_attempts or 3,
            "" if version is None else version,
            encode(_extra(definition), what="metadata"),
        )
        while True:
            answer, *rest = as_list(await self._connection.call(REGISTER, self._keys.base, args))
            if answer == b"other_app":
                raise ValueError(
                    f"workflow {definition.name!r} is served by the live app {as_text(rest[0])!r}; "
                    f"app {app!r} can't serve it too: give it another name, or stop that app"
                )
            if answer != b"more":
                return

    async def names(self) -> list[str]:
        """The registered workflows, in no order."""
        return [as_text(name) for name in as_list(await self._connection.read("SMEMBERS", self._keys.metas))]

    async def get(self, name: str) -> WorkflowMeta | None:
        """The metadata of one workflow; None if it is not registered."""
        record = as_fields(await self._connection.read("HGETALL", self._keys.meta(name)))
        return _meta(name, record) if record else None

    async def all(self) -> list[WorkflowMeta]:
        """The metadata of every workflow, by name."""
        names = sorted(await self.names())
        replies = await self._connection.read_many([("HGETALL", self._keys.meta(name)) for name in names])
        records = [as_fields(reply) for reply in replies]
        return [_meta(name, record) for name, record in zip(names, records, strict=True) if record]

    async def chores(self, definitions: Sequence[AnyWorkflow], app: str) -> tuple[bool, bool]:
        """(whether metadata of these workflows is missing or another's, whether cancels are to be carried on)."""
        args: list[Argument] = [app]
        for definition in definitions:
            args += (definition.name, definition.options.queue)
        unlike, cascade = as_list(await self._connection.call(COUNT_CHORES, self._keys.base, args))
        return as_int(unlike) > 0, cascade == 1


def refuse_unserved(definition: AnyWorkflow) -> None:
    """Say no, at once and by name, to what a worker of this version would silently leave out.

    Raises:
        ValueError: naming workflow and option.
    """
    options = definition.options
    for name in ("cron", "event", "debounce", "mutex", "rate_limit", "throttle"):
        if getattr(options, name):
            raise ValueError(
                f"workflow {definition.name!r} sets {name}, which workers of this version of redflow don't serve yet"
            )


def _extra(definition: AnyWorkflow) -> dict[str, object]:
    schema = definition.options.input_schema
    make = getattr(schema, "model_json_schema", None)
    return {"input_json_schema": make(mode="validation")} if callable(make) else {}


def _meta(name: str, record: dict[bytes, bytes]) -> WorkflowMeta:
    app = record.get(b"app", b"").decode() or "unknown"
    queue = record[b"queue"].decode()
    meta: WorkflowMeta = {
        "name": name,
        "app": app,
        "queue": scope_queue(queue, app),
        "max_concurrency": int(record[b"max_concurrency"]) if b"max_concurrency" in record else None,
        "updated_at": int(record[b"updated"]),
    }
    if b"max_attempts" in record:
        meta["max_attempts"] = int(record[b"max_attempts"])
    extra = orjson.loads(record.get(b"meta", b"{}"))
    if "input_json_schema" in extra:
        meta["input_json_schema"] = extra["input_json_schema"]
    return meta
