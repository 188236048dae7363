"""deliver_event: the next pass over an event whose fan-out is not complete."""

from __future__ import annotations

import pytest

from redflow.engine import Emitted
from redflow.engines.redis.events import LEASE_MS
from redflow.engines.redis.runs import Lease
from tests.support.event_scripts import FAR, PLACE, accept, deliver, event, open_wait, unfinished, waiting
from tests.support.scripts import QUEUE, RETENTION_MS, T0, Bench, changes


async def test_the_last_pass_completes_it(bench: Bench) -> None:
    await unfinished(bench)
    bench.now += 7
    emitted = await deliver(bench)
    assert (emitted.code, emitted.event_id, emitted.final, len(set(emitted.run_ids))) == ("same", "e1", True, 51)
    assert len(await bench.ids(f"ready:{QUEUE}")) == 51
    record = await event(bench)
    assert record.items() >= {"fan": "completed", "nd": "51", "nf": "0", "pp": "2", "f": str(T0 + 7)}.items()
    values = await bench.values()
    assert values["eidx:completed:paid"] == {"e1": T0}
    assert (values[f"eexpiry:{RETENTION_MS}"], values["eretentions"]) == (["e1"], {str(RETENTION_MS)})
    assert not {"outbox", "eidx:pending:paid"} & values.keys()


async def test_a_pass_that_leaves_some_is_followed_by_another(bench: Bench) -> None:
    await unfinished(bench, subscribers=101)
    bench.now += 7
    emitted = await deliver(bench)
    assert (emitted.final, len(emitted.run_ids)) == (False, 100)
    assert (await bench.values())["outbox"] == {"e1": T0 + 7 + LEASE_MS}
    assert (await event(bench)).items() >= {"fan": "pending", "nd": "100", "pp": "2"}.items()
    assert (await deliver(bench)).final


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await unfinished(bench)
    first = await deliver(bench)
    before = await bench.values()
    bench.now += 1
    assert await deliver(bench) == first
    assert changes(before, await bench.values()) == {}


async def test_an_event_that_is_gone_leaves_the_outbox(bench: Bench) -> None:
    await bench.read("ZADD", "@outbox", 1, "e1")
    assert await deliver(bench) == Emitted("gone", "e1", True, [], [])
    assert await bench.values() == {}


async def test_a_pass_wakes_a_hundred_runs_in_the_order_of_their_deadlines(bench: Bench) -> None:
    await bench.serve()
    created = [await bench.create() for _ in range(101)]
    leases = [run.lease for _ in range(2) for run in (await bench.claim(100)).runs]
    assert [lease.run_id for lease in leases] == created
    for number, lease in enumerate(reversed(leases)):
        assert await open_wait(bench, lease, deadline=FAR + number) == "open"
    emitted = await accept(bench, key="k1")
    last = leases[0].run_id
    assert (emitted.final, len(emitted.resumed_run_ids)) == (False, 100)
    assert await bench.field(last, "s:one") == waiting(deadline=FAR + 100)
    assert await bench.ids(f"waiting:{PLACE}") == [f"{last} s:one"]
    emitted = await deliver(bench)
    assert (emitted.final, len(emitted.resumed_run_ids)) == (True, 101)
    assert (await event(bench)).items() >= {"fan": "no-subscribers", "nr": "101"}.items()


async def bench_with_a_full_pass(bench: Bench) -> list[Lease]:
    """101 runs that wait for one event: one more than a pass wakes."""
    await bench.serve()
    for _ in range(101):
        await bench.create()
    leases = [run.lease for _ in range(2) for run in (await bench.claim(100)).runs]
    for number, lease in enumerate(leases):
        await open_wait(bench, lease, deadline=FAR + number)
    assert not (await accept(bench, key="k1")).final
    return leases


async def test_a_run_that_received_the_event_is_passed_over_when_it_waits_again(bench: Bench) -> None:
    leases = await bench_with_a_full_pass(bench)
    assert await open_wait(bench, leases[0], "s:two") == "open"
    assert (await deliver(bench)).final
    assert await bench.field(leases[0].run_id, "s:two") == waiting()


@pytest.mark.parametrize("apart", [0, 1], ids=["one deadline", "deadlines of their own"])
async def test_those_who_wait_behind_many_that_are_passed_over_are_reached(bench: Bench, apart: int) -> None:
    """The crowd waits anew, for what comes after, and with earlier deadlines than the last who waits for this one."""
    leases = await bench_with_a_full_pass(bench)
    crowd = [part for n in range(5_000) for part in (FAR - 1 - apart * n, f"{leases[0].run_id} s:again {n}")]
    await bench.read("ZADD", f"@waiting:{PLACE}", *crowd)
    passes = 0
    while not (emitted := await deliver(bench)).final:
        passes += 1
        assert passes < 10
    assert len(emitted.resumed_run_ids) == 101
    assert len(await bench.ids(f"waiting:{PLACE}")) == 5_000


async def test_an_older_event_never_follows_a_newer_one(bench: Bench) -> None:
    last = (await bench_with_a_full_pass(bench))[-1]
    await accept(bench, "e2", key="k1")
    await open_wait(bench, last, "s:two")
    await deliver(bench, "e1")
    assert await bench.field(last.run_id, "s:two") == waiting()
