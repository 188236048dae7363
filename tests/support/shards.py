"""What tests of shards have in common: workflows that live where a test wants them, entries that stay on their way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from redflow.domain.run import stored_run_id
from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.outgoing import Outgoing
from redflow.engines.redis.replies import as_list, as_text
from redflow.engines.redis.sharded_engine import ShardedEngine
from tests.support.world import World


def name_on(shard: int, start: str = "w", *, shards: int = 3) -> str:
    """The name of a workflow (or a mutex's key) that lives on a shard."""
    return next(f"{start}{n}" for n in itertools.count() if shard_of_name(f"{start}{n}", shards) == shard)


def engine_of(world: World) -> ShardedEngine:
    """The engine of the world's client."""
    engine = world.client.engine
    assert isinstance(engine, ShardedEngine)
    return engine


def stored(run_id: str) -> str:
    """The stored id of a run."""
    found = stored_run_id(run_id)
    assert found is not None
    return found


def shard_of(run_id: str) -> int:
    """Where a run lives."""
    return shard_of_run(stored(run_id))


@contextmanager
def nobody_delivers() -> Iterator[None]:
    """Entries are written and rung for, and stay where they are: as if everybody who could bring them had died."""

    async def deliver(self: Outgoing, shard: int, worker: str = "") -> float | None:
        return None

    with patch.object(Outgoing, "deliver", deliver):
        yield


async def entries(world: World, shard: int) -> Sequence[str]:
    """What is on its way from a shard."""
    scripts = engine_of(world).shards[shard].scripts
    found = as_list(await scripts.connection.read("ZRANGE", f"{scripts.keys.base}outgoing", 0, -1))
    return [as_text(entry) for entry in found]


async def all_entries(world: World) -> list[str]:
    """What is on its way from any shard."""
    return [entry for shard in range(world.shards) for entry in await entries(world, shard)]
