"""promote_runs: moves scheduled runs whose time has come into their queues."""

from __future__ import annotations

from redflow.engines.redis.replies import as_int
from tests.support.scripts import QUEUE, T0, Bench, changes


async def test_a_run_whose_time_has_come_joins_the_back_of_its_queue(bench: Bench) -> None:
    await bench.register_workflow()
    due = await bench.create(run_at_ms=T0 + 10)
    ready = await bench.create()
    before, record = await bench.values(), await bench.record(due)
    bench.now += 10
    assert await bench.scripts.promote(100) == (bench.now, None, 1)
    del record["d"]
    assert changes(before, await bench.values()) == {
        f"run:{due}": record | {"s": "queued"},
        "idx:scheduled:w": None,
        "idx:queued:w": {due: T0, ready: T0},
        "due": None,
        "ready:app:q": {ready: 1, due: 2},
        "seq": "2",
    }


async def test_the_others_wait_and_the_next_time_is_told(bench: Bench) -> None:
    await bench.register_workflow()
    await bench.create(run_at_ms=T0 + 11)
    before = await bench.values()
    bench.now += 10
    assert await bench.scripts.promote(100) == (bench.now, T0 + 11, 0)
    assert changes(before, await bench.values()) == {}


async def test_no_more_than_the_limit_the_earliest_first(bench: Bench) -> None:
    await bench.register_workflow()
    created = [await bench.create(run_at_ms=T0 + delay) for delay in (30, 10, 20)]
    bench.now += 50
    assert await bench.scripts.promote(2) == (bench.now, T0 + 30, 2)
    assert await bench.ids("ready:app:q") == [created[1], created[2]]
    assert await bench.scripts.promote(2) == (bench.now, None, 1)
    assert await bench.ids("ready:app:q") == [created[1], created[2], created[0]]


async def test_sent_again_it_promotes_nothing_more(bench: Bench) -> None:
    await bench.register_workflow()
    await bench.create(run_at_ms=T0 + 10)
    bench.now += 10
    await bench.scripts.promote(100)
    before = await bench.values()
    assert await bench.scripts.promote(100) == (bench.now, None, 0)
    assert changes(before, await bench.values()) == {}


async def test_a_run_of_an_unknown_workflow_is_parked(bench: Bench) -> None:
    run = await bench.create("new", run_at_ms=T0 + 10, queue="q")
    bench.now += 10
    assert await bench.scripts.promote(100) == (bench.now, None, 1)
    values, record = await bench.values(), await bench.record(run)
    assert values["parked:new"] == {run: 1}
    assert (record["s"], record["q"], record["u"]) == ("queued", "q", "1")


async def test_a_run_whose_workflow_was_registered_meanwhile_enters_its_queue(bench: Bench) -> None:
    run = await bench.create("new", run_at_ms=T0 + 10, queue="q")
    await bench.register_workflow("new")
    assert await bench.field(run, "u") == "1"
    bench.now += 10
    await bench.scripts.promote(100)
    record = await bench.record(run)
    assert (record["q"], "u" in record) == (QUEUE, False)
    assert await bench.ids("ready:app:q") == [run]


async def test_entries_of_runs_that_are_not_scheduled_are_dropped(bench: Bench) -> None:
    await bench.register_workflow()
    run = await bench.create()
    before = await bench.values()
    await bench.read("ZADD", "@due", 1, run, 2, "f" * 32)
    assert await bench.scripts.promote(100) == (T0, None, 0)
    assert changes(before, await bench.values()) == {}


async def test_an_idle_worker_is_rung(bench: Bench) -> None:
    await bench.serve()
    await bench.create(run_at_ms=T0 + 10)
    await bench.claim()
    bench.now += 10
    async with bench.listening("worker:w1") as ear:
        await bench.scripts.promote(100)
        assert await ear.heard() == [("worker:w1", "bell")]


async def test_the_servers_clock_is_the_default(bench: Bench) -> None:
    bench.scripts.now = ""
    seconds = as_int(await bench.read("EVAL", "return redis.call('TIME')[1]", 0))
    now, _, _ = await bench.scripts.promote(1)
    assert seconds * 1000 <= now <= seconds * 1000 + 60_000
