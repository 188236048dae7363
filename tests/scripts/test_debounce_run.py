"""debounce_run: the first worker that sees a run without its debounce key coalesces it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.domain.payload import pack
from redflow.domain.run import public_run_id
from redflow.engines.redis.admission import debounce
from redflow.types import ResolvedDebounce
from tests.support.scripts import BIG, ERROR, LEASE_MS, T0, Bench, changes

WANTED = ResolvedDebounce("k", 100)


@pytest.fixture
async def burst(bench: Bench) -> tuple[Bench, list[str]]:
    """Three runs that were created without their key, 10 ms apart, and a worker."""
    await bench.serve()
    runs = []
    for n in range(3):
        bench.now = T0 + 10 * n
        order = bench.order(input_json=str(n).encode())
        await bench.scripts.create([order], None)
        runs.append(order.run_id)
    return bench, runs


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
        assert not {"a", "t"} & record.keys()
    before = await bench.values()
    assert [await debounce(bench.scripts, lease, WANTED) for lease in leases] == ["settled"] * 3
    assert changes(before, await bench.values()) == {}


async def test_the_newest_input_stays_whoever_is_seen_last(burst: tuple[Bench, list[str]]) -> None:
    bench, runs = burst
    leases = [run.lease for run in (await bench.claim()).runs]
    answers = [await debounce(bench.scripts, lease, WANTED) for lease in (leases[2], leases[0], leases[1])]
    assert answers == ["waits", "merged", "merged"]
    assert await bench.field(runs[2], "i") == "2"


async def test_within_one_ms_the_ids_tell_which_input_is_newer(bench: Bench) -> None:
    await bench.serve()
    orders = sorted([bench.order() for _ in range(3)], key=lambda order: order.run_id)
    for n, order in enumerate(orders):
        order.input_json = str(n).encode()
    await bench.scripts.create(orders, None)
    leases = sorted((run.lease for run in (await bench.claim()).runs), key=lambda lease: lease.run_id)
    answers = [await debounce(bench.scripts, lease, WANTED) for lease in (leases[0], leases[2], leases[1])]
    assert answers == ["waits", "merged", "merged"]
    assert await bench.field(leases[0].run_id, "i") == "2"


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
