"""register_wait, attach_wait, drop_wait: a run on another shard than home waits for an event."""

from __future__ import annotations

from redflow.domain.payload import pack
from redflow.engines.redis.events import ACCEPT
from redflow.engines.redis.runs import Lease
from redflow.engines.redis.sharded_journal import ATTACH_WAIT, DROP_WAIT, REGISTER_WAIT
from tests.support.scripts import RETENTION_MS, T0, Bench

OPEN = "1 Re 1 0 - "
DEADLINE = 2**42
"""Far away: keys have a TTL by the server's own clock."""


async def emit(home: Bench, event_id: str = "e1") -> object:
    args = (event_id, "1", "paid", pack(b"7"), "=k", "", event_id, "", 60, RETENTION_MS)
    return await home.call(ACCEPT, *args)


async def register(home: Bench, lease: Lease, *, received: str = "", created: int = T0) -> object:
    return await home.call(REGISTER_WAIT, lease.run_id, "s:one", "paid", "k", DEADLINE, created, received)


async def attach(here: Bench, lease: Lease) -> object:
    return await here.call(ATTACH_WAIT, lease.run_id, lease.fence, lease.token, "s:one", OPEN, "paid", "k", DEADLINE)


async def test_an_event_goes_out_to_the_run_once(home: Bench, here: Bench) -> None:
    await here.serve()
    lease = await here.running()
    assert await register(home, lease) == b"open"
    assert await register(home, lease) == b"open"
    assert await attach(here, lease) == b"open"
    assert await here.field(lease.run_id, "s:one") == f"{OPEN}- {DEADLINE} 8 4:paid:k "
    await emit(home)
    assert await home.ids("outgoing") == [f"resume - {lease.run_id} s:one"]
    assert await home.ids("waiting:4:paid:k") == []
    assert await register(home, lease) == b"given", "until that has arrived"
    assert await home.call(DROP_WAIT, lease.run_id, "s:one", "paid", "k") == b"given"
    assert await home.ids("outgoing") == [f"resume - {lease.run_id} s:one"]


async def test_an_event_that_was_there_before_is_given_unless_the_run_has_it(home: Bench, here: Bench) -> None:
    await here.serve()
    lease, late, has_it = [await here.running() for _ in range(3)]
    await emit(home)
    assert await register(home, lease) == b"given"
    assert await register(home, late, created=T0 + 1) == b"open"
    assert await register(home, has_it, received="1") == b"open"
    assert await home.read("HGET", "@got:4:paid:k", has_it.run_id) == b"1"


async def test_one_of_two_closes_a_wait(home: Bench, here: Bench) -> None:
    await here.serve()
    lease = await here.running()
    await register(home, lease)
    assert await home.call(DROP_WAIT, lease.run_id, "s:one", "paid", "k") == b"closed"
    assert await home.call(DROP_WAIT, lease.run_id, "s:one", "paid", "k") == b"unknown"
    await emit(home)
    assert await home.ids("outgoing") == []


async def test_who_may_not_write_is_refused(here: Bench) -> None:
    await here.serve()
    for reason, lease in (await here.refused_leases()).items():
        assert await attach(here, lease) == reason.split()[0].encode()
    canceled = await here.running()
    await here.scripts.cancel(canceled.run_id, "")
    assert await attach(here, canceled) == b"cancel"
