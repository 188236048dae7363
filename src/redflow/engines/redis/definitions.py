"""Workflow metadata: what a worker registers, what clients read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial

import orjson

from redflow.definitions import AnyWorkflow
from redflow.domain.names import scope_queue
from redflow.domain.options import check_event_triggers, positive_ms
from redflow.domain.paging import is_text
from redflow.domain.payload import encode
from redflow.domain.schema import contract_of
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.crons import Crons, cron_meta, cron_triggers
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import as_fields, as_int, as_list, as_text, readable
from redflow.engines.redis.runs import SERVER_TIME
from redflow.engines.redis.scripts import verb
from redflow.types import EventDefinition, EventTrigger, WorkflowEventMeta, WorkflowMeta

REGISTER = verb(
    "register_workflow",
    args="now, name, app, queue, max_concurrency, max_attempts, version, meta, priority, run_timeout, on_failure",
)
REMOVE = verb("remove_workflows", args="now, app, quiet_ms", item="workflow (still in the registry)")

SUBSCRIBE = verb("subscribe_workflow", args="workflow", item="trigger, event, contract")
COUNT_CHORES = verb("count_chores", args="app", item="name, queue, events, crons")

QUIET_MS = 30_000
"""A worker that was heard of within this time, ms, keeps the metadata of its workflows."""


class Definitions:
    """The registered workflows of one prefix."""

    def __init__(self, connection: Connection, keys: Keys, crons: Crons | None = None) -> None:
        self._connection = connection
        self._keys = keys
        self._crons = crons or Crons(connection, keys)

    async def sync(self, definitions: Sequence[AnyWorkflow], app: str, version: int | None) -> None:
        """Make Redis know exactly these workflows of the app.

        Args:
            definitions: all workflows of the registry.
            app: the app, not blank.
            version: start of the worker, server ms; an older worker never overwrites a newer one. None: no worker.

        Raises:
            ValueError: a workflow of that name belongs to another app that is alive, or triggers can't be served.
        """
        for definition in definitions:
            self._crons.zones(definition)
            check_event_triggers(definition.options.event)
        contracts = contracts_of(definitions)
        names = [definition.name for definition in definitions]
        await self._remove(names, app)
        await self._check_stored(definitions, contracts)
        for definition in definitions:
            if await self._register(definition, app, version):
                await self._subscribe(definition, contracts)
                await self._crons.schedule(definition, version)

    async def _remove(self, kept: Sequence[str], app: str) -> None:
        await self._connection.call(REMOVE, self._keys.base, (SERVER_TIME, app, QUIET_MS, *kept))

    async def _check_stored(self, definitions: Sequence[AnyWorkflow], contracts: Mapping[str, str]) -> None:
        """Refuse the whole registry if an event has another contract, before anything of it is written."""
        names = list(contracts)
        stored = await self._connection.read_many([("GET", f"{self._keys.base}contract:{name}") for name in names])
        for name, contract in zip(names, stored, strict=True):
            if isinstance(contract, bytes) and contract.decode() != contracts[name]:
                subscriber = next(d.name for d in definitions if name in map(_event_name, d.options.event))
                raise _schema_conflict(name, subscriber)

    async def _subscribe(self, definition: AnyWorkflow, contracts: Mapping[str, str]) -> None:
        args: list[Argument] = [definition.name]
        for trigger in definition.options.event:
            event_name = _event_name(trigger)
            args += (event_trigger_id(definition.name, trigger), event_name, contracts[event_name])
        answer, *event = as_list(await self._connection.call(SUBSCRIBE, self._keys.base, args))
        if answer == b"conflict":
            raise _schema_conflict(as_text(event[0]), definition.name)

    async def event_definitions(self) -> list[EventDefinition]:
        """Events with subscribers, by name."""
        base = self._keys.base
        names = sorted(as_text(name) for name in as_list(await self._connection.read("SMEMBERS", f"{base}subscribed")))
        replies = await self._connection.read_many(
            [("HVALS", f"{base}subs:{name}") for name in names] + [("GET", f"{base}contract:{name}") for name in names]
        )
        result: list[EventDefinition] = []
        for name, workflows, contract in zip(names, replies, replies[len(names) :], strict=False):
            metas = [await self.get(workflow) for workflow in sorted({as_text(w) for w in as_list(workflows)})]
            known: EventDefinition = {
                "event": name,
                "subscribers": [{"workflow": meta["name"], "queue": meta["queue"]} for meta in metas if meta],
            }
            if isinstance(contract, bytes) and contract != b"-":
                known["input_json_schema"] = orjson.loads(contract)
            result.append(known)
        return result

    async def _register(self, definition: AnyWorkflow, app: str, version: int | None) -> bool:
        """Write a workflow's metadata; False if a worker that started later has written it."""
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
            options.priority or "",
            "" if options.timeout_ms is None else positive_ms(options.timeout_ms, "timeout_ms"),
            "1" if options.on_failure is not None else "",
        )
        while True:
            answer, *rest = as_list(await self._connection.call(REGISTER, self._keys.base, args))
            if answer == b"other_app":
                raise ValueError(
                    f"workflow {definition.name!r} is served by the live app {as_text(rest[0])!r}; "
                    f"app {app!r} can't serve it too: give it another name, or stop that app"
                )
            if answer != b"more":
                return answer == b"ok"

    async def heads(self) -> list[tuple[str, str, str]]:
        """(name, app, queue) of the registered workflows; the queue unscoped, the app "unknown" if it is missing."""
        names = sorted(await self.names())
        replies = await self._connection.read_many([("HMGET", self._keys.meta(name), "app", "queue") for name in names])
        found: list[tuple[str, str, str]] = []
        for name, reply in zip(names, replies, strict=True):
            app, queue = as_list(reply)
            if queue is not None:
                found.append((name, "unknown" if app is None else as_text(app), as_text(queue)))
        return found

    async def names(self) -> list[str]:
        """The registered workflows, in no order."""
        return [as_text(name) for name in as_list(await self._connection.read("SMEMBERS", self._keys.metas))]

    async def get(self, name: str) -> WorkflowMeta | None:
        """The metadata of one workflow; None if it is not registered."""
        if not is_text(name):
            return None
        record = as_fields(await self._connection.read("HGETALL", self._keys.meta(name)))
        return next(iter(await self._with_crons([(name, record)])), None) if record else None

    async def all(self) -> list[WorkflowMeta]:
        """The metadata of every workflow, by name."""
        names = sorted(await self.names())
        replies = await self._connection.read_many([("HGETALL", self._keys.meta(name)) for name in names])
        records = [as_fields(reply) for reply in replies]
        return await self._with_crons([(name, record) for name, record in zip(names, records, strict=True) if record])

    async def _with_crons(self, records: Sequence[tuple[str, dict[bytes, bytes]]]) -> list[WorkflowMeta]:
        triggers = [trigger for _, record in records for trigger in cron_triggers(record)]
        replies = await self._connection.read_many([("HGETALL", self._keys.cron(trigger)) for trigger in triggers])
        crons = dict(zip(triggers, map(as_fields, replies), strict=True))
        metas: list[WorkflowMeta] = []
        for name, record in records:
            meta = readable(f"workflow {name}", partial(_meta, name, record))
            if meta is None:
                continue
            stored = [crons[trigger] for trigger in cron_triggers(record) if crons[trigger]]
            read = [readable(f"a cron trigger of workflow {name}", partial(cron_meta, cron)) for cron in stored]
            if shown := [cron for cron in read if cron is not None]:
                meta["cron"] = shown
            metas.append(meta)
        return metas

    async def chores(self, definitions: Sequence[AnyWorkflow], app: str) -> tuple[bool, bool]:
        """(whether metadata of these workflows is missing or another's, whether cancels are to be carried on)."""
        args: list[Argument] = [app]
        for definition in definitions:
            options = definition.options
            args += (definition.name, options.queue, len(options.event), len(options.cron))
        unlike, cascade = as_list(await self._connection.call(COUNT_CHORES, self._keys.base, args))
        return as_int(unlike) > 0, cascade == 1


