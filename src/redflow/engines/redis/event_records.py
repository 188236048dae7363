"""Reads an event's record: what users see of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import orjson

from redflow.domain.names import scope_queue
from redflow.engines.redis.records import stored_error, stored_json
from redflow.engines.redis.replies import Reply, as_int
from redflow.errors import SerializedError
from redflow.types import EventDelivery, EventDeliveryStatus, EventFanoutStatus, EventRecord, JsonData, ListedEvent

Record = Mapping[bytes, bytes]

_FANOUT: dict[bytes, EventFanoutStatus] = {
    b"pending": "pending",
    b"completed": "completed",
    b"partial": "partial",
    b"failed": "failed",
    b"no-subscribers": "no-subscribers",
}
_DELIVERY: dict[str, EventDeliveryStatus] = {"pending": "pending", "delivered": "delivered", "failed": "failed"}


class _Details(TypedDict):
    data: JsonData
    deliveries: list[EventDelivery]
    resumed_run_ids: list[str]
    expires_at: NotRequired[int]
    error: NotRequired[SerializedError]
    last_process_error: NotRequired[SerializedError]


def listed_event(event_id: str, record: Record, next_at: Reply) -> ListedEvent:
    """What `list_events` gives of an event."""
    listed: ListedEvent = {
        "id": event_id,
        "name": record[b"n"].decode(),
        "ts": int(record[b"t"]),
        "subscriber_count": int(record.get(b"ns", b"0")),
        "resumed_run_count": int(record.get(b"nr", b"0")),
        "delivery_count": int(record.get(b"nd", b"0")),
        "failed_delivery_count": int(record.get(b"nf", b"0")),
        "fanout_status": _FANOUT[record[b"fan"]],
    }
    if b"k" in record:
        listed["correlation_key"] = record[b"k"].decode()
    if b"p" in record:
        listed["parent_run_id"] = record[b"p"].decode()
    if next_at is not None:
        listed["next_process_at"] = as_int(next_at)
    if b"pp" in record:
        listed["processing_attempts"] = int(record[b"pp"])
    if b"f" in record:
        listed["finished_at"] = int(record[b"f"])
    return listed


def event_record(event_id: str, record: Record, resumed: list[str], next_at: Reply) -> EventRecord:
    """What `get_event` gives."""
    deliveries = [_delivery(name[2:].decode(), raw) for name, raw in record.items() if name.startswith(b"d:")]
    deliveries.sort(key=lambda delivery: (delivery["workflow"], delivery["subscriber_event_id"]))
    listed = listed_event(event_id, record, next_at)
    more: _Details = {"data": _data(event_id, record), "deliveries": deliveries, "resumed_run_ids": resumed}
    event: EventRecord = {**listed, **more}
    if b"f" in record:
        event["expires_at"] = int(record[b"f"]) + int(record[b"ret"])
        failed = [delivery["error"] for delivery in deliveries if "error" in delivery]
        if failed:
            event["error"] = failed[0]
    if b"le" in record:
        event["last_process_error"] = stored_error(record[b"le"])
    return event


def _data(event_id: str, record: Record) -> JsonData:
    if b"d" not in record:
        return {"__redflowMissingEventBlob": True, "ref": f"@blob:{event_id}"}
    return stored_json(record[b"d"])


def _delivery(trigger: str, raw: bytes) -> EventDelivery:
    status, workflow, queue, *more = orjson.loads(raw)
    delivery: EventDelivery = {
        "subscriber_event_id": trigger,
        "workflow": workflow,
        "queue": scope_queue(queue, None),
        "status": _DELIVERY[status],
    }
    if status == "delivered" and more:
        delivery["run_id"] = more[0]
    if status == "failed" and more:
        delivery["error"] = more[0]
    return delivery
