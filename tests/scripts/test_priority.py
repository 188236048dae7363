"""Priorities: where the verbs put a run in its line."""

from __future__ import annotations

from dataclasses import replace

from redflow.engines.redis.admission import create_debounced
from redflow.types import ResolvedDebounce
from tests.support.scripts import FRONT, LEASE_MS, QUEUE, STEP, T0, Bench, settlement

READY = f"ready:{QUEUE}"


async def test_a_higher_priority_stands_before_a_lower_one(bench: Bench) -> None:
    await bench.register_workflow()
    plain = await bench.create()
    low, high, highest = [await bench.create(priority=priority) for priority in (-100, 1, 100)]
    assert (await bench.values())[READY] == {
        highest: 4 - 100 * STEP,
        high: 3 - STEP,
        plain: 1,
        low: 2 + 100 * STEP,
    }
    assert await bench.ids(READY) == [highest, high, plain, low]


async def test_within_a_priority_who_comes_first_is_first(bench: Bench) -> None:
    await bench.serve()
    created = [await bench.create(priority=priority) for priority in (5, 7, 5, 7, 5)]
    order = [run.lease.run_id for run in (await bench.claim()).runs]
    assert order == [created[index] for index in (1, 3, 0, 2, 4)]


async def test_a_record_tells_a_priority_that_is_not_0(bench: Bench) -> None:
    await bench.register_workflow()
    high, plain, nothing = await bench.create(priority=3), await bench.create(priority=0), await bench.create()
    assert await bench.field(high, "pr") == "3"
    assert (await bench.field(plain, "pr"), await bench.field(nothing, "pr")) == (None, None)


async def test_a_workflow_gives_its_priority_unless_the_caller_does(bench: Bench) -> None:
    await bench.register_workflow(priority=-4)
    given, own, none = await bench.create(priority=9), await bench.create(), await bench.create(priority=0)
    assert [await bench.field(run, "pr") for run in (given, own, none)] == ["9", "-4", None]
    await bench.register_workflow()
    assert await bench.field(await bench.create(), "pr") is None


async def test_a_parked_run_enters_its_priority(bench: Bench) -> None:
    parked = [await bench.create(queue="q", priority=priority) for priority in (0, 2, 1)]
    await bench.register_workflow()
    assert await bench.ids(READY) == [parked[1], parked[2], parked[0]]


async def test_a_run_whose_time_has_come_enters_its_priority(bench: Bench) -> None:
    await bench.register_workflow()
    later = await bench.create(run_at_ms=T0 + 1, priority=1)
    plain = await bench.create()
    bench.now += 1
    await bench.scripts.promote(10)
    assert await bench.ids(READY) == [later, plain]


async def test_a_retry_keeps_the_priority(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.claimed(await bench.create(priority=1))
    await bench.scripts.settle([settlement(lease, "retry", b"{}", due=T0 + 1)], "w1", [QUEUE], idle=False)
    plain = await bench.create()
    bench.now += 1
    await bench.scripts.promote(10)
    assert await bench.ids(READY) == [lease.run_id, plain]


async def test_an_interrupted_run_goes_on_before_all(bench: Bench) -> None:
    """It holds its slot and its mutex: the highest may be waiting for them."""
    await bench.serve()
    released = await bench.claimed(await bench.create(priority=-100))
    died = await bench.claimed(await bench.create(priority=-100))
    highest = await bench.create(priority=100)
    await bench.scripts.release([released])
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    assert (await bench.values())[READY] == {
        died.run_id: FRONT - 2,
        released.run_id: FRONT - 1,
        highest: await _score(bench, highest),
    }
    assert await _score(bench, highest) > FRONT + STEP / 2


async def test_a_line_for_a_slot_keeps_priorities(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    holder = await bench.running()
    low, plain, high = [await bench.create(priority=priority) for priority in (-1, 0, 1)]
    assert (await bench.claim()).runs == []
    for expected in (high, plain, low):
        await bench.scripts.settle([settlement(holder, "succeeded", b"1")], "w1", [QUEUE], idle=False)
        [run] = (await bench.claim()).runs
        assert run.lease.run_id == expected
        holder = run.lease


async def test_a_debounced_run_keeps_the_priority_of_its_first_call(bench: Bench) -> None:
    await bench.register_workflow()
    wanted = ResolvedDebounce("k", 10, None)
    first = replace(bench.order(), priority=7)
    assert await create_debounced(bench.scripts, first, None, wanted) == ("created", first.run_id, True)
    again = await create_debounced(bench.scripts, replace(bench.order(), priority=9), None, wanted)
    assert again == ("debounced", first.run_id, True)
    plain = await bench.create()
    bench.now += 10
    await bench.scripts.promote(10)
    assert await bench.field(first.run_id, "pr") == "7"
    assert await bench.ids(READY) == [first.run_id, plain]


async def _score(bench: Bench, run: str) -> float:
    line = (await bench.values())[READY]
    assert isinstance(line, dict)
    return float(line[run])
