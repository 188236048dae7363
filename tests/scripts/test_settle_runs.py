"""settle_runs: the only exit of an attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.scripts import (
    BIG,
    ERROR,
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


@pytest.mark.parametrize(("outcome", "payload"), [("succeeded", {"o": "1"}), ("failed", {"e": "1"}), ("canceled", {})])
async def test_an_ended_run_keeps_its_result_and_leaves_its_place(
    bench: Bench, outcome: str, payload: dict[str, str]
) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    bench.now += 9
    assert await bench.settle(lease, outcome) == {}
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"s": outcome, "f": str(T0 + 9)} | payload,
        "idx:running:w": None,
        f"idx:{outcome}:w": {lease.run_id: T0},
        "leases": None,
        f"expiry:{RETENTION_MS}": [lease.run_id],
        "retentions": {str(RETENTION_MS)},
    }


async def test_a_retry_waits_for_its_time_and_leaves_a_trace(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    bench.now += 9
    assert await bench.settle(lease, "retry", ERROR, due=T0 + 500) == {}
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record
        | {"s": "scheduled", "d": str(T0 + 500), "e": ERROR.decode(), "a:1": f"{T0 + 9} []"},
        "idx:running:w": None,
        "idx:scheduled:w": {lease.run_id: T0},
        "leases": None,
        "due": {lease.run_id: T0 + 500},
    }


async def test_a_sleep_keeps_the_attempt_open(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await bench.settle(lease, "suspended", due=T0 + 500) == {}
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"s": "scheduled", "d": str(T0 + 500), "r": "1"},
        "idx:running:w": None,
        "idx:scheduled:w": {lease.run_id: T0},
        "leases": None,
        "due": {lease.run_id: T0 + 500},
    }


@pytest.mark.parametrize("outcome", ["retry", "suspended"])
async def test_the_deaths_of_its_holders_are_forgotten(bench: Bench, outcome: str) -> None:
    await bench.serve()
    lease = await bench.running()
    bench.now += LEASE_MS
    await bench.scripts.recover(10, ERROR)
    lease = await bench.claimed(lease.run_id)
    await bench.settle(lease, outcome, ERROR, due=T0)
    assert await bench.field(lease.run_id, "x") is None


async def test_an_earlier_time_is_told_to_the_promoters(bench: Bench) -> None:
    await bench.serve()
    leases = [await bench.running() for _ in range(3)]
    async with bench.listening("timers") as ear:
        for lease, delay in zip(leases, (300, 400, 200), strict=True):
            await bench.settle(lease, "suspended", due=T0 + delay)
        assert await ear.heard() == [("timers", str(T0 + 300)), ("timers", str(T0 + 200))]


@pytest.mark.parametrize("end", ["succeeded", "canceled"])
async def test_the_last_error_is_removed_unless_the_run_failed(bench: Bench, end: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, "retry", ERROR, due=T0)
    await bench.scripts.promote(10)
    lease = await bench.claimed(lease.run_id)
    assert await bench.field(lease.run_id, "e") == ERROR.decode()
    await bench.settle(lease, end)
    record = await bench.record(lease.run_id)
    assert "e" not in record
    assert record["a:1"].endswith(" []")


async def test_steps_are_written_with_the_outcome(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, steps=(step(lease, "a"), step(lease, "b", BIG, seq=2)))
    record = await bench.record(lease.run_id)
    assert (record["s:a"], record["s:b"], record["o"]) == ("1 Sr 1 0 5 1", "2 Sr 1 0 5 @", "1")


async def test_large_payloads_are_stored_apart(bench: Bench) -> None:
    await bench.serve()
    good, bad, again = [await bench.running() for _ in range(3)]
    items = [
        settlement(good, "succeeded", BIG),
        settlement(bad, "failed", BIG),
        replace(settlement(again, "retry", BIG, due=T0), trace=BIG),
    ]
    await bench.scripts.settle(items, WORKER, [QUEUE], idle=False)
    snapshot = await bench.snapshot()
    assert [snapshot.hash(f"big:{lease.run_id}").keys() for lease in (good, bad, again)] == [{"o"}, {"e"}, {"e", "a:1"}]
    assert (await bench.record(good.run_id))["o"] == "@"
    assert (await bench.record(bad.run_id))["e"] == "@"
    assert (await bench.record(again.run_id))["a:1"] == f"{T0} @"


# -- refusals ------------------------------------------------------------------------------------------------------


async def test_refusals_name_their_reason_and_write_nothing(bench: Bench) -> None:
    await bench.serve()
    leases = await bench.refused_leases()
    before = await bench.values()
    items = [settlement(lease, "failed", BIG, steps=(step(lease),)) for lease in leases.values()]
    more, reasons = await bench.scripts.settle(items, WORKER, ["app:none"], idle=False)
    names = [name.split()[0] for name in leases]
    assert not more
    assert reasons == {index: name for index, name in enumerate(names) if name != "settled"}
    assert changes(before, await bench.values()) == {}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled", "retry", "suspended"])
async def test_sent_again_it_changes_nothing(bench: Bench, outcome: str) -> None:
    await bench.serve()
    lease = await bench.running()
    item = settlement(lease, outcome, ERROR, due=T0 + 5, steps=(step(lease),))
    assert await bench.scripts.settle([item], WORKER, [QUEUE], idle=True) == (False, {})
    before = await bench.values()
    bench.now += 1
    assert await bench.scripts.settle([item], WORKER, [QUEUE], idle=True) == (False, {})
    assert changes(before, await bench.values()) == {}


async def test_sent_again_after_the_next_claim_it_is_stale(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, "retry", ERROR, due=T0)
    await bench.scripts.promote(10)
    assert await bench.settle(lease, "retry", ERROR, due=T0) == {}
    await bench.claimed(lease.run_id)
    assert await bench.settle(lease, "retry", ERROR, due=T0) == {0: "stale"}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "retry", "suspended", "canceled"])
async def test_a_cancel_request_wins_over_every_outcome(bench: Bench, outcome: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.cancel(lease.run_id, "why not")
    reasons = await bench.settle(lease, outcome, ERROR, due=T0 + 5, steps=(step(lease),))
    assert reasons == ({} if outcome == "canceled" else {0: "canceled"})
    record = await bench.record(lease.run_id)
    assert (record["s"], record["cw"], record["cr"]) == ("canceled", "why not", str(T0))
    assert "s:one" in record
    assert not {"o", "e", "d", "a:1"} & record.keys()


async def test_each_item_of_a_batch_has_its_own_answer(bench: Bench) -> None:
    await bench.serve()
    done, stale, asked, asleep = [await bench.running() for _ in range(4)]
    await bench.scripts.cancel(asked.run_id, "")
    items = [
        settlement(done, steps=(step(done, "a"), step(done, "b", seq=2))),
        settlement(replace(stale, token="w1.no"), steps=(step(stale),)),
        settlement(asked),
        settlement(asleep, "suspended", due=T0 + 5),
    ]
    _, reasons = await bench.scripts.settle(items, WORKER, [QUEUE, "app:none"], idle=False)
    assert reasons == {1: "stale", 2: "canceled"}
    statuses = [await bench.field(lease.run_id, "s") for lease in (done, stale, asked, asleep)]
    assert statuses == ["succeeded", "running", "canceled", "scheduled"]


# -- those who wait ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "payload", "said"),
    [
        ("succeeded", b"7", "succeeded 7"),
        ("failed", ERROR, f"failed {ERROR.decode()}"),
        ("canceled", b"", "canceled @"),
        ("succeeded", BIG[:8192], f"succeeded {BIG[:8192].decode()}"),
        ("succeeded", BIG[:8193], "succeeded @"),
    ],
)
async def test_clients_that_wait_are_told(bench: Bench, outcome: str, payload: bytes, said: str) -> None:
    await bench.serve()
    lease = await bench.running()
    waiters = f"@waiters:{lease.run_id}"
    await bench.read("SADD", waiters, "c1", "c2")
    await bench.read("EXPIRE", waiters, 300)
    async with bench.listening("client:c1", "client:c2") as ear:
        await bench.settle(lease, outcome, payload)
        heard = await ear.heard()
    assert sorted(heard) == [(f"client:c{n}", f"{lease.run_id} {said}") for n in (1, 2)]
    assert f"waiters:{lease.run_id}" not in await bench.values()


@pytest.mark.parametrize("outcome", ["retry", "suspended"])
async def test_clients_go_on_waiting_for_a_run_that_goes_on(bench: Bench, outcome: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.read("SADD", f"@waiters:{lease.run_id}", "c1")
    await bench.read("EXPIRE", f"@waiters:{lease.run_id}", 300)
    await bench.settle(lease, outcome, ERROR, due=T0)
    assert (await bench.values())[f"waiters:{lease.run_id}"] == {"c1"}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled", "retry", "suspended"])
async def test_the_slot_goes_to_the_first_in_line(bench: Bench, outcome: str) -> None:
    await bench.serve(max_concurrency=1)
    lease = await bench.running()
    waiting = [await bench.create() for _ in range(2)]
    await bench.claim()
    await bench.settle(lease, outcome, ERROR, due=T0 + 5)
    assert await bench.ids("ready:app:q") == waiting[:1]
    assert await bench.ids("line:5:app:q:w") == waiting[1:]
    assert (await bench.values())["lined"] == {"w"}


async def test_the_first_of_each_queue_is_called_when_a_slot_is_free(bench: Bench) -> None:
    """The workers of one queue may all be gone; the claim decides who gets the slot."""
    await bench.serve(max_concurrency=1)
    lease = await bench.running()
    here, there = await bench.create(), await bench.create(queue="other")
    await bench.claim(queues=(QUEUE, "app:other"))
    assert (await bench.values())["lined:w"] == {QUEUE, "app:other"}
    await bench.settle(lease)
    values = await bench.values()
    assert (values["ready:app:q"], values["ready:app:other"]) == ({here: 2}, {there: 3})
    assert not {"lined", "lined:w"} & values.keys()
    reply = await bench.claim(queues=(QUEUE, "app:other"))
    assert [run.lease.run_id for run in reply.runs] == [here]
    assert await bench.ids("line:9:app:other:w") == [there]


async def test_as_many_are_called_as_slots_are_free(bench: Bench) -> None:
    await bench.serve(max_concurrency=3)
    leases = [await bench.running() for _ in range(3)]
    waiting = [await bench.create() for _ in range(4)]
    await bench.claim()
    await bench.scripts.settle([settlement(lease) for lease in leases[:2]], WORKER, [QUEUE], idle=False)
    assert await bench.ids("line:5:app:q:w") == waiting[2:]
    assert [run.lease.run_id for run in (await bench.claim()).runs] == waiting[:2]
    assert await bench.ids("line:5:app:q:w") == waiting[2:]


async def test_it_tells_whether_there_is_more_and_marks_an_idle_worker(bench: Bench) -> None:
    await bench.serve()
    leases = [await bench.running() for _ in range(3)]
    await bench.read("DEL", "@idle:app:q")
    queues = ["app:none", QUEUE]
    await bench.create()
    assert await bench.scripts.settle([settlement(leases[0])], WORKER, queues, idle=True) == (True, {})
    assert (await bench.snapshot()).names("idle:") == []
    await bench.claim(1)
    assert await bench.scripts.settle([settlement(leases[1])], WORKER, queues, idle=False) == (False, {})
    assert (await bench.snapshot()).names("idle:") == []
    assert await bench.scripts.settle([settlement(leases[2])], WORKER, queues, idle=True) == (False, {})
    values = await bench.values()
    assert (values["idle:app:q"], values["idle:app:none"]) == ({WORKER}, {WORKER})
