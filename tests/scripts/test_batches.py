"""What several runs of one call write together: the same as each alone would, and no run in the way of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.engines.redis.runs import Lease
from tests.support.scripts import ERROR, QUEUE, T0, WORKER, Bench, settlement, step

QUEUES = [QUEUE]


async def some_running(bench: Bench, count: int = 3) -> list[Lease]:
    """Runs that were created and claimed by one call each."""
    await bench.serve()
    orders = [bench.order() for _ in range(count)]
    assert await bench.scripts.create(orders, None) == [("created", order.run_id) for order in orders]
    return [run.lease for run in (await bench.claim()).runs]


async def test_a_batch_writes_what_its_runs_would_alone(bench: Bench) -> None:
    leases = await some_running(bench)
    ids = {lease.run_id: T0 for lease in leases}
    values = await bench.values()
    assert values["seq"] == "3"
    assert values["idx:running:w"] == ids
    assert values["leases"].keys() == ids.keys()  # type: ignore[union-attr]
    assert not {"idx:queued:w", f"ready:{QUEUE}"} & values.keys()
    await bench.scripts.settle([settlement(lease) for lease in leases], WORKER, QUEUES, idle=False)
    values = await bench.values()
    assert values["idx:succeeded:w"] == ids
    assert not {"idx:running:w", "leases"} & values.keys()
    assert values["expiry:1000000"] == [*ids]


async def test_runs_are_ready_in_the_order_of_the_batch_and_after_all_before(bench: Bench) -> None:
    await bench.serve()
    first = await bench.create()
    orders = [replace(bench.order(), priority=priority) for priority in (None, None, 1, None)]
    await bench.scripts.create(orders, None)
    last = await bench.create()
    one, two, urgent, three = (order.run_id for order in orders)
    assert await bench.ids(f"ready:{QUEUE}") == [urgent, first, one, two, three, last]


async def test_the_same_run_twice_in_a_batch_is_one(bench: Bench) -> None:
    await bench.serve()
    order = bench.order()
    assert await bench.scripts.create([order, order], None) == [("created", order.run_id)] * 2
    assert (await bench.values())["seq"] == "1"


async def test_a_run_that_falls_asleep_and_is_woken_in_one_batch_is_ready(bench: Bench) -> None:
    asleep, other, third = await some_running(bench)
    await bench.scripts.record([step(asleep, payload=b"S " + b"0" * 32 + b" 1 own 7", status="R")])
    await bench.read("HSET", f"@run:{asleep.run_id}", "s:one", f"1 Rc 1 0 - S {'0' * 32} 1 own 7")
    items = [settlement(other), replace(settlement(asleep, "suspended"), waits=("s:one",)), settlement(third)]
    await bench.scripts.settle(items, WORKER, QUEUES, idle=False)
    assert await bench.field(asleep.run_id, "s") == "queued"
    assert await bench.ids("idx:queued:w") == [asleep.run_id]
    assert await bench.ids("idx:scheduled:w") == []


async def test_whoever_waits_for_one_run_of_a_batch_is_told_of_that(bench: Bench) -> None:
    leases = await some_running(bench)
    waited_for = leases[1].run_id
    await bench.read("SADD", f"@waiters:{waited_for}", "c1")
    await bench.read("EXPIRE", f"@waiters:{waited_for}", 300)
    items = [settlement(lease, payload=b"%d" % number) for number, lease in enumerate(leases)]
    async with bench.listening("client:c1") as ear:
        await bench.scripts.settle(items, WORKER, QUEUES, idle=False)
        assert await ear.heard() == [("client:c1", f"{waited_for} succeeded 1")]
    assert f"waiters:{waited_for}" not in await bench.values()


async def test_a_run_with_a_broken_record_settles_no_worse_for_the_others(bench: Bench) -> None:
    first, broken, last = await some_running(bench)
    await bench.read("SET", f"@run:{broken.run_id}", "not a hash")
    items = [settlement(first), settlement(broken), settlement(last, "failed", ERROR)]
    _, reasons = await bench.scripts.settle(items, WORKER, QUEUES, idle=False)
    assert reasons.keys() == {1}
    assert reasons[1].startswith("broken: WRONGTYPE")
    assert await bench.ids("idx:succeeded:w") == [first.run_id]
    assert await bench.ids("idx:failed:w") == [last.run_id]
    assert await bench.ids("leases") == [broken.run_id]
    await forget(bench, broken.run_id, "running")


async def test_a_step_of_a_broken_record_is_refused_alone(bench: Bench) -> None:
    first, broken, last = await some_running(bench)
    await bench.read("SET", f"@run:{broken.run_id}", "not a hash")
    reasons = await bench.scripts.record([step(first), step(broken), step(last)])
    assert reasons.keys() == {1}
    assert reasons[1].startswith("broken: WRONGTYPE")
    assert [await bench.field(lease.run_id, "s:one") for lease in (first, last)] == ["1 Sr 1 0 5 1"] * 2
    await forget(bench, broken.run_id, "running")


async def test_one_entry_that_an_index_refuses_costs_no_other_its_own(bench: Bench) -> None:
    first, broken, last = await some_running(bench)
    await bench.read("HSET", f"@run:{broken.run_id}", "c", "abc")
    items = [settlement(lease) for lease in (first, broken, last)]
    with pytest.raises(Exception, match="not a valid float"):
        await bench.scripts.settle(items, WORKER, QUEUES, idle=False)
    assert await bench.ids("idx:succeeded:w") == [first.run_id, last.run_id]
    assert await bench.ids("idx:running:w") == []
    assert (await bench.values())["expiry:1000000"] == [first.run_id, broken.run_id, last.run_id]
    await bench.read("HSET", f"@run:{broken.run_id}", "c", T0)
    await bench.read("ZADD", "@idx:succeeded:w", T0, broken.run_id)


@pytest.mark.parametrize(("field", "value"), [("x", "abc"), ("to", "abc"), ("c", "abc")])
async def test_a_run_that_no_claim_can_take_ends_and_the_others_start(bench: Bench, field: str, value: str) -> None:
    await bench.serve()
    first, broken, last = [await bench.create() for _ in range(3)]
    await bench.read("HSET", f"@run:{broken}", field, value)
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [first, last]
    record = await bench.record(broken)
    assert record["s"] == "failed"
    assert "is broken" in record["e"]


async def forget(bench: Bench, run: str, status: str) -> None:
    """Take a run that is no record any more out of everything, for the invariants."""
    await bench.delete(f"run:{run}")
    await bench.read("ZREM", f"@idx:{status}:w", run)
    await bench.read("ZREM", "@leases", run)
