"""close_wait: ends a wait whose time is over, unless its event came first."""

from __future__ import annotations

from tests.support.event_scripts import FAR, PLACE, accept, close_wait, open_wait
from tests.support.scripts import Bench, changes, run_id


async def test_only_that_wait_is_forgotten(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    await open_wait(bench, lease, "s:two words")
    assert await close_wait(bench, lease.run_id, "s:two words") == "closed"
    assert (await bench.values())[f"waiting:{PLACE}"] == {f"{lease.run_id} s:one": FAR}
    before = await bench.values()
    assert await close_wait(bench, lease.run_id) == "closed"
    assert changes(before, await bench.values()) == {f"waiting:{PLACE}": None}
    assert (await accept(bench, key="k1")).resumed_run_ids == []


async def test_an_event_that_came_first_stands(bench: Bench) -> None:
    """Its emitter was told that it resumed the run, however late the holder learns of it."""
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    bench.now = FAR
    assert len((await accept(bench, key="k1")).resumed_run_ids) == 1
    before = await bench.values()
    assert [await close_wait(bench, lease.run_id) for _ in range(2)] == ["found", "found"]
    assert changes(before, await bench.values()) == {}


async def test_what_nobody_waits_for(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    before = await bench.values()
    assert await close_wait(bench, lease.run_id, key="k2") == "closed"
    assert await close_wait(bench, lease.run_id, event="sent") == "closed"
    assert await close_wait(bench, run_id(999)) == "closed"
    assert changes(before, await bench.values()) == {}


async def test_sent_again_it_answers_the_same(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    assert [await close_wait(bench, lease.run_id) for _ in range(2)] == ["closed", "closed"]
