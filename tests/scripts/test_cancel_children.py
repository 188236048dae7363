"""cancel_children: carries cancels down the tree, a bounded number of runs a call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.domain.run import public_run_id
from tests.support.scripts import ERROR, RETENTION_MS, T0, Bench, changes


async def kid(bench: Bench, parent: str) -> str:
    """A child of a run; its id."""
    order = replace(bench.order(), parent_run_id=public_run_id(parent))
    assert await bench.scripts.create([order], None) == [("created", order.run_id)]
    return order.run_id


async def test_there_is_nothing_to_do(bench: Bench) -> None:
    assert await bench.scripts.cancel_children(10) == (0, False)
    assert await bench.values() == {}


async def test_a_run_without_children_leaves_nothing_to_do(bench: Bench) -> None:
    await bench.serve()
    assert await bench.scripts.cancel_tree(await bench.create(), "") == ("canceled", False)


async def test_children_follow_with_the_reason(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.running()
    kids = [await kid(bench, parent.run_id) for _ in range(2)]
    held = await bench.claimed(kids[0])
    waiting = await kid(bench, parent.run_id)
    assert await bench.scripts.cancel_tree(parent.run_id, "enough") == ("requested", True)
    assert (await bench.values())["cascade"] == {parent.run_id: "enough"}
    bench.now += 3
    async with bench.listening("worker:w1") as ear:
        assert await bench.scripts.cancel_children(10) == (3, False)
        assert sorted(await ear.heard()) == [("worker:w1", f"cancel {run}") for run in kids]
    for run, status in ((held.run_id, "running"), (waiting, "canceled")):
        record = await bench.record(run)
        assert (record["s"], record["cr"], record["cw"]) == (status, str(T0 + 3), "enough")
    values = await bench.values()
    assert values[f"expiry:{RETENTION_MS}"] == [waiting]
    assert not {"cascade", f"kids:{parent.run_id}"} & values.keys()
    assert values[f"reached:{parent.run_id}"] == {*kids, waiting}


async def test_what_was_reached_is_forgotten_with_the_runs(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.create()
    kids = [await kid(bench, parent) for _ in range(2)]
    await bench.scripts.cancel(parent, "")
    await bench.scripts.cancel_children(10)
    bench.now += RETENTION_MS
    await bench.read("LREM", f"@expiry:{RETENTION_MS}", 1, parent)
    assert await bench.scripts.purge(None, 1) == 1
    assert len((await bench.snapshot()).members(f"reached:{parent}")) == 1
    await bench.read("LPUSH", f"@expiry:{RETENTION_MS}", parent)
    assert await bench.scripts.purge(None, 1) == 1
    assert [name for name in await bench.values() if "reached" in name] == []
    assert await bench.scripts.purge(None, 10) == 1
    assert [await bench.record(run) for run in kids] == [{}, {}]


async def test_without_a_reason_they_are_told_of_their_parent(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.create()
    child = await kid(bench, parent)
    grandchild = await kid(bench, child)
    await bench.scripts.cancel(parent, "")
    assert await bench.scripts.cancel_children(1) == (1, True)
    assert await bench.scripts.cancel_children(1) == (1, False)
    reason = f"parent run {public_run_id(parent)} canceled"
    assert await bench.field(child, "cw") == await bench.field(grandchild, "cw") == reason


async def test_no_more_than_asked_for(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.create()
    kids = [await kid(bench, parent) for _ in range(5)]
    await bench.scripts.cancel(parent, "")
    assert [await bench.scripts.cancel_children(2) for _ in range(4)] == [(2, True), (2, True), (1, False), (0, False)]
    assert {await bench.field(run, "s") for run in kids} == {"canceled"}


async def test_what_lies_below_a_finished_child_follows_too(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.running()
    child = await bench.claimed(await kid(bench, parent.run_id))
    grandchild = await kid(bench, child.run_id)
    await bench.settle(child)
    await bench.scripts.cancel(parent.run_id, "why")
    before = await bench.record(child.run_id)
    assert await bench.scripts.cancel_children(1) == (0, True)
    assert await bench.scripts.cancel_children(1) == (1, False)
    assert await bench.record(child.run_id) == before
    assert await bench.field(grandchild, "cw") == "why"


async def test_a_child_that_is_gone_or_fails_already_is_passed_over(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.running()
    decided = await bench.claimed(await kid(bench, parent.run_id))
    await bench.scripts.decide_failure(decided, ERROR)
    gone = await kid(bench, parent.run_id)
    await bench.settle(await bench.claimed(gone))
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 10) == 1
    await bench.read("SADD", f"@kids:{parent.run_id}", gone)
    await bench.scripts.cancel(parent.run_id, "")
    assert await bench.scripts.cancel_children(10) == (0, False)
    assert await bench.field(decided.run_id, "cr") is None
    assert await bench.record(gone) == {}


async def test_a_child_that_comes_late_follows_too(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.running()
    await bench.scripts.cancel(parent.run_id, "why")
    assert await bench.scripts.cancel_children(10) == (0, False)
    late = await kid(bench, parent.run_id)
    assert await bench.scripts.cancel_children(10) == (1, False)
    assert await bench.field(late, "cw") == "why"


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    parent = await bench.create()
    await kid(bench, parent)
    await bench.scripts.cancel(parent, "")
    await bench.scripts.cancel_children(10)
    before = await bench.values()
    assert await bench.scripts.cancel_children(10) == (0, False)
    assert changes(before, await bench.values()) == {}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled"])
async def test_the_children_of_a_run_that_is_over_live_on(bench: Bench, outcome: str) -> None:
    await bench.serve()
    parent = await bench.running()
    child = await kid(bench, parent.run_id)
    await bench.settle(parent, outcome, ERROR)
    before = await bench.values()
    assert await bench.scripts.cancel_tree(parent.run_id, "late") == ("finished", False)
    assert await bench.scripts.cancel_children(10) == (0, False)
    assert changes(before, await bench.values()) == {}
    assert await bench.field(child, "s") == "queued"
