"""list_runs and search_runs: filters, order, pages, cursors (spec 11)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from redflow import ListedRun, ListEventsParams, ListRunsParams, RunHandle, SearchRunsParams, define_workflow
from redflow.types import JsonData, WorkflowCall
from tests.support.world import Context, World, eventually

Handle = RunHandle[JsonData]


async def handler(ctx: Context) -> object:
    if ctx.input == "fail":
        raise ValueError("the Needle broke")
    return ctx.input


async def many(world: World, count: int, name: str = "w") -> list[str]:
    """That many queued runs, in the order of their creation."""
    if name not in await world.client.list_workflows():
        define_workflow(name, handler=handler, registry=world.registry, max_attempts=1)
        await world.client.sync_registry(world.registry, app="app")
    results = await world.client.emit_workflows([WorkflowCall(name, i) for i in range(count)])
    return [result.id for result in results if isinstance(result, RunHandle)]


def ids(runs: list[ListedRun]) -> list[str]:
    return [run["id"] for run in runs]


async def created_at(world: World, run_id: str) -> int:
    state = await world.client.get_run(run_id)
    assert state is not None
    return state["created_at"]


async def apart(world: World, count: int) -> list[str]:
    """Runs of which each has a millisecond of its own."""

    async def now_ms() -> int:
        seconds, micros = await world.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    run_ids: list[str] = []
    for _ in range(count):
        run_ids += await many(world, 1)
        await eventually(now_ms, "the next millisecond", until=(await created_at(world, run_ids[-1])).__lt__)
    return run_ids


async def test_newest_first_or_oldest_first_and_fifty_by_default(world: World) -> None:
    made = await many(world, 60)
    listed = ids(await world.client.list_runs())
    assert listed == sorted(listed, reverse=True)
    assert len(listed) == 50
    assert ids(await world.client.list_runs(ListRunsParams(sort="asc", limit=60))) == sorted(made)


@pytest.mark.parametrize(
    ("limit", "count"), [(0, 1), (-5, 1), (2.9, 2), (math.nan, 50), (math.inf, 50), ("x", 50), (None, 50), (True, 50)]
)
async def test_limits_are_rounded_down_to_at_least_one_and_bad_ones_are_fifty(
    world: World, limit: int, count: int
) -> None:
    await many(world, 55)
    assert len(await world.client.list_runs(ListRunsParams(limit=limit))) == count
    for number in range(3):
        await world.client.emit_event("e", number)
    assert len(await world.client.list_events(ListEventsParams(limit=limit))) == min(3, count)


async def test_a_page_may_be_larger_than_one_call_reads(world: World) -> None:
    made = await many(world, 450)
    assert len(await world.client.list_runs(ListRunsParams(limit=401))) == 401
    assert ids(await world.client.list_runs(ListRunsParams(limit=1000, sort="asc"))) == sorted(made)
    for number in range(230):
        await world.client.emit_event("e", number, event_id=f"e{number:03}")
    assert len(await world.client.list_events(ListEventsParams(limit=220))) == 220
    assert len({event["id"] for event in await world.client.list_events(ListEventsParams(limit=500))}) == 230


async def test_a_search_gives_two_hundred_at_most(world: World) -> None:
    await many(world, 205)
    assert len((await world.client.search_runs(SearchRunsParams(limit=1000)))["runs"]) == 200
    assert len((await world.client.search_runs(SearchRunsParams(limit=0)))["runs"]) == 1


async def test_pages_by_id_lose_and_repeat_nothing(world: World) -> None:
    made = await many(world, 25)
    for sort in ("asc", "desc"):
        seen: list[str] = []
        while page := ids(
            await world.client.list_runs(ListRunsParams(limit=4, sort=sort, cursor=seen[-1] if seen else None))
        ):
            seen += page
        assert seen == sorted(made, reverse=sort == "desc")


async def test_a_time_as_cursor_is_exclusive(world: World) -> None:
    first, second, third = await apart(world, 3)
    at = await created_at(world, second)
    assert ids(await world.client.list_runs(ListRunsParams(cursor=at))) == [
        run for run in ids(await world.client.list_runs()) if run < second and await created_at(world, run) < at
    ]
    later = ids(await world.client.list_runs(ListRunsParams(cursor=at, sort="asc")))
    assert third in later
    assert not {first, second} & set(later)


async def test_runs_are_filtered_by_status_and_workflow_and_both(world: World) -> None:
    await many(world, 2)
    await many(world, 3, "other")
    late = await world.client.emit_workflow("w", 1, run_at=datetime.now(UTC) + timedelta(hours=1))
    client = world.client
    assert ids(await client.list_runs(ListRunsParams(status="scheduled"))) == [late.id]
    assert {run["workflow"] for run in await client.list_runs(ListRunsParams(workflow="other"))} == {"other"}
    assert len(await client.list_runs(ListRunsParams(workflow="w"))) == 3
    assert len(await client.list_runs(ListRunsParams(workflow="w", status="queued"))) == 2
    assert await client.list_runs(ListRunsParams(workflow="nobody")) == []
    assert await client.list_runs(ListRunsParams(cursor="run_0198c2d1-0000-7000-8000-000000000000")) == []


async def test_a_listed_run_has_no_payloads_and_only_the_keys_that_are_known(world: World) -> None:
    await many(world, 1)
    [queued] = await world.client.list_runs()
    known = {"id", "workflow", "queue", "status", "created_at", "attempt", "max_attempts"}
    assert queued.keys() == known
    failing = await world.client.emit_workflow("w", "fail", parent_run_id="p")
    await world.worker()
    await world.ended(failing)
    [failed] = await world.client.list_runs(ListRunsParams(status="failed"))
    assert failed.keys() == known | {"error", "started_at", "finished_at", "parent_run_id"}


async def found(world: World, **conditions: JsonData) -> list[str]:
    return ids((await world.client.search_runs(SearchRunsParams(**conditions)))["runs"])


async def test_a_query_is_looked_for_everywhere_whatever_its_case(world: World) -> None:
    await many(world, 1, "Alpha")
    await world.worker()
    big = await world.start({"x": "É1", "filler": "q" * 40_000 + "Haystack"}, name="Alpha")
    await big.result()
    failing = await world.start("fail", name="Alpha")
    await world.ended(failing)
    canceled = await world.client.emit_workflow("Alpha", 0, run_at=datetime.now(UTC) + timedelta(hours=1))
    await world.client.cancel_run(canceled.id, reason="Changed My Mind")
    for query, run in (
        ("é1", big),
        ("HAYSTACK", big),
        ("the needle broke", failing),
        ("FAILED", failing),
        ("changed my", canceled),
        (big.id[10:].upper(), big),
    ):
        assert await found(world, query=query) == [run.id], query
    for query in ("alpha", "APP:DEFAULT"):
        assert len(await found(world, query=query)) == 4
    assert await found(world, query="nowhere") == []
    assert (await world.client.search_runs(SearchRunsParams(query="nowhere")))["scanned"] == 4


async def test_searches_are_filtered_exactly(world: World) -> None:
    first, second, third = await apart(world, 3)
    child = await world.client.emit_workflow("w", 1, parent_run_id=first)
    assert len(await found(world, queue="app:default")) >= 4
    assert await found(world, queue="default") == []
    assert await found(world, parent_run_id=first) == [child.id]
    assert await found(world, status="running") == []
    at = await created_at(world, second)
    assert await found(world, created_after=at, created_before=at) == [second]
    assert await world.client.search_runs(SearchRunsParams(created_after=at + 1, created_before=at)) == {
        "runs": [],
        "scanned": 0,
    }
    assert third not in await found(world, created_before=at)
    assert first not in await found(world, created_after=at)


async def test_a_cursor_outside_the_range_of_time_changes_nothing(world: World) -> None:
    first, second, third = await apart(world, 3)
    early, late = await created_at(world, first), await created_at(world, third)
    assert await found(world, created_before=early, cursor=late + 1) == [first]
    assert await found(world, created_after=late, cursor=early - 1, sort="asc") == [third]
    assert await found(world, created_before=late, cursor=late, limit=1) == [second]


async def test_a_search_says_how_to_go_on(world: World) -> None:
    made = await many(world, 5)
    seen: list[str] = []
    params = SearchRunsParams(limit=2)
    while True:
        page = await world.client.search_runs(params)
        seen += ids(page["runs"])
        if "next_cursor" not in page:
            break
        params = SearchRunsParams(limit=2, cursor=page["next_cursor"])
    assert seen == sorted(made, reverse=True)
    assert page.keys() == {"runs", "scanned"}


async def test_queries_about_nothing(world: World) -> None:
    for run_id in ("run_0198c2d1-0000-7000-8000-000000000000", "nothing"):
        assert await world.client.get_run(run_id) is None
        assert await world.client.get_run_steps(run_id) == []
        assert await world.client.get_run_attempts(run_id) == []
    assert await world.client.list_runs() == []
    assert await world.client.search_runs() == {"runs": [], "scanned": 0}


async def test_a_search_stops_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sorted(await many(world, 250), reverse=True)
    page = await world.client.search_runs(SearchRunsParams(query="nowhere", scan=120))
    assert (page["runs"], page["scanned"], page["truncated"]) == ([], 120, True)
    assert page["next_cursor"] == made[119]
    rest = await world.client.search_runs(
        SearchRunsParams(query="nowhere", cursor=page["next_cursor"], sort="asc", scan=120)
    )
    assert (rest["scanned"], rest.get("truncated")) == (119, None)
    monkeypatch.setattr("redflow.engines.redis.listing._MOST_BYTES", 1000)
    page = await world.client.search_runs(SearchRunsParams(query="nowhere"))
    assert 0 < page["scanned"] < 100
    assert page["truncated"] is True
    for scan in (0, 10_001, True, 1.5):
        with pytest.raises(ValueError, match="scan must be a whole number from 1 to 10000"):
            await world.client.search_runs(SearchRunsParams(scan=scan))  # type: ignore[arg-type]
