"""The verbs of events on the bench: their calls with the time as a value, and what their tests begin with."""

from __future__ import annotations

from typing import Final

from redflow.domain.event import EventRef
from redflow.domain.run import public_run_id
from redflow.engine import Emitted
from redflow.engines.redis.definitions import SUBSCRIBE
from redflow.engines.redis.events import ACCEPT, DEFER, DELIVER, DUE, LEASE_MS, PURGE_EVENTS
from redflow.engines.redis.journal import CLOSE_WAIT, OPEN_WAIT
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import Reply, as_int, as_list, as_text
from redflow.engines.redis.runs import Lease
from tests.support.scripts import RETENTION_MS, Bench

FAR: Final = 4_000_000_000_000
"""A deadline, epoch ms: the TTL of a wait's key goes by the server's own clock, so it must lie in the future."""
WAIT: Final = "1 Re 1 0 - "
"""The header of a step that waits for an event."""
PLACE: Final = "4:paid:k1"
"""What stands in keys for the event `paid` with the correlation key `k1`."""


async def subscribe(bench: Bench, workflow: str, *triggers: tuple[str, str, str]) -> list[str]:
    """Subscribe a workflow to exactly these events: (trigger, event, contract); the reply."""
    args: list[Argument] = [workflow]
    for trigger in triggers:
        args += trigger
    return [as_text(part) for part in as_list(await bench.connection.call(SUBSCRIBE, bench.keys.base, args))]


async def accept(
    bench: Bench,
    event_id: str = "e1",
    name: str = "paid",
    *,
    data: bytes = b"{}",
    explicit: bool = True,
    key: str | None = None,
    parent: str = "",
    fingerprint: str = "fp",
    idempotency_key: str | None = None,
) -> Emitted:
    """Hand an event in; its correlation key is `key`."""
    args: tuple[Argument, ...] = (
        bench.now,
        event_id,
        "1" if explicit else "",
        name,
        data,
        "" if key is None else "=" + key,
        parent,
        fingerprint,
        "" if idempotency_key is None else "=" + idempotency_key,
        60,
        RETENTION_MS,
    )
    return _emitted(await bench.connection.call(ACCEPT, bench.keys.base, args))


async def deliver(bench: Bench, event_id: str = "e1") -> Emitted:
    """The next pass over an event."""
    return _emitted(await bench.connection.call(DELIVER, bench.keys.base, (bench.now, event_id, LEASE_MS)))


async def due(bench: Bench, limit: int = 10) -> tuple[int, int | None, list[str]]:
    """Take events whose fan-out is not complete: (now, when the next is due, ids)."""
    now, next_due, *ids = as_list(await bench.connection.call(DUE, bench.keys.base, (bench.now, limit, LEASE_MS)))
    return as_int(now), None if next_due == b"" else as_int(next_due), [as_text(event_id) for event_id in ids]


async def defer(bench: Bench, event_id: str = "e1", delay_ms: int = 250, error: str = "{}") -> int:
    """Note that a pass failed; how many there were."""
    return as_int(await bench.connection.call(DEFER, bench.keys.base, (bench.now, event_id, delay_ms, error)))


async def purge(bench: Bench, limit: int = 10) -> int:
    """Remove events whose retention is over; how many."""
    return as_int(await bench.connection.call(PURGE_EVENTS, bench.keys.base, (bench.now, limit)))


async def open_wait(
    bench: Bench,
    lease: Lease,
    field: str = "s:one",
    *,
    event: str = "paid",
    key: str = "k1",
    deadline: int = FAR,
    header: str = WAIT,
) -> str:
    """A step of a run begins to wait."""
    args = (bench.now, lease.run_id, lease.fence, lease.token, field, header, event, key, deadline)
    return as_text(await bench.connection.call(OPEN_WAIT, bench.keys.base, args))


async def close_wait(bench: Bench, run: str, field: str = "s:one", *, event: str = "paid", key: str = "k1") -> str:
    """End a wait whose time is over."""
    return as_text(await bench.connection.call(CLOSE_WAIT, bench.keys.base, (run, field, event, key)))


async def event(bench: Bench, event_id: str = "e1") -> dict[str, str]:
    """The record of an event; empty if it is gone."""
    return (await bench.snapshot()).hash(f"event:{event_id}")


async def unfinished(bench: Bench, event_id: str = "e1", *, subscribers: int = 51) -> None:
    """An event with more subscribers than one pass serves, so that its fan-out is not complete after the first."""
    await bench.register_workflow()
    await subscribe(bench, "w", *[(f"t{number:02}", "paid", "-") for number in range(subscribers)])
    assert not (await accept(bench, event_id)).final


def waiting(*, deadline: int = FAR, header: str = WAIT) -> str:
    """What an open wait for `paid` and `k1` looks like in the run's record."""
    return f"{header}{EventRef('-', deadline, 'paid', 'k1').packed().decode()}"


def woken(event_id: str, ts: int, data: bytes = b"{}", *, deadline: int = FAR, header: str = WAIT) -> str:
    """What that wait looks like once an event came."""
    return f"{header}{EventRef('E', deadline, 'paid', 'k1', ts, event_id, data).packed().decode()}"


def public(*runs: str) -> list[str]:
    """Public ids of runs."""
    return [public_run_id(run) for run in runs]


def _emitted(reply: Reply) -> Emitted:
    code, event_id, final, runs, resumed = as_list(reply)
    texts = [[as_text(run) for run in as_list(part)] for part in (runs, resumed)]
    return Emitted(as_text(code), as_text(event_id), final == 1, texts[0], sorted(texts[1]))
