"""create_debounced and debounce_run: one run for calls that follow each other closely."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from redflow.domain.payload import pack
from redflow.domain.run import RunOrder, public_run_id
from redflow.engines.redis.admission import admit, create_debounced, debounce
from redflow.errors import QueueFullError
from redflow.execution.admission import AdmissionRequest
from redflow.types import ResolvedDebounce
from tests.support.scripts import BIG, ERROR, LEASE_MS, RETENTION_MS, T0, Bench, changes
from tests.support.servers import ServerOptions, ServerProcess

WANTED = ResolvedDebounce("k", 100)
PLACE = "1:w:5:app:q:k"
StartServer = Callable[[ServerOptions], ServerProcess]


async def call(bench: Bench, order: RunOrder, wanted: ResolvedDebounce = WANTED) -> tuple[str, str]:
    return await create_debounced(bench.scripts, order, None, wanted)


# -- create_debounced ----------------------------------------------------------------------------------------------


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


# -- debounce_run --------------------------------------------------------------------------------------------------


@pytest.fixture
async def burst(bench: Bench) -> AsyncIterator[tuple[Bench, list[str]]]:
    """Three runs that were created without their key, 10 ms apart, and a worker."""
    await bench.serve()
    runs = []
    for n in range(3):
        bench.now = T0 + 10 * n
        order = bench.order(input_json=str(n).encode())
        await bench.scripts.create([order], None)
        runs.append(order.run_id)
    yield bench, runs


async def test_the_first_seen_is_kept_the_others_are_merged(burst: tuple[Bench, list[str]]) -> None:
    bench, runs = burst
    leases = [run.lease for run in (await bench.claim()).runs]
    bench.now = T0 + 50
    answers = [await debounce(bench.scripts, lease, ResolvedDebounce("k", 100, 120)) for lease in leases]
    assert answers == ["waits", "merged", "merged"]
    kept = await bench.record(runs[0])
    assert (kept["s"], kept["d"], kept["i"]) == ("scheduled", str(T0 + 120), "2")
    assert not {"a", "t"} & kept.keys()
    for run in runs[1:]:
        record = await bench.record(run)
        assert (record["s"], record["mi"]) == ("canceled", public_run_id(runs[0]))
    before = await bench.values()
    assert [await debounce(bench.scripts, lease, WANTED) for lease in leases] == ["settled"] * 3
    assert changes(before, await bench.values()) == {}


async def test_the_newest_input_stays_whoever_is_seen_last(burst: tuple[Bench, list[str]]) -> None:
    bench, runs = burst
    leases = [run.lease for run in (await bench.claim()).runs]
    answers = [await debounce(bench.scripts, lease, WANTED) for lease in (leases[2], leases[0], leases[1])]
    assert answers == ["waits", "merged", "merged"]
    assert await bench.field(runs[2], "i") == "2"


async def test_at_its_deadline_it_goes_behind_the_rest_of_its_burst(burst: tuple[Bench, list[str]]) -> None:
    bench, runs = burst
    [first] = (await bench.claim(1)).runs
    bench.now = T0 + 5_000
    assert await debounce(bench.scripts, first.lease, ResolvedDebounce("k", 100, 100)) == "waits"
    assert await bench.ids("ready:app:q") == [runs[1], runs[2], runs[0]]


async def test_the_kept_run_goes_on_when_its_time_has_come(burst: tuple[Bench, list[str]]) -> None:
    bench, runs = burst
    leases = [run.lease for run in (await bench.claim()).runs]
    for lease in leases:
        await debounce(bench.scripts, lease, WANTED)
    bench.now += 100
    await bench.scripts.promote(10)
    again = await bench.claimed(runs[0])
    assert await debounce(bench.scripts, again, WANTED) == "go_on"


async def test_a_holder_that_dies_before_or_after_loses_nothing(burst: tuple[Bench, list[str]]) -> None:
    bench, runs = burst
    leases = [run.lease for run in (await bench.claim()).runs]
    await debounce(bench.scripts, leases[0], WANTED)
    bench.now += LEASE_MS
    await bench.scripts.recover(10, ERROR)
    await bench.scripts.promote(10)
    again = {run.lease.run_id: run.lease for run in (await bench.claim()).runs}
    assert sorted(again) == sorted(runs)
    assert await debounce(bench.scripts, again[runs[0]], WANTED) == "go_on"


async def test_a_large_input_moves_along(bench: Bench) -> None:
    await bench.serve()
    first, second = bench.order(), bench.order(input_json=BIG)
    await bench.scripts.create([first, second], None)
    for run in (await bench.claim()).runs:
        await debounce(bench.scripts, run.lease, WANTED)
    assert await bench.field(first.run_id, "i") == "@"
    stored = (await bench.snapshot()).hash(f"big:{first.run_id}")["i"]
    assert stored.encode("utf-8", "surrogateescape") == pack(BIG)


async def test_an_idempotency_key_follows_the_merge(bench: Bench) -> None:
    await bench.serve()
    first, second = bench.order(), replace(bench.order(), idempotency_key="x")
    await bench.scripts.create([first, second], None)
    for run in (await bench.claim()).runs:
        await debounce(bench.scripts, run.lease, WANTED)
    third = replace(bench.order(), idempotency_key="x")
    assert await bench.scripts.create([third], None) == [("found", first.run_id)]
