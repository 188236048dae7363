"""count_unlike: how many workflows have metadata that is missing or tells another app or queue."""

from __future__ import annotations

from redflow.engines.redis.definitions import COUNT_UNLIKE
from redflow.engines.redis.replies import as_int
from tests.support.scripts import Bench, changes


async def count(bench: Bench, *pairs: str, app: str = "app") -> int:
    return as_int(await bench.connection.call(COUNT_UNLIKE, bench.keys.base, (app, *pairs)))


async def test_each_difference_counts_and_nothing_is_written(bench: Bench) -> None:
    await bench.register_workflow("same")
    await bench.register_workflow("moved", queue="new")
    await bench.register_workflow("taken", app="other")
    before = await bench.values()
    assert await count(bench) == 0
    assert await count(bench, "same", "q") == 0
    assert await count(bench, "same", "q", "moved", "q", "taken", "q", "missing", "q") == 3
    assert await count(bench, "taken", "q", app="other") == 0
    assert changes(before, await bench.values()) == {}
