"""Events: accepted once, delivered through a durable outbox that any worker carries on, kept as history."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from redflow.domain.paging import LARGEST_PAGE, is_text, page_limit
from redflow.domain.payload import pack
from redflow.domain.run import public_run_id, stored_run_id
from redflow.domain.sealing import Vault
from redflow.engine import Emitted, EventOrder
from redflow.engines.redis.complaints import Complaints
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.event_records import event_record, listed_event
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.listing import LIST_PAGE
from redflow.engines.redis.replies import (
    Reply,
    as_bytes,
    as_fields,
    as_int,
    as_list,
    as_text,
    readable,
    reading,
    time_or_none,
)
from redflow.engines.redis.runs import SERVER_TIME
from redflow.engines.redis.scripts import verb
from redflow.errors import RedflowError
from redflow.types import Durability, EventDelivery, EventFanoutStatus, EventRecord, ListedEvent, ListEventsParams

log = logging.getLogger("redflow")

ACCEPT = verb(
    "accept_event",
    args="now, id, explicit, name, data, correlation_key, parent, fingerprint, idempotency_key, idempotency_ttl, "
    "retention",
)
DELIVER = verb("deliver_event", args="now, id, next_at")
DUE = verb("due_events", args="now, limit, lease_ms")
DEFER = verb("defer_event", args="now, id, delay_ms, error")
PURGE_EVENTS = verb("purge_events", args="now, limit")

LEASE_MS: Final = 30_000
"""How long an emitter has an event for itself, ms."""
_SCANNED: Final = 500
_STATUSES: Final[tuple[EventFanoutStatus, ...]] = ("pending", "completed", "partial", "failed", "no-subscribers")


class Events:
    """The events of one prefix."""

    def __init__(self, connection: Connection, keys: Keys, retention_ms: int, vault: Vault | None = None) -> None:
        self._connection = connection
        self._keys = keys
        self._retention_ms = retention_ms
        self._vault = vault

    async def emit(self, order: EventOrder) -> Emitted:
        """Accept an event and pass over it until its fan-out is complete; what fails, workers carry on."""
        emitted = await self.accept(order)
        try:
            while not emitted.final:
                passed = await self.deliver(emitted.event_id)
                emitted = replace(passed, code=emitted.code, confirmed=emitted.confirmed)
        except RedflowError as exc:
            log.warning("event %s stays in the outbox, workers carry on: %s", emitted.event_id, exc)
        return emitted

    async def accept(self, order: EventOrder) -> Emitted:
        """Record an event and make the first pass over it."""
        ttl_s = max(1, min(order.idempotency_ttl_s, self._retention_ms // 1000))
        data = pack(order.data)
        if self._vault is not None:
            order, data = _sealed(order, data, self._vault)
        args = (
            SERVER_TIME,
            order.event_id,
            "1" if order.explicit else "",
            order.name,
            data,
            "" if order.correlation_key is None else "=" + order.correlation_key,
            order.parent_run_id or "",
            order.fingerprint,
            "" if order.idempotency_key is None else "=" + order.idempotency_key,
            ttl_s,
            self._retention_ms,
        )
        if order.durability is Durability.NONE:
            return await self._emitted(await self._connection.call(ACCEPT, self._keys.base, args))
        reply, confirmed = await self._connection.call_durably(ACCEPT, self._keys.base, args, order.durability)
        return replace(await self._emitted(reply), confirmed=confirmed)

    @property
    def complaints(self) -> Complaints:
        """Where to say that the server is out of reach."""
        return self._connection.complaints

    async def deliver(self, event_id: str) -> Emitted:
        """The next pass over an event."""
        args = (SERVER_TIME, event_id, LEASE_MS)
        return await self._emitted(await self._connection.call(DELIVER, self._keys.base, args))

    async def _emitted(self, reply: Reply) -> Emitted:
        code, event_id, final, runs, resumed = as_list(reply)
        woken = set[str]()
        if isinstance(resumed, list):
            woken = {as_text(run) for run in resumed}
        elif final == 1:
            woken = await self._resumed(as_text(event_id))
        return Emitted(
            as_text(code), as_text(event_id), final == 1, [as_text(run) for run in as_list(runs)], sorted(woken)
        )

    async def _resumed(self, event_id: str) -> set[str]:
        """Public ids of the runs that an event woke, read bit by bit: they are many."""
        found: set[str] = set()
        cursor: bytes = b"0"
        while True:
            key = f"{self._keys.base}resumed:{event_id}"
            reply = as_list(await self._connection.read("SSCAN", key, cursor, "COUNT", _SCANNED))
            cursor = as_bytes(reply[0])
            found |= {public_run_id(as_text(run)) for run in as_list(reply[1])}
            if cursor == b"0":
                return found

    async def due(self, limit: int) -> tuple[int, int | None, list[str]]:
        """Events left unfinished: (server's time, when the next is due, ids taken)."""
        now, next_due, *ids = as_list(await self._connection.call(DUE, self._keys.base, (SERVER_TIME, limit, LEASE_MS)))
        return as_int(now), time_or_none(next_due), [as_text(event_id) for event_id in ids]

    async def defer(self, event_id: str, delay_ms: int, error_json: str) -> int:
        """A pass failed: the next follows after `delay_ms`; how many passes there were."""
        args = (SERVER_TIME, event_id, delay_ms, error_json)
        return as_int(await self._connection.call(DEFER, self._keys.base, args))

    async def passes(self, event_id: str) -> int:
        """How many passes over an event there were."""
        count = await self._connection.read("HGET", f"{self._keys.base}event:{event_id}", "pp")
        return 0 if count is None else as_int(count)

    async def purge(self, reference_ms: int | None, limit: int) -> int:
        """Remove ended events whose retention is over; how many."""
        now: Argument = SERVER_TIME if reference_ms is None else reference_ms
        return as_int(await self._connection.call(PURGE_EVENTS, self._keys.base, (now, limit)))

    async def contract(self, name: str) -> str | None:
        """The contract of an event; None if it has none."""
        text = await self._connection.read("GET", f"{self._keys.base}contract:{name}")
        return text.decode() if isinstance(text, bytes) else None

    # -- queries ------------------------------------------------------------------------------------------------

    async def get(self, event_id: str) -> EventRecord | None:
        """One event; None if there is none of that id."""
        if not is_text(event_id):
            return None
        key = f"{self._keys.base}event:{event_id}"
        replies = await self._connection.read_many(
            [
                ("HGETALL", key),
                ("SMEMBERS", f"{self._keys.base}resumed:{event_id}"),
                ("ZSCORE", f"{self._keys.base}outbox", event_id),
            ]
        )
        record = as_fields(replies[0])
        if b"fan" not in record:
            return None
        resumed = sorted(public_run_id(as_text(run)) for run in as_list(replies[1]))
        with reading(f"event {event_id}"):
            event = event_record(event_id, self._opened(event_id, record), resumed, replies[2])
        await self._follow_merged(event["deliveries"])
        return event

    def _opened(self, event_id: str, record: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """The record with its data decrypted."""
        if self._vault is not None and b"d" in record:
            record[b"d"] = self._vault.open(record[b"d"], "event", event_id, record[b"n"].decode())
        return record

    async def _follow_merged(self, deliveries: Sequence[EventDelivery]) -> None:
        """A delivery whose run a debounce merged into another one names that one."""
        started = [delivery for delivery in deliveries if "run_id" in delivery]
        ids = [stored_run_id(delivery["run_id"]) or "" for delivery in started]
        merged = await self._connection.read_many([("HGET", self._keys.run(run_id), "mi") for run_id in ids])
        for delivery, into in zip(started, merged, strict=True):
            if into is not None:
                delivery["run_id"] = as_text(into)

    async def list(self, params: ListEventsParams) -> list[ListedEvent]:
        """One page of events; see `RedflowClient.list_events`."""
        cursor = await self._cursor(params.cursor)
        if cursor is None:
            return []
        listed: list[ListedEvent] = []
        left = page_limit(params.limit)
        while left > 0:
            size = min(left, LARGEST_PAGE)
            entries = await self._page(params, cursor, size)
            listed += await self._listed([event_id for event_id, _ in entries])
            if len(entries) < size:
                break
            cursor, left = (entries[-1][1], entries[-1][0]), left - size
        return listed

    async def _listed(self, ids: Sequence[str]) -> Sequence[ListedEvent]:
        """Those of the events that are still there."""
        replies = await self._connection.read_many(
            [("HGETALL", f"{self._keys.base}event:{event_id}") for event_id in ids]
            + [("ZSCORE", f"{self._keys.base}outbox", event_id) for event_id in ids]
        )
        listed = []
        for event_id, reply, next_at in zip(ids, replies[: len(ids)], replies[len(ids) :], strict=True):
            record = as_fields(reply)
            if b"fan" in record:
                event = readable(f"event {event_id}", partial(listed_event, event_id, record, next_at))
                if event is not None:
                    listed.append(event)
        return listed

    async def _cursor(self, cursor: str | None) -> tuple[str | int, str] | None:
        if cursor is None:
            return "", ""
        if not is_text(cursor):
            return None
        ts = await self._connection.read("HGET", f"{self._keys.base}event:{cursor}", "t")
        return None if ts is None else (as_int(ts), cursor)

    async def _page(
        self, params: ListEventsParams, cursor: tuple[str | int, str], size: int
    ) -> Sequence[tuple[str, int]]:
        if params.name is not None:
            names = [params.name.strip()]
        else:
            members = await self._connection.read("SMEMBERS", f"{self._keys.base}event_names")
            names = [as_text(name) for name in as_list(members)]
        statuses = _STATUSES if params.fanout_status is None else (params.fanout_status,)
        newest_first = params.sort != "asc"
        args: list[Argument] = ["1" if newest_first else "", cursor[0], cursor[1], size]
        args += [f"eidx:{status}:{name}" for status in statuses for name in names]
        flat = as_list(await self._connection.call(LIST_PAGE, self._keys.base, args))
        return [(as_text(event_id), as_int(ts)) for event_id, ts in zip(flat[::2], flat[1::2], strict=True)]


def _sealed(order: EventOrder, data: bytes, vault: Vault) -> tuple[EventOrder, bytes]:
    """The order with the keys that the server is told, and its data as it is stored."""
    key, correlation_key = order.idempotency_key, order.correlation_key
    told = replace(
        order,
        fingerprint=vault.blind("fingerprint", order.fingerprint),
        idempotency_key=None if key is None else vault.blind("idempotency", key),
        correlation_key=None if correlation_key is None else vault.blind("correlation", correlation_key),
    )
    return told, vault.seal_event(data, order.event_id, order.name)
