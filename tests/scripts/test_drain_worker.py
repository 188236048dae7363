"""drain_worker: its worker's claims bring nothing from then on, and it counts as none that serves."""

from __future__ import annotations

from redflow.domain.run import public_run_id
from redflow.engines.redis.explaining import Explainer
from redflow.engines.redis.operations_workers import DRAIN_WORKER
from tests.support.scripts import QUEUE, WORKER, Bench, changes


async def test_a_drained_worker_gets_nothing_and_is_told_why(bench: Bench) -> None:
    await bench.serve()
    await bench.claim()
    assert await bench.read("SISMEMBER", f"@idle:{QUEUE}", WORKER) == 1
    before = await bench.values()
    async with bench.listening(f"worker:{WORKER}") as ear:
        assert await bench.call(DRAIN_WORKER, WORKER, "stop") == 1
        assert await ear.heard() == [(f"worker:{WORKER}", "bell")]
    assert changes(before, await bench.values()).keys() == {f"worker:{WORKER}"}
    run = await bench.create()
    reply = await bench.claim()
    assert (reply.runs, reply.more, reply.drain, reply.now) == ([], False, "stop", bench.now)
    assert await bench.read("SISMEMBER", f"@idle:{QUEUE}", WORKER) == 0
    assert await bench.ids(f"ready:{QUEUE}") == [run]
    explanation = await Explainer(bench.connection, bench.keys, now=bench.now).explain(public_run_id(run))
    assert explanation is not None
    assert "no live worker serves" in explanation["reason"]
    assert await bench.call(DRAIN_WORKER, WORKER, "") == 1
    reply = await bench.claim()
    assert ([claimed.lease.run_id for claimed in reply.runs], reply.drain) == ([run], "")


async def test_a_claim_whose_reply_was_lost_is_answered_though_the_worker_drains_by_now(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    await bench.claim(token="w1.1")
    await bench.call(DRAIN_WORKER, WORKER, "idle")
    again = await bench.claim(token="w1.1")
    assert ([claimed.lease.run_id for claimed in again.runs], again.drain) == ([run], "")
    assert (await bench.claim()).drain == "idle"


async def test_a_worker_whose_record_was_lost_registers_with_its_drain_and_no_other_does(bench: Bench) -> None:
    await bench.serve()
    await bench.register_worker("w", drain="stop")
    assert (await bench.claim()).drain == ""
    await bench.delete(f"worker:{WORKER}")
    await bench.register_worker("w", drain="stop")
    assert (await bench.claim()).drain == "stop"


async def test_registering_again_keeps_the_drain_and_saying_goodbye_ends_it(bench: Bench) -> None:
    await bench.serve()
    await bench.call(DRAIN_WORKER, WORKER, "idle")
    await bench.register_worker("w")
    assert (await bench.claim()).drain == "idle"
    await bench.unregister_worker(QUEUE)
    assert await bench.call(DRAIN_WORKER, WORKER, "idle") == 0
    assert await bench.call(DRAIN_WORKER, "nobody", "idle") == 0


async def test_a_drained_worker_passes_on_the_bell_that_it_was_rung(bench: Bench) -> None:
    """It was idle when it was told to drain, and rung for a run before its next claim."""
    await bench.serve()
    await bench.call(DRAIN_WORKER, WORKER, "idle")
    await bench.create()
    await bench.read("SADD", f"@idle:{QUEUE}", "w2")
    async with bench.listening("worker:w2") as ear:
        assert (await bench.claim()).drain == "idle"
        assert await ear.heard() == [("worker:w2", "bell")]