def event_trigger_id(workflow: str, trigger: EventTrigger) -> str:
    """The identity of an event trigger: made of the workflow and the trigger's id, or else the event's name."""
    parts = ["id", workflow, trigger.id] if trigger.id is not None else ["event", workflow, _event_name(trigger)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _event_name(trigger: EventTrigger) -> str:
    """The event of a trigger; that of a definition made by hand was not stripped yet."""
    return trigger.name.strip()


def contracts_of(definitions: Sequence[AnyWorkflow]) -> dict[str, str]:
    """The contract of each event the definitions subscribe to, '-' for none.

    Raises:
        ValueError: two of them disagree.
    """
    contracts: dict[str, str] = {}
    for definition in definitions:
        contract = contract_of(definition.options.input_schema) or "-"
        for trigger in definition.options.event:
            name = _event_name(trigger)
            if contracts.setdefault(name, contract) != contract:
                raise _schema_conflict(name, definition.name)
    return contracts


def _schema_conflict(event: str, workflow: str) -> ValueError:
    return ValueError(
        f"Event schema conflict: workflow {workflow!r} subscribes to {event!r} with another input schema than the "
        f"event's other subscribers or its stored contract; all must have the same one, or all none"
    )


def _extra(definition: AnyWorkflow) -> dict[str, object]:
    schema = definition.options.input_schema
    make = getattr(schema, "model_json_schema", None)
    extra: dict[str, object] = {"input_json_schema": make(mode="validation")} if callable(make) else {}
    if definition.options.event:
        extra["event"] = [{"name": _event_name(trigger), "id": trigger.id} for trigger in definition.options.event]
    return extra


def _event_meta(trigger: dict[str, str | None]) -> WorkflowEventMeta:
    meta: WorkflowEventMeta = {"name": trigger["name"] or ""}
    if trigger["id"] is not None:
        meta["id"] = trigger["id"]
    return meta


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
    if b"priority" in record:
        meta["priority"] = int(record[b"priority"])
    if b"run_timeout" in record:
        meta["timeout_ms"] = int(record[b"run_timeout"])
    extra = orjson.loads(record.get(b"meta", b"{}"))
    if b"events" in record:
        meta["event"] = [_event_meta(trigger) for trigger in extra.get("event", [])]
    if "input_json_schema" in extra:
        meta["input_json_schema"] = extra["input_json_schema"]
    return meta
