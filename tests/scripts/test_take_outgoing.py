"""take_outgoing, receive_entries: what one shard decided reaches another."""

from __future__ import annotations

import pytest

from redflow.domain.run import public_run_id
from redflow.engines.redis.link import Argument
from redflow.engines.redis.outgoing import RECEIVE, TAKE
from redflow.engines.redis.runs import Lease
from tests.support.scripts import BIG, QUEUE, RETENTION_MS, WORKER, Bench

CHILD = "0" * 13 + "002" + "8" * 16
OPEN = "1 Rc 1 0 - - "


async def take(bench: Bench, *acks: tuple[str, str], worker: str = "", limit: int = 100) -> list[object]:
    flat = [part for ack in acks for part in ack]
    reply = await bench.call(TAKE, worker, limit, 2_000, len(acks), *flat)
    assert isinstance(reply, list)
    return list(reply)


async def receive(bench: Bench, kind: str, source: str, target: str, rest: str, *told: Argument) -> object:
    told = (*told, "", "", "")[:3]
    reply = await bench.call(RECEIVE, RETENTION_MS, kind, source, target, rest, *told)
    assert isinstance(reply, list)
    return reply[0]


async def waiting(bench: Bench, field: str = "s:one", child: str = CHILD) -> Lease:
    """A run whose step waits for a child on shard 2."""
    lease = await bench.running()
    await bench.read("HSET", f"@run:{lease.run_id}", field, f"{OPEN}{child} 1 own ")
    return lease


async def test_an_end_is_taken_once_until_its_lease_is_over(here: Bench) -> None:
    await here.serve()
    child = await here.running()
    await here.read("SADD", f"@awaiters:{child.run_id}", f"{CHILD} s:one")
    await here.settle(child, payload=BIG)
    entry = f"wake {child.run_id} {CHILD} s:one"
    now, due, locks, found = await take(here, worker=WORKER)
    assert (now, locks, found) == (here.now, 0, [entry.encode(), b"succeeded", BIG])
    assert due == str(here.now + 2_000).encode()
    assert len(await take(here)) == 3
    here.now += 2_000
    assert len(await take(here)) == 4
    assert await here.field(child.run_id, "og") == "1"
    assert len(await take(here, (entry, "ok"), (entry, "ok"))) == 3
    assert await here.field(child.run_id, "og") is None
    assert await here.ids("carriers") == [WORKER]


async def test_an_entry_rings_one_who_hears_it(here: Bench) -> None:
    await here.serve()
    await here.read("ZADD", "@carriers", here.now, "deaf")
    child = await here.running()
    await here.read("SADD", f"@awaiters:{child.run_id}", f"{CHILD} s:one", f"{CHILD} s:two")
    async with here.listening(f"worker:{WORKER}") as ear:
        await here.read("ZADD", "@carriers", here.now, WORKER)
        await here.settle(child)
        heard = await ear.heard()
    assert heard
    assert set(heard) == {(f"worker:{WORKER}", "out")}
    assert len(await here.ids("outgoing")) == 2


async def test_a_wake_resolves_the_step_once(here: Bench) -> None:
    await here.serve()
    lease = await waiting(here)
    for _ in range(2):
        assert await receive(here, "wake", CHILD, lease.run_id, "s:one", "succeeded", "", "7") == b"ok"
        assert await here.field(lease.run_id, "s:one") == f"1 Rc 1 0 - S {CHILD} 1 own 7"
    assert not [field for field in await here.record(lease.run_id) if field.startswith("w:")]


async def test_a_wake_for_nobody_is_refused(here: Bench) -> None:
    await here.serve()
    over = await waiting(here)
    await here.settle(over)
    gone = here.order(number=77).run_id
    for parent in (over.run_id, gone):
        assert await receive(here, "wake", CHILD, parent, "s:one", "succeeded", "", "7") == b"refused"


@pytest.mark.parametrize("moved_first", [True, False])
async def test_a_child_that_was_merged_is_another_from_then_on(here: Bench, moved_first: bool) -> None:
    await here.serve()
    lease, other = await waiting(here), "0" * 13 + "002" + "9" * 16
    moved = ("moved", CHILD, lease.run_id, f"{other} s:one")
    wake = ("wake", other, lease.run_id, "s:one", "failed", "", '{"message":"no"}')
    for entry in (moved, wake) if moved_first else (wake, moved):
        assert await receive(here, *entry) == b"ok"
    assert await here.field(lease.run_id, "s:one") == f'1 Rc 1 0 - F {other} 1 foreign {{"message":"no"}}'


async def test_a_child_of_a_canceled_parent_sets_the_cascade_going(here: Bench) -> None:
    await here.serve()
    lease = await here.running()
    assert await receive(here, "adopt", CHILD, lease.run_id, "-") == b"ok"
    await here.scripts.cancel(lease.run_id, "enough")
    assert await receive(here, "adopt", CHILD, lease.run_id, "-") == b"cascade"
    assert await here.scripts.cancel_children(10) == (0, False)
    entry = f"cancel {lease.run_id} {CHILD} -"
    assert await here.ids("outgoing") == [entry]
    assert (await take(here))[3] == [entry.encode(), b"enough"]
    assert await receive(here, "disown", "-", lease.run_id, CHILD) == b"ok"
    assert await here.read("EXISTS", f"@reached:{lease.run_id}") == 0


async def test_a_cancel_reaches_a_run_and_says_whether_it_goes_on(here: Bench) -> None:
    await here.serve()
    parent = await here.running()
    plain = await here.create()
    await receive(here, "adopt", CHILD, parent.run_id, "-")
    assert await receive(here, "cancel", CHILD, plain, "-", "enough") == b"ok"
    record = await here.record(plain)
    assert (record["s"], record["cw"]) == ("canceled", "enough")
    assert await receive(here, "cancel", CHILD, plain, "-", "again") == b"ok"
    assert await receive(here, "cancel", CHILD, parent.run_id, "-", "enough") == b"cascade"
    assert await here.field(plain, "cw") == "enough"


async def test_a_grant_makes_ready_who_waits_for_it(here: Bench) -> None:
    await here.serve()
    run = await here.create()
    lease = await here.claimed(run)
    assert await receive(here, "grant", "-", run, "4 k") == b"ok"
    assert await here.field(run, "mg") == "4"
    await here.settle(lease)
    assert await receive(here, "grant", "-", run, "4 k") == b"refused"
    assert await here.ids(f"ready:{QUEUE}") == []


async def test_a_run_with_entries_under_way_is_not_purged(here: Bench) -> None:
    await here.serve()
    child = await here.running()
    await here.read("HSET", f"@run:{child.run_id}", "p", public_run_id(CHILD))
    await here.read("SADD", f"@awaiters:{child.run_id}", f"{CHILD} s:one")
    await here.settle(child)
    here.now += RETENTION_MS
    assert await here.scripts.purge(None, 10) == 0
    await take(here, (f"wake {child.run_id} {CHILD} s:one", "ok"))
    assert await here.scripts.purge(None, 10) == 1
    assert await here.ids("outgoing") == [f"disown - {CHILD} {child.run_id}"]
