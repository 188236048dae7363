"""open_wait: a step begins to wait for an event, or takes one that came since the run was created."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.engines.redis.replies import as_int, as_list
from tests.support.event_scripts import FAR, PLACE, accept, close_wait, open_wait, public, waiting, woken
from tests.support.scripts import BIG, LEASE_MS, T0, WORKER, Bench, changes, settlement


async def test_a_wait_is_written_and_entered(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await open_wait(bench, lease, "s:two words") == "open"
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"s:two words": waiting()},
        f"waiting:{PLACE}": {f"{lease.run_id} s:two words": FAR},
    }


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    before = await bench.values()
    assert await open_wait(bench, lease) == "open"
    assert changes(before, await bench.values()) == {}
    await accept(bench, key="k1")
    before = await bench.values()
    assert await open_wait(bench, lease) == "found"
    assert changes(before, await bench.values()) == {}


async def test_the_key_lives_a_minute_longer_than_the_last_wait(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease, deadline=FAR + 9)
    await open_wait(bench, lease, "s:two")
    seconds, _ = as_list(await bench.read("TIME"))
    ttl_ms = (await bench.snapshot()).entries[f"waiting:{PLACE}"].ttl_ms
    assert ttl_ms is not None
    assert abs(as_int(seconds) * 1000 + ttl_ms - (FAR + 9 + 60_000)) < 30_000  # by the server's own clock


async def test_an_event_since_the_creation_of_the_run_satisfies_it(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    assert (await accept(bench, key="k1", data=b"7")).resumed_run_ids == []
    bench.now += 9
    before, record = await bench.values(), await bench.record(lease.run_id)
    async with bench.listening("worker:w1") as ear:
        assert await open_wait(bench, lease) == "found"
        assert await ear.heard() == [("worker:w1", f"wake {lease.run_id}")]
    found = record | {"s:one": woken("e1", T0, b"7"), f"v:{PLACE}": "1"}
    assert changes(before, await bench.values()) == {f"run:{lease.run_id}": found}


async def test_an_older_event_does_not(bench: Bench) -> None:
    await bench.serve()
    await accept(bench, key="k1")
    bench.now += 1
    assert await open_wait(bench, await bench.running()) == "open"


@pytest.mark.parametrize(("late", "answer"), [(0, "found"), (1, "open")])
async def test_not_one_that_is_found_after_the_deadline(bench: Bench, late: int, answer: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await accept(bench, key="k1")
    bench.now = FAR + late
    assert await open_wait(bench, lease) == answer


async def test_a_second_wait_takes_only_a_newer_one(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await accept(bench, key="k1")
    assert await open_wait(bench, lease) == "found"
    assert await open_wait(bench, lease, "s:two") == "open"
    await close_wait(bench, lease.run_id, "s:two")
    await accept(bench, "e2", key="k1")
    assert await open_wait(bench, lease, "s:three") == "found"
    assert await bench.field(lease.run_id, "s:three") == woken("e2", T0)


async def test_name_and_key_must_be_the_same(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await accept(bench, key="k1")
    assert await open_wait(bench, lease, key="k2") == "open"
    assert await open_wait(bench, lease, "s:two", event="sent") == "open"


async def test_a_pointer_to_an_event_that_is_gone_is_dropped(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.read("SET", f"@latest:{PLACE}", "gone")
    assert await open_wait(bench, lease) == "open"
    assert f"latest:{PLACE}" not in await bench.values()


async def test_large_data_is_stored_apart(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await accept(bench, key="k1", data=BIG)
    assert await open_wait(bench, lease) == "found"
    assert await bench.field(lease.run_id, "s:one") == woken("e1", T0, b"@")
    assert (await bench.values())[f"big:{lease.run_id}"] == {"s:one": BIG.decode()}


async def test_an_event_wakes_a_run_that_sleeps(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    await bench.settle(lease, "suspended", due=FAR)
    bench.now += 3
    assert (await accept(bench, key="k1")).resumed_run_ids == public(lease.run_id)
    assert await bench.ids("ready:app:q") == [lease.run_id]
    record = await bench.record(lease.run_id)
    assert (record["s"], record["s:one"]) == ("queued", woken("e1", T0 + 3))
    assert not {"due", f"waiting:{PLACE}"} & (await bench.values()).keys()


async def test_an_event_that_comes_before_the_sleep_wakes_the_run_at_once(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    await accept(bench, key="k1")
    sleep = replace(settlement(lease, "suspended", due=FAR), waits=["s:one"])
    assert await bench.scripts.settle([sleep], WORKER, [], idle=False) == (False, {})
    assert await bench.field(lease.run_id, "s") == "queued"
    assert (await bench.ids("ready:app:q"), await bench.ids("due")) == ([lease.run_id], [])


@pytest.mark.parametrize("end", ["over", "timed out"])
async def test_an_event_does_not_reach_a_wait_that_ended(bench: Bench, end: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    if end == "over":
        await bench.settle(lease)
    else:
        bench.now = FAR + 1
    assert (await accept(bench, key="k1")).resumed_run_ids == []
    assert await bench.field(lease.run_id, "s:one") == waiting()
    assert f"waiting:{PLACE}" not in await bench.values()


async def test_a_run_that_is_to_be_canceled_waits_for_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await accept(bench, key="k1")
    await bench.scripts.cancel(lease.run_id, "")
    before = await bench.values()
    assert await open_wait(bench, lease) == "cancel"
    assert changes(before, await bench.values()) == {}


async def test_a_lease_that_is_over_gives_no_right(bench: Bench) -> None:
    await bench.serve()
    leases = await bench.refused_leases()
    await accept(bench, key="k1")
    before = await bench.values()
    for reason, lease in leases.items():
        assert await open_wait(bench, lease) == reason.split()[0], reason
    assert changes(before, await bench.values()) == {}


async def test_a_run_that_was_taken_from_its_holder_gets_the_event_too(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    await accept(bench, key="k1")
    [run] = (await bench.claim()).runs
    assert run.record[b"s:one"].decode() == woken("e1", T0 + LEASE_MS)
