"""decide_failure: records that a run fails, before its on_failure is called."""

from __future__ import annotations

from tests.support.scripts import BIG, ERROR, LEASE_MS, QUEUE, WORKER, Bench, changes, settlement


async def test_the_failure_is_kept_for_the_next_holder(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await bench.scripts.decide_failure(lease, ERROR) == "ok"
    assert changes(before, await bench.values()) == {f"run:{lease.run_id}": record | {"z": ERROR.decode()}}
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    [run] = (await bench.claim()).runs
    assert (run.record[b"z"], run.attempt) == (ERROR, 1)
    await bench.settle(run.lease, "failed", ERROR)
    assert "z" not in await bench.record(lease.run_id)


async def test_a_large_error_is_stored_apart(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.decide_failure(lease, BIG)
    assert await bench.field(lease.run_id, "z") == "@"
    assert (await bench.snapshot()).hash(f"big:{lease.run_id}") == {"z": BIG.decode()}


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.decide_failure(lease, ERROR)
    before = await bench.values()
    assert await bench.scripts.decide_failure(lease, ERROR) == "ok"
    assert changes(before, await bench.values()) == {}


async def test_a_cancel_request_comes_first(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.cancel(lease.run_id, "")
    before = await bench.values()
    assert await bench.scripts.decide_failure(lease, ERROR) == "canceled"
    assert changes(before, await bench.values()) == {}


async def test_a_decided_failure_comes_before_a_cancel_request(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.decide_failure(lease, ERROR)
    assert await bench.scripts.cancel(lease.run_id, "") == "decided"
    assert await bench.scripts.settle([settlement(lease, "failed", ERROR)], WORKER, [QUEUE], idle=False) == (False, {})
    assert await bench.field(lease.run_id, "s") == "failed"


async def test_refusals_name_their_reason_and_write_nothing(bench: Bench) -> None:
    await bench.serve()
    leases = await bench.refused_leases()
    before = await bench.values()
    for reason, lease in leases.items():
        assert await bench.scripts.decide_failure(lease, BIG) == reason.split()[0]
    assert changes(before, await bench.values()) == {}
