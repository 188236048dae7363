"""recover_runs: takes runs from holders that let their lease run out."""

from __future__ import annotations

import pytest

from redflow.engines.redis.runs import Lease
from tests.support.scripts import BIG, ERROR, FRONT, LEASE_MS, RETENTION_MS, T0, Bench, changes, step

POISON = b'{"kind":"poison"}'


async def recover(bench: Bench, limit: int = 100) -> tuple[int, int | None, int, int]:
    return await bench.scripts.recover(limit, POISON)


async def die(bench: Bench, lease: Lease) -> Lease:
    """The holder dies, the run is recovered and claimed again."""
    bench.now += LEASE_MS
    await recover(bench)
    return await bench.claimed(lease.run_id)


async def test_a_run_whose_holder_died_goes_to_the_front(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    other = await bench.create()
    before, record = await bench.values(), await bench.record(lease.run_id)
    bench.now += LEASE_MS
    assert await recover(bench) == (bench.now, None, 1, 0)
    del record["k"]
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"x": "1"},
        "leases": None,
        "ready:app:q": {lease.run_id: FRONT - 1, other: 2},
    }


async def test_leases_that_hold_are_left_alone(bench: Bench) -> None:
    await bench.serve()
    await bench.running()
    before = await bench.values()
    bench.now += LEASE_MS - 1
    assert await recover(bench) == (bench.now, T0 + LEASE_MS, 0, 0)
    assert changes(before, await bench.values()) == {}


async def test_no_more_than_the_limit_are_taken_the_oldest_first(bench: Bench) -> None:
    await bench.serve()
    runs = []
    for _ in range(3):
        runs.append(await bench.running())
        bench.now += 1
    bench.now += LEASE_MS
    assert await recover(bench, 2) == (bench.now, T0 + 2 + LEASE_MS, 2, 0)
    assert (await bench.snapshot()).zset("leases").keys() == {runs[2].run_id}
    assert await recover(bench, 2) == (bench.now, None, 1, 0)


async def test_sent_again_it_takes_nothing_more(bench: Bench) -> None:
    await bench.serve()
    await bench.running()
    bench.now += LEASE_MS
    await recover(bench)
    before = await bench.values()
    assert await recover(bench) == (bench.now, None, 0, 0)
    assert changes(before, await bench.values()) == {}


async def test_a_run_that_is_to_be_canceled_ends(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.cancel(lease.run_id, "why")
    bench.now += LEASE_MS
    assert await recover(bench) == (bench.now, None, 0, 0)
    record = await bench.record(lease.run_id)
    assert (record["s"], record["f"], record["cw"]) == ("canceled", str(bench.now), "why")
    assert (await bench.values())[f"expiry:{RETENTION_MS}"] == [lease.run_id]


async def test_a_call_that_lay_in_a_stalled_server_takes_nothing(bench: Bench) -> None:
    """The holders could not renew either: they get the chance first."""
    await bench.serve(max_concurrency=1)
    await bench.running()
    await bench.create()
    await bench.claim()
    bench.now += LEASE_MS
    before = await bench.values()
    assert await bench.scripts.recover(100, POISON, bench.now - 1) == (bench.now, T0 + LEASE_MS, 0, 0)
    assert changes(before, await bench.values()) == {}
    assert await bench.scripts.recover(100, POISON, bench.now) == (bench.now, None, 1, 0)


async def test_leases_of_runs_that_are_over_or_gone_are_dropped(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease)
    before = await bench.values()
    await bench.read("ZADD", "@leases", 1, lease.run_id, 2, "f" * 32)
    assert await recover(bench) == (bench.now, None, 0, 0)
    assert changes(before, await bench.values()) == {}


# -- poison --------------------------------------------------------------------------------------------------------


async def test_the_third_death_in_a_row_decides_the_failure(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    for deaths in (1, 2):
        lease = await die(bench, lease)
        assert await bench.field(lease.run_id, "x") == str(deaths)
    before, record = await bench.values(), await bench.record(lease.run_id)
    bench.now += LEASE_MS
    assert await recover(bench) == (bench.now, None, 1, 1)
    for name in ("k", "x"):
        del record[name]
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"z": POISON.decode()},
        "leases": None,
        "ready:app:q": {lease.run_id: FRONT - 1},
        "idle:app:q": None,  # rung
    }
    [run] = (await bench.claim()).runs  # elsewhere its on_failure is called
    assert (run.record[b"z"], run.attempt) == (POISON, 1)
    await bench.settle(run.lease, "failed", POISON)
    assert await bench.field(lease.run_id, "e") == POISON.decode()


@pytest.mark.parametrize("error", [ERROR, BIG])
async def test_when_on_failure_kills_its_holders_too_the_run_ends(bench: Bench, error: bytes) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.decide_failure(lease, error)
    for _ in range(2):
        lease = await die(bench, lease)
    await bench.read("SADD", f"@waiters:{lease.run_id}", "c1")
    bench.now += LEASE_MS
    async with bench.listening("client:c1") as ear:
        assert await recover(bench) == (bench.now, None, 0, 1)
        body = "@" if error is BIG else error.decode()
        assert await ear.heard() == [("client:c1", f"{lease.run_id} failed {body}")]
    record = await bench.record(lease.run_id)
    assert (record["s"], record["e"]) == ("failed", body)
    assert not {"z", "x"} & record.keys()
    if error is BIG:
        assert (await bench.snapshot()).hash(f"big:{lease.run_id}")["e"] == BIG.decode()


async def test_a_poisoned_run_ends_after_three_more_deaths(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    for _ in range(5):
        lease = await die(bench, lease)
    assert await bench.field(lease.run_id, "s") == "running"
    bench.now += LEASE_MS
    assert await recover(bench) == (bench.now, None, 0, 1)
    assert await bench.field(lease.run_id, "e") == POISON.decode()


async def test_progress_and_hand_backs_keep_a_run_from_poison(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    for name in "abc":
        lease = await die(bench, await die(bench, lease))
        await bench.scripts.record([step(lease, name)])
    for _ in range(5):
        await bench.scripts.release([lease])
        lease = await bench.claimed(lease.run_id)
    assert not {"x", "z"} & (await bench.record(lease.run_id)).keys()


# -- the net under the lines ---------------------------------------------------------------------------------------


async def test_free_slots_that_nobody_was_told_of_are_handed_out(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    await bench.running()
    waiting = [await bench.create() for _ in range(3)]
    await bench.claim()
    await bench.remove_workflows(quiet_ms=-2 * 3_600_000)  # without metadata there is no limit
    assert await bench.ids("line:5:app:q:w") == waiting
    await recover(bench)
    assert await bench.ids("ready:app:q") == waiting
    assert not {"lined", "lined:w"} & (await bench.values()).keys()


async def test_one_call_hands_out_a_bounded_number_of_slots(bench: Bench) -> None:
    names = [f"w{n}" for n in range(4)]
    await bench.serve(*names, max_concurrency=1)
    for name in names:
        await bench.running(name)
        await bench.scripts.create([bench.order(name) for _ in range(60)], None)
    assert (await bench.claim()).runs == []
    for name in names:
        await bench.read("HDEL", f"@meta:{name}", "max_concurrency")
    await recover(bench)
    moved = len(await bench.ids("ready:app:q"))
    assert moved == 120  # two lines of 60; the second began below a hundred
    await recover(bench)
    assert len(await bench.ids("ready:app:q")) == 240
