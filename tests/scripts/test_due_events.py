"""due_events: takes events whose fan-out somebody left unfinished."""

from __future__ import annotations

from redflow.engines.redis.events import LEASE_MS
from tests.support.event_scripts import due, unfinished
from tests.support.scripts import T0, Bench


async def test_nothing_is_due(bench: Bench) -> None:
    assert await due(bench) == (T0, None, [])
    assert await bench.values() == {}


async def test_an_event_belongs_to_its_emitter_for_a_while(bench: Bench) -> None:
    await unfinished(bench)
    bench.now += LEASE_MS - 1
    assert await due(bench) == (bench.now, T0 + LEASE_MS, [])
    bench.now += 1
    assert await due(bench) == (bench.now, bench.now + LEASE_MS, ["e1"])
    assert (await bench.values())["outbox"] == {"e1": T0 + 2 * LEASE_MS}
    assert await due(bench) == (bench.now, bench.now + LEASE_MS, [])  # it was taken


async def test_the_longest_due_come_first_up_to_the_limit(bench: Bench) -> None:
    await bench.read("ZADD", "@outbox", T0 - 1, "b", T0 - 2, "a", T0, "c", T0 + 1, "d")
    assert await due(bench, 2) == (T0, T0, ["a", "b"])
    assert await due(bench, 2) == (T0, T0 + 1, ["c"])
    assert await due(bench, 2) == (T0, T0 + 1, [])
