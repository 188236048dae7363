"""start_children: creates runs for steps of running parents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.domain.run import RunOrder, public_run_id
from redflow.engines.redis.runs import ChildStart, Lease
from tests.support.scripts import BIG, ERROR, LEASE_MS, QUEUE, T0, Bench, changes, run_id

OPEN = "1 Rc 1 0 - "
ENDED = "1 Sc 1 0 0 "


def awaited(lease: Lease, order: RunOrder, field: str = "s:one", *, generation: int = 1) -> ChildStart:
    """A child that the step waits for."""
    return ChildStart(lease, field, OPEN, generation, True, order)


def started(lease: Lease, order: RunOrder, field: str = "s:one") -> ChildStart:
    """A child that the step only starts."""
    return ChildStart(lease, field, ENDED, 1, False, order)


def child(bench: Bench, workflow: str = "w") -> RunOrder:
    """An order for a child with an id that is far from those of the bench."""
    return bench.order(workflow, number=900)


async def test_an_awaited_child_leaves_the_step_open(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    order = child(bench)
    bench.now += 7
    before, record = await bench.values(), await bench.record(lease.run_id)
    assert await bench.scripts.start_children([awaited(lease, order)], None) == [("created", order.run_id)]
    changed = changes(before, await bench.values())
    made = changed.pop(f"run:{order.run_id}")
    fields = {"w": "w", "q": QUEUE, "c": str(T0 + 7), "m": "3", "i": "{}", "p": public_run_id(lease.run_id), "dp": "1"}
    assert made == fields | {"s": "queued"}
    assert changed == {
        f"run:{lease.run_id}": record | {"s:one": f"{OPEN}- {order.run_id} 1 own "},
        f"awaiters:{order.run_id}": {f"{lease.run_id} s:one"},
        f"kids:{lease.run_id}": {order.run_id},
        "idx:queued:w": {order.run_id: T0 + 7},
        f"ready:{QUEUE}": {order.run_id: 2},
        f"idle:{QUEUE}": None,
        "seq": "2",
    }


async def test_one_that_is_only_started_ends_the_step(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    order = child(bench)
    assert await bench.scripts.start_children([started(lease, order)], None) == [("created", order.run_id)]
    assert await bench.field(lease.run_id, "s:one") == f'{ENDED}"{public_run_id(order.run_id)}"'
    values = await bench.values()
    assert values[f"kids:{lease.run_id}"] == {order.run_id}
    assert f"awaiters:{order.run_id}" not in values


async def test_the_order_says_queue_attempts_and_time(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    order = replace(child(bench), queue="slow", max_attempts=9, run_at_ms=T0 + 50)
    await bench.scripts.start_children([awaited(lease, order)], None)
    record = await bench.record(order.run_id)
    assert (record["q"], record["m"], record["d"], record["s"]) == ("app:slow", "9", str(T0 + 50), "scheduled")


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
async def test_the_end_of_the_child_is_put_into_the_step(bench: Bench, end: str) -> None:
    await bench.serve()
    lease = await bench.running()
    order = child(bench)
    await bench.scripts.start_children([awaited(lease, order)], None)
    held = await bench.claimed(order.run_id)
    async with bench.listening("worker:w1") as ear:
        await bench.settle(held, end, ERROR)
        assert await ear.heard() == [("worker:w1", f"wake {lease.run_id}")]
    content = "" if end == "canceled" else ERROR.decode()
    packed = f"{OPEN}{end[0].upper()} {order.run_id} 1 own {content}"
    assert await bench.field(lease.run_id, "s:one") == packed
    assert f"awaiters:{order.run_id}" not in await bench.values()


async def test_a_parent_that_sleeps_is_woken_and_large_outputs_are_stored_apart(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    order = child(bench)
    await bench.scripts.start_children([awaited(lease, order)], None)
    await bench.settle(lease, "suspended")
    await bench.settle(await bench.claimed(order.run_id), payload=BIG)
    record = await bench.record(lease.run_id)
    assert (record["s"], record["s:one"]) == ("queued", f"{OPEN}S {order.run_id} 1 own @")
    assert await bench.ids(f"ready:{QUEUE}") == [lease.run_id]
    assert (await bench.values())[f"big:{lease.run_id}"] == {"s:one": BIG.decode()}


async def test_sent_again_it_finds_its_child(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    orders = [child(bench), bench.order(number=901)]
    starts = [awaited(lease, orders[0]), started(lease, orders[1], "s:two")]
    first = await bench.scripts.start_children(starts, None)
    before = await bench.values()
    bench.now += 9
    assert await bench.scripts.start_children(starts, None) == first
    assert changes(before, await bench.values()) == {}
    await bench.settle(await bench.claimed(orders[0].run_id))
    before = await bench.values()
    assert await bench.scripts.start_children(starts, None) == first
    assert changes(before, await bench.values()) == {}


@pytest.mark.parametrize("payload", [b"1", BIG])
async def test_a_run_that_has_the_idempotency_key_is_found(bench: Bench, payload: bytes) -> None:
    await bench.serve()
    lease = await bench.running()
    other = replace(bench.order(), idempotency_key="once", idempotency_ttl_s=60)
    await bench.scripts.create([other], None)
    order = replace(child(bench), idempotency_key="once", idempotency_ttl_s=600)
    starts = [awaited(lease, order, generation=2), started(lease, bench.order(number=901), "s:new")]
    starts.append(started(lease, order, "s:two"))
    answers = await bench.scripts.start_children(starts, None)
    assert [answers[0], answers[2]] == [("found", other.run_id)] * 2
    record = await bench.record(lease.run_id)
    assert record["s:one"] == f"{OPEN}- {other.run_id} 2 foreign "
    assert record["s:two"] == f'{ENDED}"{public_run_id(other.run_id)}"'
    snapshot = await bench.snapshot()
    assert snapshot.members(f"kids:{lease.run_id}") == [run_id(901)]
    assert (snapshot.entries["idem:1:w:once"].ttl_ms or 0) > 60_000
    await bench.settle(await bench.claimed(other.run_id), payload=payload)
    await bench.scripts.start_children([awaited(lease, order, "s:late")], None)  # it has ended already
    content = "@" if payload == BIG else "1"
    for field, generation in (("s:one", 2), ("s:late", 1)):
        packed = f"{OPEN}S {other.run_id} {generation} foreign {content}"
        assert await bench.field(lease.run_id, field) == packed


async def test_an_unknown_workflow_starts_nothing_unless_the_order_names_a_queue(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    order = child(bench, "new")
    before = await bench.values()
    answers = await bench.scripts.start_children([awaited(lease, order)], "app")
    assert answers == [("unknown_workflow", order.run_id)]
    assert changes(before, await bench.values()) == {}
    answers = await bench.scripts.start_children([awaited(lease, replace(order, queue="q"))], "app")
    assert answers == [("created", order.run_id)]
    assert await bench.ids("parked:new") == [order.run_id]


async def test_a_parent_that_is_to_be_canceled_starts_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.cancel(lease.run_id, "")
    before = await bench.values()
    assert await bench.scripts.start_children([awaited(lease, child(bench))], None) == [("cancel", "")]
    assert changes(before, await bench.values()) == {}


async def test_each_item_stands_for_itself(bench: Bench) -> None:
    await bench.serve()
    leases = await bench.refused_leases()
    good = await bench.running()
    before = await bench.values()
    bad = [awaited(lease, bench.order(number=800 + i)) for i, lease in enumerate(leases.values())]
    answers = await bench.scripts.start_children(bad, None)
    assert answers == [(reason.split()[0], "") for reason in leases]
    assert changes(before, await bench.values()) == {}
    answers = await bench.scripts.start_children([bad[0], awaited(good, child(bench)), bad[1]], None)
    assert [code for code, _ in answers] == ["gone", "created", "settled"]


async def test_the_deaths_of_holders_are_forgotten(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    lease = await bench.claimed(lease.run_id)
    assert await bench.field(lease.run_id, "x") == "1"
    await bench.scripts.start_children([awaited(lease, child(bench))], None)
    assert await bench.field(lease.run_id, "x") is None


@pytest.mark.parametrize(("depth", "code"), [("98", "created"), ("99", "created"), ("100", "too_deep")])
async def test_children_are_nested_a_hundred_deep_at_most(bench: Bench, depth: str, code: str) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.read("HSET", f"@run:{lease.run_id}", "dp", depth)
    before = await bench.values()
    order = child(bench)
    [(answer, _)] = await bench.scripts.start_children([awaited(lease, order)], None)
    assert answer == code
    if code == "created":
        assert await bench.field(order.run_id, "dp") == str(int(depth) + 1)
    else:
        assert changes(before, await bench.values()) == {}
