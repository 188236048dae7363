"""time_out_runs: fails the runs whose time-out has passed. And what the other verbs do with a time-out."""

from __future__ import annotations

import json

import pytest

from redflow.engines.redis.admission import admit
from redflow.engines.redis.journal import OPEN_WAIT
from redflow.engines.redis.replies import as_text
from redflow.engines.redis.runs import Lease
from redflow.execution.admission import AdmissionRequest
from tests.support.scripts import (
    ERROR,
    FRONT,
    LEASE_MS,
    QUEUE,
    RETENTION_MS,
    T0,
    WORKER,
    Bench,
    changes,
    settlement,
    step,
)

LIMIT = 1_000
FAILURE = {
    "name": "TimeoutError",
    "message": f"Run timed out: w after {LIMIT} ms",
    "kind": "timeout",
    "stack": f"redflow.errors.TimeoutError: Run timed out: w after {LIMIT} ms",
}


async def start(bench: Bench) -> Lease:
    """A running run with a time-out."""
    return await bench.claimed(await bench.create(run_timeout_ms=LIMIT))


async def end(
    bench: Bench, lease: Lease, outcome: str, payload: bytes = b"1", due: int | None = None
) -> dict[int, str]:
    """Settle one attempt; the reasons."""
    item = settlement(lease, outcome, payload, due=due)
    return (await bench.scripts.settle([item], WORKER, [QUEUE], idle=False))[1]


async def failure_of(bench: Bench, run: str, field: str = "e") -> object:
    """A stored error."""
    return json.loads(await bench.field(run, field) or "null")


async def asleep(bench: Bench) -> Lease:
    """A run with a time-out that sleeps for a day."""
    lease = await start(bench)
    await end(bench, lease, "suspended", due=T0 + 86_400_000)
    return lease


# -- when the clock runs -------------------------------------------------------------------------------------------


