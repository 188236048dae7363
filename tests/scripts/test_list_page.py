"""list_page: pages over several indexes."""

from __future__ import annotations

import random

import pytest

from redflow.engines.redis.link import Argument
from redflow.engines.redis.listing import LIST_PAGE
from redflow.engines.redis.replies import as_int, as_list, as_text
from redflow.types import ALL_STATUSES
from tests.support.scripts import ERROR, T0, Bench, changes

Entry = tuple[int, str]
WORKFLOWS = ("a", "b", "c")
EVERYTHING: list[tuple[str, str]] = [(status, workflow) for status in ALL_STATUSES for workflow in WORKFLOWS]


async def page(
    bench: Bench, limit: int, indexes: list[tuple[str, str]], after: Entry | None = None, *, newest_first: bool = True
) -> list[Entry]:
    cursor: tuple[Argument, Argument] = ("", "") if after is None else after
    args: list[Argument] = ["1" if newest_first else "", *cursor, limit]
    args += [f"idx:{status}:{workflow}" for status, workflow in indexes]
    flat = as_list(await bench.connection.call(LIST_PAGE, bench.keys.base, args))
    return [(as_int(created), as_text(run)) for run, created in zip(flat[::2], flat[1::2], strict=True)]


async def make_runs(bench: Bench) -> list[Entry]:
    """Runs of several workflows and statuses, many of them of the same millisecond; oldest first."""
    chance = random.Random(5)
    await bench.serve(*WORKFLOWS)
    made: list[Entry] = []
    for _ in range(12):
        for workflow in chance.choices(WORKFLOWS, k=4):
            later = chance.random() < 0.3
            made.append((bench.now, await bench.create(workflow, run_at_ms=bench.now + 9_000_000 if later else None)))
        for run in (await bench.claim(chance.randint(0, 3))).runs:
            await bench.settle(run.lease, chance.choice(["succeeded", "failed", "canceled"]), ERROR)
        bench.now += chance.randint(0, 1)
    return sorted(made)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 7, 48, 100])
async def test_pages_bring_each_run_once_and_in_order(bench: Bench, limit: int, newest_first: bool) -> None:
    made = await make_runs(bench)
    walked: list[Entry] = []
    while found := await page(bench, limit, EVERYTHING, walked[-1] if walked else None, newest_first=newest_first):
        assert len(found) <= limit
        walked += found
    assert walked == (made[::-1] if newest_first else made)


async def test_only_the_indexes_that_are_asked_for(bench: Bench) -> None:
    made = await make_runs(bench)
    snapshot = await bench.snapshot()
    wanted = {*snapshot.zset("idx:queued:a"), *snapshot.zset("idx:failed:b")}
    expected = [entry for entry in reversed(made) if entry[1] in wanted]
    assert await page(bench, 100, [("queued", "a"), ("failed", "b"), ("queued", "none")]) == expected
    assert await page(bench, 100, [("queued", "none")]) == []
    assert await page(bench, 100, []) == []


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_time_as_cursor_passes_over_its_whole_millisecond(bench: Bench, newest_first: bool) -> None:
    made = await make_runs(bench)
    at = T0 + 3
    kept = [entry for entry in made if (entry[0] < at if newest_first else entry[0] > at)]
    found = await page(bench, 100, EVERYTHING, (at, ""), newest_first=newest_first)
    assert found == (kept[::-1] if newest_first else kept)


async def test_a_cursor_holds_when_its_run_has_moved_or_gone(bench: Bench) -> None:
    made = await make_runs(bench)
    after = (made[20][0], "8" * 32)  # of the same ms, and in none of the indexes
    expected = [entry for entry in reversed(made) if entry < after]
    assert await page(bench, 100, EVERYTHING, after) == expected


async def test_it_writes_nothing(bench: Bench) -> None:
    await make_runs(bench)
    before = await bench.values()
    assert await page(bench, 10, EVERYTHING) == await page(bench, 10, EVERYTHING)
    assert changes(before, await bench.values()) == {}
