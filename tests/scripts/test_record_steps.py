"""record_steps: makes step results durable."""

from __future__ import annotations

from dataclasses import replace

from tests.support.scripts import BIG, LEASE_MS, Bench, changes, step


async def test_a_step_stands_in_the_record(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await bench.scripts.record([step(lease, "a", b'{"x":1}'), step(lease, "b", b"2", seq=2)]) == {}
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"s:a": '1 Sr 1 0 5 {"x":1}', "s:b": "2 Sr 1 0 5 2"}
    }


async def test_large_payloads_are_stored_apart(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    limit = b'"' + b"x" * 32_766 + b'"'
    await bench.scripts.record([step(lease, "big", BIG), step(lease, "limit", limit)])
    record = await bench.record(lease.run_id)
    assert record["s:big"] == "1 Sr 1 0 5 @"
    assert record["s:limit"] == "1 Sr 1 0 5 " + limit.decode()
    assert (await bench.snapshot()).hash(f"big:{lease.run_id}") == {"s:big": BIG.decode()}


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    writes = [step(lease, "a", BIG), step(lease, "b")]
    await bench.scripts.record(writes)
    before = await bench.values()
    assert await bench.scripts.record(writes) == {}
    assert changes(before, await bench.values()) == {}


async def test_refusals_name_their_reason_and_write_nothing(bench: Bench) -> None:
    await bench.serve()
    leases = await bench.refused_leases()
    before = await bench.values()
    reasons = await bench.scripts.record([step(lease, payload=BIG) for lease in leases.values()])
    assert reasons == {index: name.split()[0] for index, name in enumerate(leases)}
    assert changes(before, await bench.values()) == {}


async def test_each_item_of_a_batch_has_its_own_answer(bench: Bench) -> None:
    await bench.serve()
    good, canceled, settled = [await bench.running() for _ in range(3)]
    await bench.scripts.cancel(canceled.run_id, "")
    await bench.settle(settled)
    writes = [step(good), step(replace(good, fence=9)), step(canceled), step(settled), step(good, "two")]
    assert await bench.scripts.record(writes) == {1: "stale", 2: "cancel", 3: "settled"}
    assert {"s:one", "s:two"} <= (await bench.record(good.run_id)).keys()
    assert "s:one" in await bench.record(canceled.run_id)  # what was done is told, canceled or not
    assert "s:one" not in await bench.record(settled.run_id)


async def test_a_lease_that_ran_out_holds_until_somebody_recovers_the_run(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    bench.now += LEASE_MS + 1
    assert await bench.scripts.record([step(lease)]) == {}
    await bench.scripts.recover(10, b"{}")
    assert await bench.scripts.record([step(lease, "two")]) == {0: "stale"}


async def test_only_a_step_that_succeeded_is_progress(bench: Bench) -> None:
    """A step that fails runs anew in each pass; if it counted, a run that kills its holders would do so for ever."""
    await bench.serve()
    lease = await bench.running()
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    lease = await bench.claimed(lease.run_id)
    for status in ("F", "C", "R"):
        await bench.scripts.record([step(lease, status=status)])
        assert await bench.field(lease.run_id, "x") == "1"
    await bench.scripts.record([step(lease, seq=12)])
    assert await bench.field(lease.run_id, "x") is None


async def test_a_running_that_arrives_late_undoes_no_success(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.record([step(lease, status="R")])
    assert await bench.field(lease.run_id, "s:one") == "1 Rr 1 0 5 1"
    await bench.scripts.record([step(lease, payload=b"2")])
    assert await bench.scripts.record([step(lease, payload=BIG, status="R")]) == {}
    assert await bench.field(lease.run_id, "s:one") == "1 Sr 1 0 5 2"
    assert (await bench.snapshot()).names("big:") == []


async def test_nothing_is_written_without_items(bench: Bench) -> None:
    assert await bench.scripts.record([]) == {}
    assert await bench.values() == {}
