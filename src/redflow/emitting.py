"""Emitting an event: what the client and a step have in common."""

from __future__ import annotations

import orjson

from redflow.domain.event import fingerprint
from redflow.domain.names import check_key, check_name
from redflow.domain.orders import ttl_s
from redflow.domain.payload import encode
from redflow.domain.schema import check_payload
from redflow.engine import Emitted, EventOrder, EventPort
from redflow.errors import NotDurableError


def build_event(
    name: str,
    input: object,
    *,
    made_id: str,
    correlation_key: str | None = None,
    event_id: str | None = None,
    idempotency_key: str | None = None,
    idempotency_ttl: int | None = None,
    parent_run_id: str | None = None,
) -> EventOrder:
    """The order for one event.

    Args:
        name: of the event.
        input: its data.
        made_id: the id it gets when the caller chose none.
        correlation_key: wakes the runs that wait for it.
        event_id: the id the caller chose.
        idempotency_key: against duplicates; a blank one counts as none.
        idempotency_ttl: its TTL, whole seconds.
        parent_run_id: stored with the event.

    Raises:
        TypeError, ValueError, PayloadTooLargeError: naming what is wrong.
    """
    checked = check_name(name, what="event name").strip()
    data = encode(input, what="event data")
    key = None if correlation_key is None else check_key(correlation_key, what="correlation_key")
    parent = None if parent_run_id is None else check_name(parent_run_id, what="parent_run_id")
    return EventOrder(
        event_id=made_id if event_id is None else check_key(event_id, what="event_id"),
        explicit=event_id is not None,
        name=checked,
        data=data,
        fingerprint=fingerprint(checked, data, key, parent),
        correlation_key=key,
        parent_run_id=parent,
        idempotency_key=None if is_blank(idempotency_key) else check_key(idempotency_key, what="idempotency_key"),
        idempotency_ttl_s=ttl_s(idempotency_ttl),
    )


def is_blank(key: object) -> bool:
    """Whether an idempotency key counts as none."""
    return key is None or (isinstance(key, str) and not key.strip())


async def accept_event(engine: EventPort, order: EventOrder) -> Emitted:
    """Validate an event's data against its contract, then emit it.

    Raises:
        InputValidationError: the data breaks the contract; nothing was written.
        ValueError: its id or key belongs to an event with other data.
        NotDurableError: it was emitted, but not confirmed in time to be as durable as was asked.
    """
    contract = await engine.event_contract(order.name)
    if contract is not None and contract != "-":
        check_payload(order.name, contract, orjson.loads(order.data))
    emitted = await engine.emit_event(order)
    if emitted.code == "conflict":
        raise ValueError(f"event {emitted.event_id!r} already exists with different event data")
    if not emitted.confirmed:
        raise NotDurableError(
            f"event {emitted.event_id} was emitted, but that it is {order.durability} was not confirmed in time",
            event_id=emitted.event_id,
        )
    return emitted
