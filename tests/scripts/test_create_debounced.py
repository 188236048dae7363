"""create_debounced: one run for calls that follow each other closely."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redflow.domain.run import RunOrder
from redflow.engines.redis.admission import admit, create_debounced, debounce
from redflow.errors import QueueFullError
from redflow.execution.admission import AdmissionRequest
from redflow.types import ResolvedDebounce
from tests.support.scripts import QUEUE, RETENTION_MS, T0, WORKER, Bench, changes, settlement
from tests.support.servers import ServerOptions, ServerProcess

WANTED = ResolvedDebounce("k", 100)
PLACE = "1:w:5:app:q:k"
StartServer = Callable[[ServerOptions], ServerProcess]


async def call(bench: Bench, order: RunOrder, wanted: ResolvedDebounce = WANTED) -> tuple[str, str]:
    code, run_id, confirmed = await create_debounced(bench.scripts, order, None, wanted)
    assert confirmed, "nobody asked for more"
    return code, run_id


async def test_the_first_call_waits_for_others(bench: Bench) -> None:
    await bench.register_workflow()
    before, order = await bench.values(), bench.order()
    assert await call(bench, order, ResolvedDebounce("k", 100, 250)) == ("created", order.run_id)
    record = await bench.record(order.run_id)
    assert (record["s"], record["d"], record["dk"], record["dd"]) == (
        "scheduled",
        str(T0 + 100),
        PLACE,
        str(T0 + 250),
    )
    assert changes(before, await bench.values()) == {
        f"run:{order.run_id}": record,
        "idx:scheduled:w": {order.run_id: T0},
        "due": {order.run_id: T0 + 100},
        f"debounce:{PLACE}": order.run_id,
        "workflows": {"w"},
    }


async def test_sent_again_it_answers_the_same(bench: Bench) -> None:
    await bench.register_workflow()
    first, second = bench.order(), bench.order(input_json=b"2")
    assert [await call(bench, order) for order in (first, first)] == [("created", first.run_id)] * 2
    assert [await call(bench, order) for order in (second, second)] == [("debounced", first.run_id)] * 2
    assert await bench.read("EXISTS", f"@run:{second.run_id}") == 0


async def test_sent_again_after_the_run_has_started_it_makes_no_other(bench: Bench) -> None:
    """The reply to the second call was lost, and by the time it is sent again its input is being worked on."""
    await bench.serve()
    first, second = bench.order(), bench.order(input_json=b"2")
    await call(bench, first)
    await call(bench, second)
    bench.now += 100
    await bench.scripts.promote(10)
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [first.run_id]
    assert await call(bench, second) == ("debounced", first.run_id)
    assert await bench.read("EXISTS", f"@run:{second.run_id}") == 0


async def test_sent_again_after_a_newer_call_it_does_not_bring_its_input_back(bench: Bench) -> None:
    await bench.serve()
    first, second, third = bench.order(), bench.order(input_json=b"2"), bench.order(input_json=b"3")
    for order in (first, second, third, second):
        await call(bench, order)
    assert (await bench.record(first.run_id))["i"] == "3"


@pytest.mark.parametrize("timeout", [None, 10_000])
async def test_a_later_call_replaces_input_and_time(bench: Bench, timeout: int | None) -> None:
    await bench.register_workflow()
    wanted, order = ResolvedDebounce("k", 100, timeout), bench.order()
    await call(bench, order, wanted)
    bench.now += 90
    await call(bench, bench.order(input_json=b"2"), wanted)
    record = await bench.record(order.run_id)
    assert (record["i"], record["d"], record["c"]) == ("2", str(T0 + 190), str(T0))
    assert (await bench.values())["due"] == {order.run_id: T0 + 190}


async def test_a_queued_run_that_did_not_start_waits_again(bench: Bench) -> None:
    await bench.serve()
    order = bench.order()
    await call(bench, order)
    bench.now += 100
    await bench.scripts.promote(10)
    assert await bench.ids("ready:app:q") == [order.run_id]
    assert await call(bench, bench.order(input_json=b"2")) == ("debounced", order.run_id)
    assert await bench.ids("ready:app:q") == []
    assert (await bench.values())["due"] == {order.run_id: T0 + 200}


async def test_past_its_deadline_it_is_queued_and_keeps_its_place(bench: Bench) -> None:
    await bench.register_workflow()
    wanted, order = ResolvedDebounce("k", 100, 100), bench.order()
    await call(bench, order, wanted)
    bench.now += 150
    await call(bench, bench.order(input_json=b"2"), wanted)
    other = await bench.create()
    await call(bench, bench.order(input_json=b"3"), wanted)
    assert await bench.ids("ready:app:q") == [order.run_id, other]
    assert await bench.field(order.run_id, "i") == "3"


@pytest.mark.parametrize("left", ["claimed", "canceled", "purged"])
async def test_a_run_that_started_or_ended_is_not_joined(bench: Bench, left: str) -> None:
    await bench.serve()
    order, second = bench.order(), bench.order(input_json=b"2")
    await call(bench, order)
    if left == "claimed":
        bench.now += 100
        await bench.scripts.promote(10)
        lease = await bench.claimed(order.run_id)
        assert await debounce(bench.scripts, lease, WANTED) == "go_on"
        assert (await admit(bench.scripts, lease, AdmissionRequest(first=True))).code == "admitted"
    else:
        await bench.scripts.cancel(order.run_id, "")
    assert not (await bench.snapshot()).names("debounce:")
    if left == "purged":
        bench.now += RETENTION_MS
        assert await bench.scripts.purge(None, 10) == 1
    assert await call(bench, second) == ("created", second.run_id)


async def test_a_run_that_is_held_is_not_joined_and_leaves_the_next_alone(bench: Bench) -> None:
    await bench.serve()
    order, second = bench.order(), bench.order(input_json=b"2")
    await call(bench, order)
    bench.now += 100
    await bench.scripts.promote(10)
    lease = await bench.claimed(order.run_id)
    assert await call(bench, second) == ("created", second.run_id)
    assert (await admit(bench.scripts, lease, AdmissionRequest(first=True))).code == "admitted"
    third = bench.order(input_json=b"3")
    assert await call(bench, third) == ("debounced", second.run_id)


async def test_in_line_for_a_slot_it_keeps_its_place(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    await bench.running()
    order = bench.order()
    await call(bench, order, ResolvedDebounce("k", 0))
    await bench.claim()
    line = await bench.ids("line:5:app:q:w")
    assert line == [order.run_id]
    await call(bench, bench.order(input_json=b"2"), ResolvedDebounce("k", 0))
    assert await bench.ids("line:5:app:q:w") == line


@pytest.mark.parametrize("granted", [False, True])
async def test_a_new_input_takes_it_out_of_the_mutex_line(bench: Bench, granted: bool) -> None:
    await bench.serve()
    holder, request = await bench.running(), AdmissionRequest(first=True, mutex="m")
    await admit(bench.scripts, holder, request)
    order = bench.order()
    await call(bench, order, ResolvedDebounce("k", 0))
    lease = await bench.claimed(order.run_id)
    assert (await admit(bench.scripts, lease, request)).code == "mutex_wait"
    if granted:
        await bench.settle(holder)
    assert await call(bench, bench.order(input_json=b"2"), ResolvedDebounce("k", 0)) == ("debounced", order.run_id)
    assert "mk" not in await bench.record(order.run_id)
    assert await bench.ids("ready:app:q") == [order.run_id]
    assert await bench.ids("mutexline:m") == []
    if granted:
        assert await bench.read("EXISTS", "@mutex:m") == 0


async def test_a_full_server_refuses_both_whole(private_server: StartServer, prefix: str) -> None:
    bench = Bench(private_server(ServerOptions()).url, prefix)
    await bench.register_workflow()
    await call(bench, bench.order())
    await bench.read("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await bench.read("CONFIG", "SET", "maxmemory", 1)
    before = await bench.values()
    for wanted in (WANTED, ResolvedDebounce("new", 100)):
        with pytest.raises(QueueFullError):
            await call(bench, bench.order(input_json=b"2"), wanted)
    assert await bench.values() == before
    await bench.read("CONFIG", "SET", "maxmemory", 0)
    await bench.close()


async def test_a_run_that_is_canceled_on_its_way_to_its_gates_is_forgotten_by_its_debounce(bench: Bench) -> None:
    await bench.serve()
    order = bench.order()
    await call(bench, order)
    bench.now += 100
    await bench.scripts.promote(10)
    lease = await bench.claimed(order.run_id)
    await bench.scripts.cancel(order.run_id, "")
    await bench.scripts.settle([settlement(lease, "canceled")], WORKER, [QUEUE], idle=False)
    assert await bench.field(order.run_id, "s") == "canceled"
    assert f"debounce:{PLACE}" not in await bench.values()
