"""Events: what makes two of them the same, and how a waiting step is packed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import orjson

from redflow.types import EventWaitInfo

FINAL_DELIVERY_KINDS = frozenset({"canceled", "non_retriable", "serialization", "unknown_workflow", "validation"})
"""Kinds of error after which a delivery isn't tried again."""


def fingerprint(name: str, data: bytes, correlation_key: str | None, parent_run_id: str | None) -> str:
    """What makes two events the same: name, canonical payload, correlation key and parent; 64 hex digits."""
    canonical = orjson.dumps(orjson.loads(data), option=orjson.OPT_SORT_KEYS)
    payload = hashlib.sha256(canonical).hexdigest()
    parts = json.dumps([name, payload, correlation_key, parent_run_id])
    return hashlib.sha256(parts.encode()).hexdigest()


def delivery_backoff_ms(attempt: int, jitter: int) -> int:
    """How long after the n-th failed pass the next one follows, ms; `jitter` is 0 to 250."""
    doublings = min(max(0, attempt - 1), 11)
    return min(300_000, 250 << doublings) + jitter


@dataclass(slots=True)
class EventRef:
    """The payload of a step that waits for an event.

    Attributes:
        end: `-` while it waits, E once an event came, T once its time was over.
        deadline: epoch ms.
        event: name waited for.
        correlation_key: key waited for.
        ts: acceptance of the event that came, epoch ms.
        event_id: its id.
        data: its data, as stored JSON.
    """

    end: str
    deadline: int
    event: str
    correlation_key: str
    ts: int = 0
    event_id: str = ""
    data: bytes = b""

    def packed(self) -> bytes:
        """As it stands in the step's record."""
        place = f"{len(self.event.encode())}:{self.event}:{self.correlation_key}".encode()
        head = f"{self.end} {self.deadline} {len(place)} ".encode() + place + b" "
        if self.end != "E":
            return head
        event_id = self.event_id.encode()
        return head + f"{self.ts} {len(event_id)} ".encode() + event_id + b" " + self.data

    def wait_info(self) -> EventWaitInfo:
        """What users see of the wait."""
        info: EventWaitInfo = {"kind": "event", "event": self.event, "correlation_key": self.correlation_key}
        if self.end == "E":
            info["resolved_by"], info["event_id"], info["ts"] = "event", self.event_id, self.ts
        elif self.end == "T":
            info["resolved_by"] = "timeout"
        return info


def event_ref(payload: bytes) -> EventRef:
    """The wait of a packed event step.

    Raises:
        ValueError: the payload is none.
    """
    end, deadline, size, rest = payload.split(b" ", 3)
    place, rest = rest[: int(size)], rest[int(size) + 1 :]
    name_size, named = place.split(b":", 1)
    name, key = named[: int(name_size)], named[int(name_size) + 1 :]
    ref = EventRef(end.decode(), int(deadline), name.decode(), key.decode())
    if ref.end == "E":
        ts, id_size, rest = rest.split(b" ", 2)
        ref.ts, ref.event_id, ref.data = int(ts), rest[: int(id_size)].decode(), rest[int(id_size) + 1 :]
    return ref
