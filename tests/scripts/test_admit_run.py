"""admit_run: mutex, rate limit and throttle of a claimed run, all or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.engines.redis.admission import admit
from redflow.engines.redis.replies import as_int, as_text
from redflow.engines.redis.runs import Lease
from redflow.execution.admission import AdmissionRequest, Budget
from redflow.execution.journal import LeaseLost
from tests.support.scripts import ERROR, LEASE_MS, QUEUE, T0, WORKER, Bench, changes

MUTEX = AdmissionRequest(first=True, mutex="k")
THROTTLE = AdmissionRequest(first=True, throttle=Budget("k", 2, 1000))
RATE = AdmissionRequest(first=True, rate=Budget("k", 2, 1000))


async def ask(bench: Bench, lease: Lease, request: AdmissionRequest) -> str:
    return (await admit(bench.scripts, lease, request)).code


async def started(bench: Bench, count: int, workflow: str = "w", *, apart_ms: int = 0) -> list[Lease]:
    """That many new runs, claimed in the order of their creation."""
    for _ in range(count):
        await bench.create(workflow)
        bench.now += apart_ms
    return [run.lease for run in (await bench.claim()).runs]


async def owner(bench: Bench, key: str = "k") -> str | None:
    value = await bench.read("GET", f"@mutex:{key}")
    return None if value is None else as_text(value)


# -- mutex ---------------------------------------------------------------------------------------------------------


async def test_a_free_mutex_is_taken(bench: Bench) -> None:
    await bench.serve()
    [lease] = await started(bench, 1)
    before = await bench.values()
    bench.now += 7
    assert await ask(bench, lease, MUTEX) == "admitted"
    record = await bench.record(lease.run_id)
    assert changes(before, await bench.values()) == {f"run:{lease.run_id}": record, "mutex:k": lease.run_id}
    assert (record["mk"], record["ad"], record["t"]) == ("k", "1", str(T0 + 7))


async def test_who_finds_it_held_is_as_if_never_claimed(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    await ask(bench, first, MUTEX)
    assert await ask(bench, second, MUTEX) == "mutex_wait"
    record = await bench.record(second.run_id)
    assert (record["s"], record["mk"]) == ("queued", "k")
    assert not {"a", "t", "d"} & record.keys()
    assert await bench.ids("mutexline:k") == [second.run_id]
    assert await bench.ids("leases") == [first.run_id]
    assert await bench.ids("ready:app:q") == []


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    both = replace(MUTEX, rate=Budget("r", 5, 1000), throttle=Budget("t", 5, 1000))
    await ask(bench, first, both)
    await ask(bench, second, MUTEX)
    before = await bench.values()
    assert await ask(bench, first, both) == "admitted"
    assert await ask(bench, second, MUTEX) == "settled"
    assert changes(before, await bench.values()) == {}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled", "retry", "suspended"])
async def test_leaving_running_hands_it_to_the_first_in_line(bench: Bench, outcome: str) -> None:
    await bench.serve()
    first, second, third = await started(bench, 3, apart_ms=1)
    for lease in (first, third, second):  # whatever the order they ask in: first come is first created
        await ask(bench, lease, MUTEX)
    assert await bench.ids("mutexline:k") == [second.run_id, third.run_id]
    await bench.settle(first, outcome, ERROR, due=T0 + 90)
    assert await owner(bench) == second.run_id
    assert await bench.ids("ready:app:q") == [second.run_id]
    assert await bench.ids("mutexline:k") == [third.run_id]
    again = await bench.claimed(second.run_id)
    assert await ask(bench, again, MUTEX) == "admitted"
    assert await bench.read("EXISTS", "@grants") == 0


async def test_nobody_overtakes_a_granted_run(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    await ask(bench, first, MUTEX)
    await ask(bench, second, MUTEX)
    await bench.settle(first)
    other = await bench.create()
    leases = {run.lease.run_id: run.lease for run in (await bench.claim()).runs}
    assert await ask(bench, leases[other], MUTEX) == "mutex_wait"
    assert await ask(bench, leases[second.run_id], MUTEX) == "admitted"


async def test_a_cancel_of_a_granted_run_passes_it_on(bench: Bench) -> None:
    await bench.serve()
    first, second, third = await started(bench, 3)
    for lease in (first, second, third):
        await ask(bench, lease, MUTEX)
    await bench.settle(first)
    assert await bench.scripts.cancel(second.run_id, "") == "canceled"
    assert await owner(bench) == third.run_id
    assert await bench.scripts.cancel(third.run_id, "") == "canceled"
    assert await owner(bench) is None


async def test_a_recovered_run_keeps_its_mutex_until_it_goes_on(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    await ask(bench, first, MUTEX)
    await ask(bench, second, MUTEX)
    bench.now += LEASE_MS
    await bench.scripts.recover(10, ERROR)
    assert await owner(bench) == first.run_id
    again = await bench.claimed(first.run_id)
    assert again.fence == 2
    assert await ask(bench, again, replace(MUTEX, rate=Budget("r", 1, 1000))) == "admitted"
    with pytest.raises(LeaseLost):
        await ask(bench, first, MUTEX)


async def test_a_holder_that_died_before_its_admission_uses_no_attempt(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    await ask(bench, first, MUTEX)
    bench.now += LEASE_MS
    await bench.scripts.recover(10, ERROR)
    again = {run.lease.run_id: run.lease for run in (await bench.claim()).runs}
    assert await ask(bench, again[second.run_id], MUTEX) == "mutex_wait"
    assert "a" not in await bench.record(second.run_id)
    assert await ask(bench, again[first.run_id], MUTEX) == "admitted"


async def test_poison_frees_it(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    await ask(bench, first, MUTEX)
    await ask(bench, second, MUTEX)
    for _ in range(6):
        bench.now += LEASE_MS
        await bench.scripts.recover(10, ERROR)
        for run in (await bench.claim()).runs:
            await ask(bench, run.lease, replace(MUTEX, first=False))
    assert await bench.field(first.run_id, "s") == "failed"
    assert await owner(bench) != first.run_id


async def test_a_slot_that_is_taken_meanwhile_lets_the_mutex_pass_on(bench: Bench) -> None:
    await bench.register_workflow("one", max_concurrency=1)
    await bench.register_workflow("w")
    await bench.register_worker("one", "w")
    [holder] = await started(bench, 1)
    await ask(bench, holder, MUTEX)
    [blocked] = await started(bench, 1, "one")
    await ask(bench, blocked, MUTEX)
    [free] = await started(bench, 1, "one")
    await ask(bench, free, AdmissionRequest(first=True, mutex="other"))
    [third] = await started(bench, 1)
    await ask(bench, third, MUTEX)
    await bench.settle(holder)
    assert await owner(bench) == blocked.run_id
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [third.run_id]  # blocked has no slot
    assert await owner(bench) == third.run_id
    assert "mk" not in await bench.record(blocked.run_id)


async def test_a_grant_nobody_takes_up_passes_to_another_queue(bench: Bench) -> None:
    await bench.serve()
    first, second = await started(bench, 2)
    elsewhere = await bench.create(queue="elsewhere")
    [third] = [run.lease for run in (await bench.claim(queues=("app:elsewhere",))).runs]
    for lease in (first, second, third):
        await ask(bench, lease, MUTEX)
    await bench.settle(first)
    assert await owner(bench) == second.run_id
    bench.now += 4_999
    await bench.scripts.recover(10, ERROR)
    assert await owner(bench) == second.run_id
    bench.now += 1
    await bench.scripts.recover(10, ERROR)
    assert await owner(bench) == elsewhere
    again = await bench.claimed(second.run_id)
    assert await ask(bench, again, MUTEX) == "mutex_wait"
    assert await bench.ids("mutexline:k") == [second.run_id]


async def test_a_cancel_request_comes_first(bench: Bench) -> None:
    await bench.serve()
    [lease] = await started(bench, 1)
    assert await bench.scripts.cancel(lease.run_id, "") == "requested"
    before = await bench.values()
    assert await ask(bench, lease, MUTEX) == "canceled"
    assert changes(before, await bench.values()) == {}


async def test_a_blocked_run_hands_its_slot_to_the_next_in_line(bench: Bench) -> None:
    await bench.serve(max_concurrency=2)
    first, second = await started(bench, 2)
    third = await bench.create()
    assert (await bench.claim()).runs == []
    assert await ask(bench, first, MUTEX) == "admitted"
    assert await bench.ids("ready:app:q") == []
    assert await ask(bench, second, MUTEX) == "mutex_wait"
    assert await bench.ids("ready:app:q") == [third]


async def test_a_granted_run_that_is_throttled_passes_the_mutex_on(bench: Bench) -> None:
    await bench.serve()
    both = replace(MUTEX, throttle=Budget("t", 1, 1000))
    first, second, third = await started(bench, 3)
    assert [await ask(bench, lease, both) for lease in (first, second)] == ["admitted", "mutex_wait"]
    assert await ask(bench, third, MUTEX) == "mutex_wait"
    await bench.settle(first)
    assert await owner(bench) == second.run_id
    assert await ask(bench, await bench.claimed(second.run_id), both) == "throttled"
    assert await owner(bench) == third.run_id


# -- throttle ------------------------------------------------------------------------------------------------------


async def test_a_window_is_opened_by_its_first_admission(bench: Bench) -> None:
    await bench.serve()
    first, second, third = await started(bench, 3)
    assert await ask(bench, first, THROTTLE) == "admitted"
    bench.now += 300
    assert await ask(bench, second, THROTTLE) == "admitted"
    assert await ask(bench, third, THROTTLE) == "throttled"
    record = await bench.record(third.run_id)
    assert (record["s"], record["d"], record["tl"]) == ("scheduled", str(T0 + 1000), "1:w:k")
    assert "a" not in record
    assert (await bench.values())["throttled"] == {"1:w:k": T0 + 1000}


async def test_at_the_windows_end_at_most_limit_leave_the_line(bench: Bench) -> None:
    await bench.serve()
    leases = await started(bench, 7)
    assert [await ask(bench, lease, THROTTLE) for lease in leases] == ["admitted"] * 2 + ["throttled"] * 5
    bench.now += 999
    assert await bench.scripts.promote(100) == (bench.now, T0 + 1000, 0)
    bench.now += 1
    assert await bench.scripts.promote(100) == (bench.now, None, 2)  # the next window is not open yet
    bench.now += 40
    fresh = await bench.create()
    claimed = [run.lease for run in (await bench.claim()).runs]
    assert [lease.run_id for lease in claimed] == [leases[2].run_id, leases[3].run_id, fresh]
    assert await ask(bench, claimed[2], THROTTLE) == "throttled"  # nobody overtakes the line
    assert [await ask(bench, lease, THROTTLE) for lease in claimed[:2]] == ["admitted"] * 2
    assert (await bench.values())["throttled"] == {"1:w:k": bench.now + 1000}


async def test_nobody_overtakes_a_line_that_has_not_moved_on_yet(bench: Bench) -> None:
    await bench.serve()
    leases = await started(bench, 3)
    assert [await ask(bench, lease, THROTTLE) for lease in leases] == ["admitted"] * 2 + ["throttled"]
    bench.now += 1000
    [fresh] = await started(bench, 1)
    assert await ask(bench, fresh, THROTTLE) == "throttled"
    assert await bench.ids("throttleline:1:w:k") == [leases[2].run_id, fresh.run_id]


async def test_many_leave_in_chunks(bench: Bench) -> None:
    await bench.serve()
    wide = AdmissionRequest(first=True, throttle=Budget("k", 5, 1000))
    for lease in await started(bench, 12):
        await ask(bench, lease, wide)
    bench.now += 1000
    assert await bench.scripts.promote(2) == (bench.now, T0 + 1000, 2)
    assert [(await bench.scripts.promote(2))[2] for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("how", ["cancel", "mutex"])
async def test_a_grant_that_is_not_used_goes_to_the_next(bench: Bench, how: str) -> None:
    await bench.serve()
    narrow = AdmissionRequest(first=True, throttle=Budget("k", 1, 1000))
    first, second, third = await started(bench, 3)
    for lease in (first, second, third):
        await ask(bench, lease, narrow)
    bench.now += 1000
    assert (await bench.scripts.promote(100))[2] == 1
    if how == "cancel":
        await bench.scripts.cancel(second.run_id, "")
    else:
        [holder] = await started_only(bench, 1)
        await ask(bench, holder, MUTEX)
        again = await bench.claimed(second.run_id)
        assert await ask(bench, again, replace(narrow, mutex="k")) == "mutex_wait"
    assert await bench.scripts.promote(100) == (bench.now, None, 1)
    assert await bench.ids("ready:app:q") == [third.run_id]


async def started_only(bench: Bench, count: int) -> list[Lease]:
    """New runs of another queue, so that nothing else is claimed."""
    for _ in range(count):
        await bench.create(queue="aside")
    return [run.lease for run in (await bench.claim(queues=("app:aside",))).runs]


async def test_a_window_without_line_is_forgotten_at_its_end(bench: Bench) -> None:
    await bench.serve()
    [lease] = await started(bench, 1)
    await ask(bench, lease, THROTTLE)
    assert 900 < as_int(await bench.read("PTTL", "@throttle:1:w:k")) <= 1000


async def test_the_line_wakes_the_promoters(bench: Bench) -> None:
    await bench.serve()
    async with bench.listening("timers") as ear:
        for lease in await started(bench, 4):
            await ask(bench, lease, THROTTLE)
        assert await ear.heard() == [("timers", str(T0 + 1000))]
    assert (await bench.claim()).next_due == T0 + 1000


# -- rate limit ----------------------------------------------------------------------------------------------------


async def test_over_the_limit_it_says_for_how_long(bench: Bench) -> None:
    await bench.serve()
    first, second, third = await started(bench, 3)
    for lease in (first, second):
        assert await ask(bench, lease, RATE) == "admitted"
    bench.now += 400
    before = await bench.values()
    answer = await admit(bench.scripts, third, RATE)
    assert (answer.code, answer.retry_after_ms, answer.now_ms) == ("rate_limited", 600, T0 + 400)
    assert changes(before, await bench.values()) == {}
    bench.now = T0 + 1000
    assert await ask(bench, third, RATE) == "admitted"


async def test_counters_are_bumped_only_when_all_pass(bench: Bench) -> None:
    await bench.serve()
    first, second, third = await started(bench, 3)
    everything = AdmissionRequest(True, "k", Budget("r", 2, 1000), Budget("t", 1, 1000))
    assert await ask(bench, first, everything) == "admitted"
    assert await ask(bench, second, everything) == "mutex_wait"
    assert await ask(bench, third, replace(everything, mutex="other")) == "throttled"
    values = await bench.values()
    assert values["rate:1:w:r"] == {"e": str(T0 + 1000), "n": "1"}
    assert "mutex:other" not in values


async def test_resumes_and_retries_pay_nothing(bench: Bench) -> None:
    await bench.serve()
    [lease] = await started(bench, 1)
    assert await ask(bench, lease, RATE) == "admitted"
    await bench.settle(lease, "retry", ERROR, due=T0 + 1)
    bench.now += 1
    await bench.scripts.promote(10)
    again = await bench.claimed(lease.run_id)
    assert await ask(bench, again, replace(RATE, first=False)) == "admitted"
    assert (await bench.values())["rate:1:w:k"] == {"e": str(T0 + 1000), "n": "1"}


async def test_a_plain_run_leaves_no_trace_of_admission(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease)
    assert not {"mk", "tl", "ad"} & (await bench.record(lease.run_id)).keys()
    assert (await bench.scripts.settle([], WORKER, [QUEUE], idle=False))[1] == {}


async def test_runs_of_one_millisecond_stand_in_the_order_of_their_ids(bench: Bench) -> None:
    """Ids grow with the order of creation, whichever worker asks first."""
    await bench.serve()
    first, *others = await started(bench, 6)
    for lease in (first, *reversed(others)):
        await ask(bench, lease, MUTEX)
    assert await bench.ids("mutexline:k") == sorted(lease.run_id for lease in others)
