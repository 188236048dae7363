"""record_shards: the first client of a prefix that is spread over shards writes down over how many."""

from __future__ import annotations

import pytest

from redflow.engines.redis.shard_record import RECORD_SHARDS
from tests.support.scripts import Bench


async def test_the_first_number_stays(bench: Bench) -> None:
    assert await bench.call(RECORD_SHARDS, 3) == 3
    assert await bench.call(RECORD_SHARDS, 4) == 3
    assert await bench.values() == {"shards": "3"}


@pytest.mark.parametrize("used", ["a workflow", "a worker", "a run"])
async def test_a_prefix_of_one_shard_stays_one(bench: Bench, used: str) -> None:
    if used == "a workflow":
        await bench.register_workflow()
    elif used == "a worker":
        await bench.register_worker()
    else:
        await bench.create(queue="q")
    assert await bench.call(RECORD_SHARDS, 3) == 1
    assert "shards" not in await bench.values()
