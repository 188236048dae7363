"""request_lock, release_lock, audit_locks, note_lock: a mutex of a prefix of several shards."""

from __future__ import annotations

from redflow.domain.shards import on_shard
from redflow.engines.redis.locks import AUDIT, RELEASE, REQUEST
from redflow.engines.redis.sharded_journal import NOTE_LOCK
from tests.support.scripts import FRONT, QUEUE, Bench, run_id


def run(number: int) -> str:
    """A run of shard 2."""
    return on_shard(run_id(number), 2)


async def test_first_come_first_served_and_asked_again_the_same(here: Bench) -> None:
    assert await here.call(REQUEST, run(1), "k", "q", 1) == [1, b"1"]
    assert await here.call(REQUEST, run(2), "k", "q", 2) == [0, b"2"]
    assert await here.call(REQUEST, run(3), "k", "q", 1) == [0, b"3"]
    assert await here.call(REQUEST, run(2), "k", "q", 2) == [0, b"2"]
    assert await here.call(REQUEST, run(1), "k", "q", 1) == [1, b"4"], "a new number each time it is held"
    assert await here.call(RELEASE, run(1), "k", "1") == 0
    assert await here.call(RELEASE, run(1), "k", "4") == 1
    assert await here.read("HGET", "@lock:k", "o") == run(3).encode()
    assert await here.ids("outgoing") == [f"grant - {run(3)} 3 k"]
    assert await here.call(RELEASE, run(1), "k", "4") == 0, "twice takes nothing from the next"
    assert await here.call(RELEASE, run(2), "k", "2") == 1, "it leaves the line"
    assert await here.call(REQUEST, run(3), "k", "q", 1) == [1, b"5"]
    assert await here.call(RELEASE, run(3), "k", "5") == 1
    left = {name for name in await here.values() if name.startswith("lock")}
    assert left == {"lockseq"}


async def test_each_grant_is_told_though_an_earlier_one_is_not_acknowledged_yet(here: Bench) -> None:
    """A run that got the lock, used it and stood in line again: the second word to it is no repetition of the first."""
    await here.call(REQUEST, run(1), "k", "q", 1)
    await here.call(REQUEST, run(2), "k", "q", 2)
    await here.call(RELEASE, run(1), "k", "1")
    await here.call(REQUEST, run(2), "k", "q", 2)
    await here.call(REQUEST, run(1), "k", "q", 3)
    await here.call(RELEASE, run(2), "k", "3")
    await here.call(REQUEST, run(1), "k", "q", 3)
    assert await here.call(REQUEST, run(2), "k", "q", 4) == [0, b"6"]
    await here.call(RELEASE, run(1), "k", "5")
    assert await here.read("HMGET", "@lock:k", "o", "n") == [run(2).encode(), b"6"]
    granted = {f"grant - {run(2)} 2 k", f"grant - {run(1)} 4 k", f"grant - {run(2)} 6 k"}
    assert set(await here.ids("outgoing")) == granted


async def test_a_grant_that_nobody_takes_up_passes_to_another_queue(here: Bench) -> None:
    await here.call(REQUEST, run(1), "k", "gone", 1)
    await here.call(REQUEST, run(2), "k", "gone", 2)
    await here.call(REQUEST, run(3), "k", "alive", 3)
    await here.call(RELEASE, run(1), "k", "1")
    here.now += 4_999
    assert await here.call(AUDIT, 10) == []
    assert await here.read("HGET", "@lock:k", "o") == run(2).encode()
    here.now += 1
    await here.call(AUDIT, 10)
    assert await here.read("HGET", "@lock:k", "o") == run(3).encode()


async def test_owners_are_named_every_five_seconds(here: Bench) -> None:
    await here.call(REQUEST, run(1), "k", "q", 1)
    assert await here.call(AUDIT, 10) == []
    here.now += 5_000
    assert await here.call(AUDIT, 10) == [b"k", run(1).encode(), b"1"]
    assert await here.call(AUDIT, 10) == []


async def test_a_run_notes_what_it_was_answered(here: Bench) -> None:
    await here.serve()
    holds, waits = await here.running(), await here.running()
    args = ("1", "k", "1", "1")
    assert await here.call(NOTE_LOCK, holds.run_id, holds.fence, holds.token, *args) == b"held"
    record = await here.record(holds.run_id)
    assert (record["s"], record["mk"], record["mn"]) == ("running", "k", "1")
    args = ("1", "k", "2", "")
    assert await here.call(NOTE_LOCK, waits.run_id, waits.fence, waits.token, *args) == b"mutex_wait"
    record = await here.record(waits.run_id)
    assert (record["s"], record["mk"], record["mn"]) == ("queued", "k", "2")
    assert "a" not in record
    assert await here.ids(f"ready:{QUEUE}") == []
    await here.settle(holds)
    assert await here.ids("outgoing") == [f"release {holds.run_id} - 1 k"]
    assert await here.call(NOTE_LOCK, holds.run_id, holds.fence, holds.token, *args) == b"settled"


async def test_a_grant_that_came_first_makes_it_ready(here: Bench) -> None:
    await here.serve()
    lease = await here.running()
    await here.read("HSET", f"@run:{lease.run_id}", "mg", "7")
    assert await here.call(NOTE_LOCK, lease.run_id, lease.fence, lease.token, "1", "k", "7", "") == b"mutex_wait"
    score = await here.read("ZSCORE", f"@ready:{QUEUE}", lease.run_id)
    assert isinstance(score, bytes)
    assert float(score) < FRONT
    assert "mg" not in await here.record(lease.run_id)


async def test_a_cancel_comes_first(here: Bench) -> None:
    await here.serve()
    lease = await here.running()
    await here.scripts.cancel(lease.run_id, "")
    assert await here.call(NOTE_LOCK, lease.run_id, lease.fence, lease.token, "1", "k", "1", "1") == b"canceled"
