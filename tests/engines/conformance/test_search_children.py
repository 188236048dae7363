"""search_runs by parent: found by the index of children, whatever else there is (spec 11)."""

from __future__ import annotations

import pytest

from redflow import ListedRun, RunHandle, SearchRunsParams, workflow
from redflow.types import JsonData, SortOrder
from tests.support.world import Context, World

Handle = RunHandle[JsonData]


@pytest.fixture
async def parent(world: World) -> Handle:
    """A run in the middle of others, with five children; no worker is there."""

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None: ...

    await world.client.sync_registry(world.registry, app="app")
    await world.start()
    return await world.start()


async def family(world: World, parent: Handle) -> list[str]:
    children = []
    for n in range(5):
        children.append((await world.client.emit_workflow("w", n, parent_run_id=parent.id)).id)
        await world.start()
    return children


async def search(world: World, params: SearchRunsParams) -> tuple[list[ListedRun], int, str | None]:
    found = await world.client.search_runs(params)
    assert "truncated" not in found
    return found["runs"], found["scanned"], found.get("next_cursor")


@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_only_children_are_looked_at(world: World, parent: Handle, sort: SortOrder) -> None:
    children = await family(world, parent)
    wanted = children if sort == "asc" else children[::-1]
    runs, scanned, cursor = await search(world, SearchRunsParams(parent_run_id=parent.id, sort=sort))
    assert ([run["id"] for run in runs], scanned, cursor) == (wanted, 5, None)
    pages: list[str] = []
    cursor = None
    while True:
        runs, scanned, cursor = await search(
            world, SearchRunsParams(parent_run_id=parent.id, sort=sort, limit=2, cursor=cursor)
        )
        pages += [run["id"] for run in runs]
        if cursor is None:
            break
        assert scanned == 2
    assert pages == wanted


async def test_the_other_conditions_hold_too(world: World, parent: Handle) -> None:
    first, second, *rest = await family(world, parent)
    await world.client.cancel_run(second)
    assert [
        run["id"] for run in (await search(world, SearchRunsParams(parent_run_id=parent.id, status="canceled")))[0]
    ] == [second]
    assert [
        run["id"]
        for run in (await search(world, SearchRunsParams(parent_run_id=parent.id, status="queued", sort="asc")))[0]
    ] == [first, *rest]
    assert (await search(world, SearchRunsParams(parent_run_id=parent.id, workflow="other")))[0] == []
    state = await world.client.get_run(rest[0])
    assert state is not None
    created = state["created_at"]
    since = await search(world, SearchRunsParams(parent_run_id=parent.id, created_after=created))
    until = await search(world, SearchRunsParams(parent_run_id=parent.id, created_before=created))
    before = await search(world, SearchRunsParams(parent_run_id=parent.id, cursor=created))
    assert all(run["created_at"] >= created for run in since[0])
    assert all(run["created_at"] <= created for run in until[0])
    assert rest[0] in {run["id"] for run in since[0]} & {run["id"] for run in until[0]}
    assert all(run["created_at"] < created for run in before[0])
    assert len(since[0]) + len(before[0]) == 5


async def test_children_that_a_cancel_has_reached_are_still_found(world: World, parent: Handle) -> None:
    children = await family(world, parent)
    await world.client.cancel_run(parent.id)
    late = (await world.client.emit_workflow("w", "late", parent_run_id=parent.id)).id
    runs, scanned, _ = await search(world, SearchRunsParams(parent_run_id=parent.id, sort="asc"))
    assert [run["id"] for run in runs] == [*children, late]
    assert scanned == 6
    assert {run["status"] for run in runs[:5]} == {"canceled"}


async def test_a_parent_that_is_no_run_is_searched_for(world: World, parent: Handle) -> None:
    run = await world.client.emit_workflow("w", 1, parent_run_id="whoever")
    runs, scanned, _ = await search(world, SearchRunsParams(parent_run_id="whoever"))
    assert ([found["id"] for found in runs], scanned) == ([run.id], 3)


async def test_a_parent_that_is_gone_still_has_children(world: World, parent: Handle) -> None:
    children = await family(world, parent)
    await world.client.cancel_run(parent.id)
    state = await parent.get_state()
    assert state is not None
    end = state["finished_at"] + world.client.run_history_retention_ms
    assert await world.client.cleanup_expired_runs_now(reference_time_ms=end, limit=1) == 1
    assert await parent.get_state() is None
    runs, _, _ = await search(world, SearchRunsParams(parent_run_id=parent.id, sort="asc"))
    assert [run["id"] for run in runs] == children
