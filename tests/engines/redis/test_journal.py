"""What a journal says before anything is written."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.events import Events
from redflow.engines.redis.journal import JournalWriter, RedisJournal
from redflow.engines.redis.runs import Lease
from tests.support.scripts import RETENTION_MS, Bench, run_id


@pytest.fixture
async def writer(redis_url: str, prefix: str) -> AsyncIterator[JournalWriter]:
    """What the journals of a worker share."""
    bench = Bench(redis_url, prefix)
    events = Events(bench.connection, bench.keys, RETENTION_MS)
    yield JournalWriter(
        bench.scripts,
        events,
        ServerClock(),
        "w",
        [],
        lambda run, why: None,
        lambda: False,
        lambda runs: None,
        lambda more: None,
    )
    await bench.close()


@pytest.mark.parametrize(("left_s", "may_begin"), [(60, True), (0.005, False), (0, False), (-1, False)])
async def test_nothing_begins_in_the_last_moments_of_a_lease(
    writer: JournalWriter, left_s: float, may_begin: bool
) -> None:
    """Between the look and the first line of a step a busy machine may do something else for some milliseconds."""
    lease = Lease(run_id(1), 1, "w.1", time.monotonic() + left_s)
    assert RedisJournal(writer, lease, 0).may_begin() is may_begin
