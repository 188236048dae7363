"""release_runs: hands interrupted runs back at once."""

from __future__ import annotations

from dataclasses import replace

from tests.support.scripts import FRONT, RETENTION_MS, T0, Bench, changes, step


async def test_a_run_goes_to_the_front_and_keeps_its_attempt(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.record([step(lease)])
    others = [await bench.create() for _ in range(2)]
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await bench.scripts.release([lease]) == 1
    del record["k"]
    changed = changes(before, await bench.values())
    ready = {others[0]: 2, others[1]: 3, lease.run_id: FRONT - 1}
    assert changed == {f"run:{lease.run_id}": record, "leases": None, "ready:app:q": ready}
    assert (await bench.ids("ready:app:q"))[0] == lease.run_id
    [run, *_] = (await bench.claim()).runs
    assert (run.lease.run_id, run.attempt, run.lease.fence) == (lease.run_id, 1, 2)
    assert run.record[b"s:one"] == b"1 Sr 1 0 5 1"


async def test_the_last_one_handed_back_stands_first(bench: Bench) -> None:
    await bench.serve()
    leases = [await bench.running() for _ in range(3)]
    assert await bench.scripts.release(leases) == 3
    assert await bench.ids("ready:app:q") == [lease.run_id for lease in reversed(leases)]


async def test_a_run_that_is_to_be_canceled_ends(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.cancel(lease.run_id, "enough")
    bench.now += 4
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await bench.scripts.release([lease]) == 1
    assert changes(before, await bench.values()) == {
        f"run:{lease.run_id}": record | {"s": "canceled", "f": str(T0 + 4)},
        "idx:running:w": None,
        "idx:canceled:w": {lease.run_id: T0},
        "leases": None,
        f"expiry:{RETENTION_MS}": [lease.run_id],
        "retentions": {str(RETENTION_MS)},
    }


async def test_its_slot_stays_its_own(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    lease = await bench.running()
    waiting = await bench.create()
    await bench.claim()
    await bench.scripts.release([lease])
    assert await bench.ids("ready:app:q") == [lease.run_id]
    assert await bench.ids("line:5:app:q:w") == [waiting]


async def test_the_deaths_of_its_holders_are_neither_counted_nor_forgotten(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    bench.now += 10_000
    await bench.scripts.recover(10, b"{}")
    lease = await bench.claimed(lease.run_id)
    await bench.scripts.release([lease])
    assert await bench.field(lease.run_id, "x") == "1"


async def test_an_idle_worker_is_rung(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    async with bench.listening("worker:w1") as ear:
        await bench.scripts.release([lease])
        assert await ear.heard() == [("worker:w1", "bell")]


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    leases = [await bench.running() for _ in range(2)]
    await bench.scripts.cancel(leases[1].run_id, "")
    assert await bench.scripts.release(leases) == 2
    before = await bench.values()
    assert await bench.scripts.release(leases) == 0
    assert changes(before, await bench.values()) == {}


async def test_what_is_not_held_any_more_is_left_alone(bench: Bench) -> None:
    await bench.serve()
    good = await bench.running()
    leases = await bench.refused_leases()
    before = await bench.values()
    assert await bench.scripts.release(list(leases.values())) == 0
    assert changes(before, await bench.values()) == {}
    assert await bench.scripts.release([replace(good, fence=7), good, good]) == 1
