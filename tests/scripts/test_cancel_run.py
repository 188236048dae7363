"""cancel_run: ends a run that nobody executes, and asks the holder of one that runs to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.scripts import ERROR, LEASE_MS, RETENTION_MS, T0, Bench, changes, run_id


async def ready(bench: Bench) -> str:
    return await bench.create()


async def scheduled(bench: Bench) -> str:
    return await bench.create(run_at_ms=T0 + 50)


async def retrying(bench: Bench) -> str:
    lease = await bench.running()
    await bench.settle(lease, "retry", ERROR, due=T0 + 50)
    return lease.run_id


async def asleep(bench: Bench) -> str:
    lease = await bench.running()
    await bench.settle(lease, "suspended", due=T0 + 50)
    return lease.run_id


async def parked(bench: Bench) -> str:
    return await bench.create("new", queue="q")


async def parked_for_later(bench: Bench) -> str:
    return await bench.create("new", queue="q", run_at_ms=T0 + 50)


async def in_line(bench: Bench) -> str:
    await bench.register_workflow(max_concurrency=1)
    await bench.running()
    run = await bench.create()
    await bench.claim()
    assert await bench.ids("line:5:app:q:w") == [run]
    return run


async def stray(bench: Bench) -> str:
    await bench.register_workflow("other")
    run = await bench.create("other")
    await bench.claim()
    assert await bench.ids("stray:5:app:q:other") == [run]
    return run


async def handed_back(bench: Bench) -> str:
    lease = await bench.running()
    await bench.scripts.release([lease])
    return lease.run_id


async def recovered(bench: Bench) -> str:
    lease = await bench.running()
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    return lease.run_id


NOT_HELD = [ready, scheduled, retrying, asleep, parked, parked_for_later, in_line, stray, handed_back, recovered]


@pytest.mark.parametrize("make", NOT_HELD)
async def test_a_run_that_nobody_holds_ends_at_once(bench: Bench, make: Callable[[Bench], Awaitable[str]]) -> None:
    await bench.serve()
    run = await make(bench)
    bench.now += 7
    before = await bench.record(run)
    assert await bench.scripts.cancel(run, "because") == "canceled"
    record = await bench.record(run)
    assert record.items() >= {"s": "canceled", "f": str(bench.now), "cr": str(bench.now), "cw": "because"}.items()
    assert not {"d", "r", "x", "z", "u", "e", "o"} & record.keys()
    assert record.get("a") == before.get("a")
    values = await bench.values()
    assert values[f"expiry:{RETENTION_MS}"] == [run]
    told = ("idx:canceled", "expiry:", "run:")
    assert [name for name, value in values.items() if run in value and not name.startswith(told)] in ([], ["worker:w1"])
    assert not {"strays", "lined", "lined:w"} & values.keys()  # lines that became empty are forgotten


async def test_a_run_that_runs_is_asked_to_end(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    bench.now += 7
    async with bench.listening("worker:w1") as ear:
        assert await bench.scripts.cancel(lease.run_id, "why") == "requested"
        assert await ear.heard() == [("worker:w1", f"cancel {lease.run_id}")]
    assert changes(before, await bench.values()) == {f"run:{lease.run_id}": record | {"cr": str(T0 + 7), "cw": "why"}}


async def test_the_first_request_is_kept_and_another_asks_again(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    assert await bench.scripts.cancel(lease.run_id, "first") == "requested"
    before = await bench.values()
    bench.now += 7
    async with bench.listening("worker:w1") as ear:
        assert await bench.scripts.cancel(lease.run_id, "second") == "requested"
        assert len(await ear.heard()) == 1
    assert changes(before, await bench.values()) == {}


async def test_no_reason_leaves_none(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    await bench.scripts.cancel(run, "")
    assert "cw" not in await bench.record(run)


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
async def test_a_run_that_is_over_stays_as_it_is(bench: Bench, end: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, end, ERROR)
    before = await bench.values()
    assert await bench.scripts.cancel(lease.run_id, "late") == "finished"
    assert changes(before, await bench.values()) == {}


async def test_sent_again_after_it_ended_the_run_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    await bench.scripts.cancel(run, "why")
    before = await bench.values()
    assert await bench.scripts.cancel(run, "why") == "finished"
    assert changes(before, await bench.values()) == {}


async def test_the_call_that_canceled_a_run_answers_the_same_when_it_is_sent_again(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    assert await bench.scripts.cancel_tree(run, "why", "ca11") == ("canceled", False)
    before = await bench.values()
    assert await bench.scripts.cancel_tree(run, "why", "ca11") == ("canceled", False)
    assert await bench.scripts.cancel_tree(run, "why", "0ther") == ("finished", False)
    assert changes(before, await bench.values()) == {}


async def test_a_request_that_was_granted_is_known_after_the_run_has_ended(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    assert await bench.scripts.cancel_tree(lease.run_id, "", "ca11") == ("requested", False)
    await bench.settle(lease, "canceled")
    assert await bench.scripts.cancel_tree(lease.run_id, "", "ca11") == ("canceled", False)


async def test_an_unknown_run_leaves_nothing_behind(bench: Bench) -> None:
    assert await bench.scripts.cancel(run_id(1), "why") == "unknown"
    assert await bench.values() == {}


async def test_a_failure_that_was_decided_stays(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.decide_failure(lease, ERROR)
    before = await bench.values()
    assert await bench.scripts.cancel(lease.run_id, "why") == "decided"
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    assert await bench.scripts.cancel(lease.run_id, "why") == "decided"
    assert "cr" not in await bench.record(lease.run_id)
    assert before != await bench.values()


async def test_waiters_are_told_and_a_slot_is_handed_on(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    lease = await bench.running()
    waiting = await bench.create()
    await bench.claim()
    await bench.scripts.release([lease])
    await bench.read("SADD", f"@waiters:{lease.run_id}", "c1")
    await bench.read("EXPIRE", f"@waiters:{lease.run_id}", 300)
    async with bench.listening("client:c1") as ear:
        assert await bench.scripts.cancel(lease.run_id, "") == "canceled"
        assert await ear.heard() == [("client:c1", f"{lease.run_id} canceled @")]
    values = await bench.values()
    assert values["ready:app:q"] == {waiting: 2}
    assert not {f"waiters:{lease.run_id}", "lined", "lined:w"} & values.keys()
