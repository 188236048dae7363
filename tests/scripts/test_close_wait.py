"""close_wait: forgets a wait that ended without its event."""

from __future__ import annotations

from tests.support.event_scripts import FAR, PLACE, accept, close_wait, open_wait
from tests.support.scripts import Bench, changes, run_id


async def test_only_that_wait_is_forgotten(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    await open_wait(bench, lease, "s:two words")
    assert await close_wait(bench, lease.run_id, "s:two words") == 1
    assert (await bench.values())[f"waiting:{PLACE}"] == {f"{lease.run_id} s:one": FAR}
    before = await bench.values()
    assert await close_wait(bench, lease.run_id) == 1
    assert changes(before, await bench.values()) == {f"waiting:{PLACE}": None}
    assert (await accept(bench, key="k1")).resumed_run_ids == []


async def test_what_nobody_waits_for(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    before = await bench.values()
    assert await close_wait(bench, lease.run_id, key="k2") == 0
    assert await close_wait(bench, lease.run_id, event="sent") == 0
    assert await close_wait(bench, run_id(999)) == 0
    assert changes(before, await bench.values()) == {}


async def test_sent_again_it_finds_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    assert [await close_wait(bench, lease.run_id) for _ in range(2)] == [1, 0]