async def test_the_clock_starts_with_the_first_claim(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create(run_timeout_ms=LIMIT)
    assert await bench.field(run, "to") == str(LIMIT)
    bench.now += 60_000
    assert (await bench.values()).get("timeouts") is None
    reply = await bench.claim()
    assert (await bench.values())["timeouts"] == {run: bench.now + LIMIT}
    assert await bench.field(run, "ta") == str(bench.now + LIMIT)
    assert reply.next_due == bench.now + LIMIT  # so the promoter of whoever claims sleeps until then


async def test_retries_and_sleeps_and_recoveries_do_not_move_it(bench: Bench) -> None:
    await bench.serve()
    lease = await start(bench)
    ends = {lease.run_id: T0 + LIMIT}
    await end(bench, lease, "retry", ERROR, due=T0 + 1)
    bench.now += 1
    await bench.scripts.promote(10)
    lease = await bench.claimed(lease.run_id)
    assert (await bench.values())["timeouts"] == ends
    await end(bench, lease, "suspended", due=T0 + 2)
    bench.now += 1
    await bench.scripts.promote(10)
    lease = await bench.claimed(lease.run_id)
    await bench.scripts.release([lease])
    await bench.claimed(lease.run_id)
    assert (await bench.values())["timeouts"] == ends


async def test_a_workflow_gives_its_time_out_unless_the_caller_does(bench: Bench) -> None:
    await bench.register_workflow(run_timeout=50)
    own, given = await bench.create(), await bench.create(run_timeout_ms=70)
    assert [await bench.field(run, "to") for run in (own, given)] == ["50", "70"]
    await bench.register_workflow()
    assert await bench.field(await bench.create(), "to") is None


async def test_a_run_that_waits_for_admission_has_not_started(bench: Bench) -> None:
    await bench.serve()
    holder, waiting = await bench.running(), await start(bench)
    request = AdmissionRequest(True, mutex="m")
    assert (await admit(bench.scripts, holder, request)).code == "admitted"
    assert (await admit(bench.scripts, waiting, request)).code == "mutex_wait"
    assert (await bench.values()).get("timeouts") is None
    assert await bench.field(waiting.run_id, "ta") is None
    bench.now += 60_000
    await end(bench, holder, "succeeded")
    waiting = await bench.claimed(waiting.run_id)
    bench.now += 5
    assert (await admit(bench.scripts, waiting, request)).code == "admitted"
    assert (await bench.values())["timeouts"] == {waiting.run_id: bench.now + LIMIT}


# -- runs that nobody executes -------------------------------------------------------------------------------------


async def test_a_sleeping_run_fails(bench: Bench) -> None:
    await bench.serve()
    lease = await asleep(bench)
    record = await bench.record(lease.run_id)
    bench.now += LIMIT - 1
    assert await bench.scripts.time_out(10) == (bench.now, T0 + LIMIT, 0)
    bench.now += 1
    before = await bench.values()
    assert await bench.scripts.time_out(10) == (bench.now, None, 1)
    del record["d"], record["r"]
    failed = await bench.record(lease.run_id)
    assert json.loads(failed.pop("e")) == FAILURE
    assert failed == record | {"s": "failed", "f": str(bench.now)}
    changed = changes(before, await bench.values())
    del changed[f"run:{lease.run_id}"]
    assert changed == {
        "idx:scheduled:w": None,
        "idx:failed:w": {lease.run_id: T0},
        "due": None,
        "timeouts": None,
        f"expiry:{RETENTION_MS}": [lease.run_id],
        "retentions": {str(RETENTION_MS)},
    }
    assert await bench.scripts.time_out(10) == (bench.now, None, 0)


async def test_its_on_failure_is_called_in_the_same_attempt(bench: Bench) -> None:
    await bench.serve(on_failure=True)
    lease = await start(bench)
    await end(bench, lease, "retry", ERROR, due=T0 + 86_400_000)
    highest = await bench.create(priority=100)
    bench.now += LIMIT
    assert await bench.scripts.time_out(10) == (bench.now, None, 1)
    assert await bench.ids(f"ready:{QUEUE}") == [lease.run_id, highest]
    assert await failure_of(bench, lease.run_id, "z") == FAILURE
    assert await bench.scripts.cancel(lease.run_id, "") == "decided"
    run = (await bench.claim(1)).runs[0]
    assert (run.attempt, json.loads(run.record[b"z"])) == (1, FAILURE)
    assert await end(bench, run.lease, "failed", ERROR) == {}
    assert await failure_of(bench, lease.run_id) == FAILURE


@pytest.mark.parametrize("hook", [False, True])
async def test_a_run_in_line_for_a_slot_leaves_it(bench: Bench, hook: bool) -> None:
    await bench.serve(max_concurrency=1, on_failure=hook)
    lease = await start(bench)
    await end(bench, lease, "retry", ERROR, due=T0 + 1)
    holder = await bench.running()
    bench.now += 1
    await bench.scripts.promote(10)
    assert (await bench.claim()).runs == []
    assert await bench.ids(f"line:5:{QUEUE}:w") == [lease.run_id]
    bench.now += LIMIT
    assert (await bench.scripts.time_out(10))[2] == 1
    assert (await bench.values()).get(f"line:5:{QUEUE}:w") is None
    if not hook:
        assert await bench.field(lease.run_id, "s") == "failed"
        return
    assert (await bench.claim()).runs == []  # on_failure takes a slot, too
    await end(bench, holder, "succeeded")
    [run] = (await bench.claim()).runs
    assert (run.lease.run_id, run.attempt) == (lease.run_id, 1)


@pytest.mark.parametrize("hook", [False, True])
async def test_a_run_in_line_for_its_mutex_leaves_it(bench: Bench, hook: bool) -> None:
    await bench.serve(on_failure=hook)
    lease = await start(bench)
    await end(bench, lease, "retry", ERROR, due=T0 + 1)
    holder = await bench.running()
    await admit(bench.scripts, holder, AdmissionRequest(True, mutex="m"))
    bench.now += 1
    await bench.scripts.promote(10)
    lease = await bench.claimed(lease.run_id)
    assert (await admit(bench.scripts, lease, AdmissionRequest(False, mutex="m"))).code == "mutex_wait"
    bench.now += LIMIT
    assert (await bench.scripts.time_out(10))[2] == 1
    assert (await bench.values()).get("mutexline:m") is None
    assert await bench.field(lease.run_id, "s") == ("queued" if hook else "failed")
    await end(bench, holder, "succeeded")
    assert (await bench.values()).get("mutex:m") is None


async def test_a_run_whose_holder_died_ends(bench: Bench) -> None:
    """Recovered, it stands in its queue, still running, and keeps its slot until it ends here."""
    await bench.serve(max_concurrency=1)
    lease = await start(bench)
    waiting = await bench.create()
    await bench.claim()
    bench.now += LEASE_MS
    await bench.scripts.recover(10, ERROR)
    assert await bench.scripts.time_out(10) == (bench.now, None, 1)
    assert await bench.field(lease.run_id, "s") == "failed"
    assert await bench.ids(f"ready:{QUEUE}") == [waiting]  # its slot is handed on


async def test_no_more_than_the_limit_a_call(bench: Bench) -> None:
    await bench.serve()
    leases = [await asleep(bench) for _ in range(3)]
    bench.now += LIMIT
    assert await bench.scripts.time_out(2) == (bench.now, T0 + LIMIT, 2)
    assert await bench.scripts.time_out(2) == (bench.now, None, 1)
    assert {await bench.field(lease.run_id, "s") for lease in leases} == {"failed"}


# -- runs that somebody executes -----------------------------------------------------------------------------------


async def test_the_holder_is_told_and_the_failure_is_decided(bench: Bench) -> None:
    await bench.serve()
    lease = await start(bench)
    record = await bench.record(lease.run_id)
    bench.now += LIMIT
    async with bench.listening(f"worker:{WORKER}") as ear:
        assert await bench.scripts.time_out(10) == (bench.now, None, 1)
        assert await ear.heard() == [(f"worker:{WORKER}", f"timeout {lease.run_id}")]
    changed = await bench.record(lease.run_id)
    assert json.loads(changed.pop("z")) == FAILURE
    assert changed == record
    assert await bench.scripts.record([step(lease)]) == {0: "timeout"}  # written all the same
    renewed = await bench.scripts.renew(WORKER, LEASE_MS, 60_000, [lease], patience_s=5)
    assert renewed is not None
    assert renewed[2] == {0: "timeout"}
    args = (bench.now, lease.run_id, lease.fence, lease.token, "s:e", "1 Re 1 0 - ", "event", "key", T0 + 10_000)
    assert as_text(await bench.connection.call(OPEN_WAIT, bench.keys.base, args)) == "timeout"
    assert await bench.scripts.cancel(lease.run_id, "") == "decided"


@pytest.mark.parametrize("outcome", ["succeeded", "retry", "suspended", "canceled", "failed"])
async def test_whatever_the_holder_tells_then_the_run_has_timed_out(bench: Bench, outcome: str) -> None:
    await bench.serve()
    lease = await start(bench)
    bench.now += LIMIT
    await bench.scripts.time_out(10)
    reasons = await end(bench, lease, outcome, ERROR, due=T0 + 10_000)
    assert reasons == ({} if outcome == "failed" else {0: "timeout"})
    assert await bench.field(lease.run_id, "s") == "failed"
    assert await failure_of(bench, lease.run_id) == FAILURE
    assert await end(bench, lease, outcome, ERROR, due=T0 + 10_000) == {}  # sent again


@pytest.mark.parametrize("outcome", ["succeeded", "retry", "suspended"])
async def test_an_end_after_the_time_is_a_time_out_whoever_notices_first(bench: Bench, outcome: str) -> None:
    await bench.serve()
    early, late = await start(bench), await start(bench)
    bench.now += LIMIT - 1
    assert await end(bench, early, "succeeded") == {}
    bench.now += 1
    assert await end(bench, late, outcome, due=T0 + 10_000) == {0: "timeout"}
    assert [await bench.field(lease.run_id, "s") for lease in (early, late)] == ["succeeded", "failed"]
    assert await failure_of(bench, late.run_id) == FAILURE
    assert await bench.scripts.time_out(10) == (bench.now, None, 0)


async def test_handed_back_it_ends_or_goes_to_its_on_failure(bench: Bench) -> None:
    await bench.serve()
    lease = await start(bench)
    bench.now += LIMIT
    await bench.scripts.time_out(10)
    assert await bench.scripts.release([lease]) == 1
    assert await bench.field(lease.run_id, "s") == "failed"
    await bench.register_workflow(on_failure=True)
    lease = await start(bench)
    bench.now += LIMIT
    await bench.scripts.time_out(10)
    assert await bench.scripts.release([lease]) == 1
    assert (await bench.values())[f"ready:{QUEUE}"] == {lease.run_id: FRONT - 1}
    [run] = (await bench.claim()).runs
    assert (run.attempt, json.loads(run.record[b"z"])) == (1, FAILURE)


async def test_a_cancel_request_that_came_first_wins(bench: Bench) -> None:
    await bench.serve()
    lease = await start(bench)
    assert await bench.scripts.cancel(lease.run_id, "enough") == "requested"
    bench.now += LIMIT
    assert await bench.scripts.time_out(10) == (bench.now, None, 0)
    assert await end(bench, lease, "succeeded") == {0: "canceled"}


async def test_a_failure_that_was_decided_first_stays(bench: Bench) -> None:
    await bench.serve()
    first, second = await start(bench), await start(bench)
    assert await bench.scripts.decide_failure(first, ERROR) == "ok"
    bench.now += LIMIT
    assert (await bench.scripts.time_out(10))[2] == 1
    assert await bench.scripts.decide_failure(first, ERROR) == "ok"  # sent again
    assert await bench.scripts.decide_failure(second, ERROR) == "timeout"
    await end(bench, first, "failed", ERROR)
    await end(bench, second, "failed", ERROR)
    assert await failure_of(bench, first.run_id) == json.loads(ERROR)
    assert await failure_of(bench, second.run_id) == FAILURE


async def test_an_ended_run_stands_nowhere(bench: Bench) -> None:
    await bench.serve()
    for outcome in ("succeeded", "failed", "canceled"):
        await end(bench, await start(bench), outcome, ERROR)
    sleeping = await asleep(bench)
    await bench.scripts.cancel(sleeping.run_id, "")
    assert (await bench.values()).get("timeouts") is None
