"""bar_suspects: a worker that holds a suspect of another shard takes none here."""

from __future__ import annotations

from redflow.engines.redis.loops.shard_claimer import BAR_SUSPECTS
from tests.support.scripts import LEASE_MS, WORKER, Bench


async def test_a_suspect_is_set_aside_as_long_as_it_is_barred(here: Bench) -> None:
    await here.serve()
    run = await here.create()
    for _ in range(2):
        await here.claimed(run)
        here.now += LEASE_MS
        await here.scripts.recover(10, b"{}")
    assert await here.call(BAR_SUSPECTS, WORKER, "1") == b"ok"
    assert (await here.claim()).runs == []
    assert await here.call(BAR_SUSPECTS, WORKER, "") == b"ok"
    assert [claimed.lease.run_id for claimed in (await here.claim()).runs] == [run]
    await here.call(BAR_SUSPECTS, WORKER, "")
    assert await here.read("HGET", f"@worker:{WORKER}", "suspect") == run.encode(), "its own stays noted"


async def test_a_worker_that_nobody_knows_leaves_no_key(here: Bench) -> None:
    assert await here.call(BAR_SUSPECTS, WORKER, "1") == b"ok"
    assert await here.values() == {}
