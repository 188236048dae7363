"""count_chores: workflows with metadata that is missing or another's, and cancels that are to be carried on."""

from __future__ import annotations

from redflow.engines.redis.definitions import COUNT_CHORES
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import as_int, as_list
from tests.support.scripts import Bench, changes


async def count(bench: Bench, *pairs: str, app: str = "app") -> int:
    rows: list[Argument] = [app]
    for name, queue in zip(pairs[::2], pairs[1::2], strict=True):
        rows += (name, queue, 0, 0)
    unlike, _cascade = as_list(await bench.connection.call(COUNT_CHORES, bench.keys.base, rows))
    return as_int(unlike)


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
