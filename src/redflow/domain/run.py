"""A run: its statuses, which may follow which, its identity, and the order that asks for one.

    (new) ──> queued ──> running ──> succeeded | failed | canceled
      └──> scheduled ──^   │  ^
               ^───────────┘  └ recovery and hand-back keep the status `running`

Pure: time and randomness come in as values. The same table stands in the script include `set_status.lua`;
a test keeps them equal.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from redflow.types import Durability

NEW: Final = "new"

MAX_NESTING: Final = 100
"""How deep children may be nested: a child of a run that nobody's step started has depth 1."""

TRANSITIONS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        NEW: frozenset({"queued", "scheduled"}),
        "scheduled": frozenset({"queued", "canceled", "failed"}),
        "queued": frozenset({"running", "canceled", "failed", "scheduled"}),
        "running": frozenset({"succeeded", "failed", "canceled", "scheduled", "queued"}),
        "succeeded": frozenset(),
        "failed": frozenset({"queued"}),
        "canceled": frozenset(),
    }
)
"""Which status may follow which. `queued -> failed` is the run whose workflow nobody knows, `scheduled -> failed` one
that times out while it sleeps, `queued -> scheduled` a debounce that begins anew, `running -> queued` a run that has to
wait for its mutex, the claim taken back, `failed -> queued` an operator's retry: else it has ended."""

_PREFIX: Final = "run_"
_SHARD_BITS: Final = 12
_CLOCK_STANDS_MS: Final = 1_000
_FIRST_LIMIT: Final = 2**61
"""Of the 62 random bits the first id of a ms leaves one unset, so that the steps of those that follow have room."""
_STEP: Final = 2**40


def new_run_id(now_ms: int, randomness: int, shard: int = 0) -> str:
    """A time-ordered id (the layout of UUIDv7, RFC 9562) as 32 hex digits, its 12 `rand_a` bits the shard.

    Args:
        now_ms: the caller's clock, ms since the epoch; orders ids, decides nothing.
        randomness: 62 random bits.
        shard: the shard that holds the run, so that an id alone finds it.
    """
    value = (now_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= (shard & (2**_SHARD_BITS - 1)) << 64
    value |= 0b10 << 62
    value |= randomness & (2**62 - 1)
    return f"{value:032x}"


class RunIds:
    """Ids of runs in the order in which they were asked for, also within one ms.

    Within a ms the random bits of the last id grow by a random step (RFC 9562, section 6.2, method 2), so that ids
    tell the order of one process and still can't be guessed from one another.
    """

    def __init__(self) -> None:
        self._last_ms, self._last = 0, 0

    def next(self, now_ms: int, randomness: int) -> str:
        """The next id.

        Args:
            now_ms: the caller's clock, ms since the epoch; one that goes back a little is taken to stand still.
            randomness: 62 random bits.
        """
        if 0 <= self._last_ms - now_ms < _CLOCK_STANDS_MS:
            now_ms, grown = self._last_ms, self._last + 1 + randomness % _STEP
            if grown >= _FIRST_LIMIT * 2:
                now_ms, grown = now_ms + 1, randomness % _FIRST_LIMIT
        else:
            grown = randomness % _FIRST_LIMIT
        self._last_ms, self._last = now_ms, grown
        return new_run_id(now_ms, grown)


def child_run_id(parent: str, step: str, generation: int, shard: int = 0) -> str:
    """The id of a child, the same each time: derived from its parent, the step that starts it, and a generation.

    Args:
        parent: stored id of the parent, whose time it takes over.
        step: name of the parent's step.
        generation: 1, and one more for each child of this step that failed or was canceled.
        shard: the shard that will hold the child.
    """
    digest = hashlib.sha256(f"{parent} {generation} {step}".encode()).digest()
    return new_run_id(int(parent[:12], 16), int.from_bytes(digest[:8], "big"), shard)


def cron_run_id(trigger: str, tick_ms: int, shard: int = 0) -> str:
    """The id of the run that a tick starts, the same each time.

    Args:
        trigger: id of the cron trigger.
        tick_ms: the tick, epoch ms; orders the id.
        shard: the shard that will hold the run.
    """
    digest = hashlib.sha256(f"cron {trigger} {tick_ms}".encode()).digest()
    return new_run_id(tick_ms, int.from_bytes(digest[:8], "big"), shard)


def public_run_id(stored: str) -> str:
    """`run_<uuid>`, as users see it, from the 32 hex digits that are stored."""
    return f"{_PREFIX}{stored[:8]}-{stored[8:12]}-{stored[12:16]}-{stored[16:20]}-{stored[20:]}"


def stored_run_id(run_id: object) -> str | None:
    """The 32 hex digits of a public run id; None for anything that can't be one of ours."""
    if not isinstance(run_id, str) or len(run_id) != 40 or not run_id.startswith(_PREFIX):
        return None
    try:
        stored = uuid.UUID(run_id[4:]).hex
    except ValueError:
        return None
    return stored if public_run_id(stored) == run_id else None


@dataclass(slots=True)
class RunOrder:
    """What a client asks for: one run of a workflow.

    Attributes:
        run_id: 32 hex digits, made by the client, so that an order that is sent twice makes one run.
        workflow: name of the workflow.
        input_json: the input as JSON text.
        queue: queue given by the caller; None means that of the workflow's metadata.
        max_attempts: attempts given by the caller; None means that of the metadata, else 3.
        run_at_ms: not before this time, epoch ms; None means now.
        idempotency_key: within its TTL one run per (workflow, key).
        idempotency_ttl_s: TTL of the key, seconds.
        priority: given by the caller; None means that of the workflow's metadata, else 0.
        run_timeout_ms: given by the caller; None means that of the metadata, else none.
        parent_run_id: stored as given.
        durability: how safe the run must be before the call returns.
    """

    run_id: str
    workflow: str
    input_json: bytes
    queue: str | None = None
    max_attempts: int | None = None
    run_at_ms: int | None = None
    idempotency_key: str | None = None
    idempotency_ttl_s: int = 604_800
    priority: int | None = None
    run_timeout_ms: int | None = None
    parent_run_id: str | None = None
    durability: Durability = Durability.NONE
