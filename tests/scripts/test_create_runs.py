"""create_runs: accepts runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.domain.payload import unpack
from redflow.engines.redis.replies import as_int
from tests.support.scripts import BIG, ERROR, QUEUE, RETENTION_MS, T0, Bench, changes, run_id

RECORD = {"w": "w", "q": QUEUE, "c": str(T0), "m": "3", "i": "{}", "s": "queued"}


async def test_a_run_that_can_start_stands_in_its_queue(bench: Bench) -> None:
    await bench.register_workflow()
    before = await bench.values()
    order = bench.order()
    assert await bench.scripts.create([order], None) == [("created", order.run_id)]
    assert changes(before, await bench.values()) == {
        f"run:{order.run_id}": RECORD,
        "idx:queued:w": {order.run_id: T0},
        "ready:app:q": {order.run_id: 1},
        "workflows": {"w"},
        "seq": "1",
    }


async def test_queues_keep_the_order_of_creation(bench: Bench) -> None:
    await bench.register_workflow()
    orders = [bench.order() for _ in range(3)]
    await bench.scripts.create(orders[:2], None)
    await bench.scripts.create(orders[2:], None)
    assert await bench.ids("ready:app:q") == [order.run_id for order in orders]


async def test_a_run_for_later_waits_for_its_time(bench: Bench) -> None:
    await bench.register_workflow()
    before = await bench.values()
    order = replace(bench.order(), run_at_ms=T0 + 1)
    await bench.scripts.create([order], None)
    assert changes(before, await bench.values()) == {
        f"run:{order.run_id}": RECORD | {"s": "scheduled", "d": str(T0 + 1)},
        "idx:scheduled:w": {order.run_id: T0},
        "due": {order.run_id: T0 + 1},
        "workflows": {"w"},
    }


@pytest.mark.parametrize("run_at", [T0, T0 - 1, 0])
async def test_a_time_that_is_over_means_now(bench: Bench, run_at: int) -> None:
    await bench.register_workflow()
    order = replace(bench.order(), run_at_ms=run_at)
    await bench.scripts.create([order], None)
    assert await bench.record(order.run_id) == RECORD


async def test_only_the_earliest_time_is_told_to_the_promoters(bench: Bench) -> None:
    await bench.register_workflow()
    async with bench.listening("timers") as ear:
        for delay in (100, 200, 50):
            await bench.create(run_at_ms=T0 + delay)
        assert await ear.heard() == [("timers", str(T0 + 100)), ("timers", str(T0 + 50))]


async def test_a_run_of_a_workflow_that_nobody_registered_is_parked(bench: Bench) -> None:
    orders = [replace(bench.order("new"), queue="q"), replace(bench.order("new"), queue="q", run_at_ms=T0 + 5)]
    assert [code for code, _ in await bench.scripts.create(orders, "app")] == ["created", "created"]
    first, second = (order.run_id for order in orders)
    record = RECORD | {"w": "new", "q": "q", "u": "1"}  # without the client's app: its own is not known yet
    assert await bench.values() == {
        f"run:{first}": record,
        f"run:{second}": record | {"s": "scheduled", "d": str(T0 + 5)},
        "idx:queued:new": {first: T0},
        "idx:scheduled:new": {second: T0},
        "parked:new": {first: 1},
        "due": {second: T0 + 5},
        "workflows": {"new"},
        "seq": "1",
    }


async def test_an_unknown_workflow_without_a_queue_is_refused_and_leaves_nothing(bench: Bench) -> None:
    order = replace(bench.order("new", input_json=BIG), idempotency_key="k")
    assert await bench.scripts.create([order], "app") == [("unknown_workflow", order.run_id)]
    assert await bench.values() == {}


@pytest.mark.parametrize(
    ("app", "given", "stored"),
    [
        ("app", None, "app:q"),
        ("app", "other", "app:other"),
        ("app", "app:other", "app:other"),
        ("app", "  ", "app:default"),
        ("app", " x ", "app:x"),
        ("app", "app2:x", "app:app2:x"),
        ("unknown", "other", "other"),
        ("", "", "default"),
    ],
)
async def test_the_queue_is_scoped_by_the_app_of_the_workflow(
    bench: Bench, app: str, given: str | None, stored: str
) -> None:
    await bench.register_workflow(app=app)
    order = replace(bench.order(), queue=given)
    await bench.scripts.create([order], "another app")
    assert await bench.field(order.run_id, "q") == stored
    assert await bench.ids(f"ready:{stored}") == [order.run_id]


@pytest.mark.parametrize(("given", "stored"), [(None, "7"), (1, "1")])
async def test_attempts_come_from_the_caller_or_the_metadata(bench: Bench, given: int | None, stored: str) -> None:
    await bench.register_workflow(max_attempts=7)
    order = replace(bench.order(), max_attempts=given)
    await bench.scripts.create([order], None)
    assert await bench.field(order.run_id, "m") == stored


async def test_parent_and_large_input_are_kept(bench: Bench) -> None:
    await bench.register_workflow()
    order = replace(bench.order(input_json=BIG), parent_run_id="run_somebody")
    await bench.scripts.create([order], None)
    record = await bench.record(order.run_id)
    assert (record["p"], record["i"]) == ("run_somebody", "@")
    stored = (await bench.snapshot()).hash(f"big:{order.run_id}")["i"].encode("utf-8", "surrogateescape")
    assert unpack(stored) == BIG


# -- idempotency ---------------------------------------------------------------------------------------------------


async def test_a_key_gives_the_same_run_and_its_time_begins_anew(bench: Bench) -> None:
    await bench.register_workflow()
    first = replace(bench.order(), idempotency_key="k", idempotency_ttl_s=50)
    again = replace(bench.order(input_json=b"2"), idempotency_key="k", idempotency_ttl_s=5000)
    await bench.scripts.create([first], None)
    before = await bench.values()
    assert before["idem:1:w:k"] == first.run_id
    assert 49_000 < as_int(await bench.read("PTTL", "@idem:1:w:k")) <= 50_000
    assert await bench.scripts.create([again], None) == [("found", first.run_id)]
    assert changes(before, await bench.values()) == {}
    assert 4_999_000 < as_int(await bench.read("PTTL", "@idem:1:w:k")) <= 5_000_000


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled", "gone"])
async def test_a_new_run_takes_over_the_key_of_one_that_failed_or_is_gone(bench: Bench, end: str) -> None:
    await bench.serve()
    first = replace(bench.order(), idempotency_key="k")
    second = replace(bench.order(), idempotency_key="k")
    await bench.scripts.create([first], None)
    await bench.settle(await bench.claimed(first.run_id), "succeeded" if end == "gone" else end, ERROR)
    if end == "gone":
        bench.now += RETENTION_MS
        assert await bench.scripts.purge(None, 10) == 1
    expected = ("found", first.run_id) if end == "succeeded" else ("created", second.run_id)
    assert await bench.scripts.create([second], None) == [expected]
    assert (await bench.values())["idem:1:w:k"] == expected[1]


async def test_keys_of_different_workflows_never_meet(bench: Bench) -> None:
    orders = [
        replace(bench.order(name), queue="q", idempotency_key=key)
        for name, key in (("a", "b:c"), ("a:b", "c"), ("a", "c"), ("ä", "c"), ("a", ""))
    ]
    assert [code for code, _ in await bench.scripts.create(orders, None)] == ["created"] * 5
    assert sorted((await bench.snapshot()).names("idem:")) == ["1:a:", "1:a:b:c", "1:a:c", "2:ä:c", "3:a:b:c"]


# -- sent again, and together --------------------------------------------------------------------------------------


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    orders = [
        replace(bench.order(), idempotency_key="k"),
        replace(bench.order("new"), queue="q"),
        replace(bench.order(), run_at_ms=T0 + 5),
    ]
    reply = await bench.scripts.create(orders, None)
    before = await bench.values()
    bench.now += 10
    assert await bench.scripts.create(orders, None) == reply
    assert changes(before, await bench.values()) == {}
    # It stays the answer when the run has gone on, and even when it has failed.
    await bench.settle(await bench.claimed(orders[0].run_id), "failed", ERROR)
    before = await bench.values()
    assert await bench.scripts.create(orders, None) == reply
    assert changes(before, await bench.values()) == {}


async def test_each_item_of_a_batch_has_its_own_answer(bench: Bench) -> None:
    await bench.register_workflow()
    orders = [
        replace(bench.order(), idempotency_key="k"),
        replace(bench.order(), idempotency_key="k"),
        bench.order("new"),
        replace(bench.order("new"), queue="q"),
        bench.order(number=1),
    ]
    assert await bench.scripts.create(orders, None) == [
        ("created", run_id(1)),
        ("found", run_id(1)),
        ("unknown_workflow", run_id(3)),
        ("created", run_id(4)),
        ("created", run_id(1)),
    ]
    assert sorted((await bench.snapshot()).names("run:")) == [run_id(1), run_id(4)]


async def test_an_idle_worker_is_rung(bench: Bench) -> None:
    await bench.serve()
    assert (await bench.claim()).runs == []
    assert (await bench.values())["idle:app:q"] == {"w1"}
    async with bench.listening("worker:w1") as ear:
        await bench.create()
        await bench.create()
        assert await ear.heard() == [("worker:w1", "bell")]  # once: it is idle no more
    assert "idle:app:q" not in await bench.values()


async def test_the_servers_clock_is_the_default(bench: Bench) -> None:
    await bench.register_workflow()
    bench.scripts.now = ""
    order = bench.order()
    before = as_int(await bench.read("EVAL", "return redis.call('TIME')[1]", 0)) * 1000
    await bench.scripts.create([order], None)
    assert before <= int(await bench.field(order.run_id, "c") or 0) <= before + 60_000
