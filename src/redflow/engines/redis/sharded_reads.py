"""What clients read of a prefix that is spread over shards: by id where the run is, else from all, merged or summed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redflow.domain.run import stored_run_id
from redflow.domain.sealing import Vault
from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.listing import Listing, Position, Record
from redflow.engines.redis.replies import Reply, as_list, as_text
from redflow.engines.redis.results import Results
from redflow.types import ALL_STATUSES, RunStats, RunStatus


class ShardedListing(Listing):
    """Lists and searches the runs of all shards, in the order of creation, then id.

    Args:
        shards: the listing of each shard.
        places: connection and keys of each shard.
        vault: decrypts payloads; None: nothing does.
    """

    def __init__(
        self, shards: Sequence[Listing], places: Sequence[tuple[Connection, Keys]], vault: Vault | None = None
    ) -> None:
        super().__init__(*places[0], vault)
        self._shards = shards
        self._places = places

    async def _indexes(self, statuses: Sequence[RunStatus], workflow: str | None) -> list[tuple[str, str]]:
        if workflow is not None:
            return await super()._indexes(statuses, workflow)
        names = await asyncio.gather(*(c.read("SMEMBERS", keys.workflows) for c, keys in self._places))
        return [(one, as_text(name)) for one in statuses for some in names for name in as_list(some)]

    async def _position(self, cursor: int | str | None) -> Position | None:
        stored = stored_run_id(cursor)
        if stored is None:  # or an exact position, which no shard has to be asked for
            return await super()._position(cursor)
        shard = shard_of_run(stored)
        return await self._shards[shard]._position(cursor) if shard < len(self._shards) else None

    async def _page(
        self, indexes: Sequence[tuple[str, str]], start: Position, limit: int, newest_first: bool
    ) -> list[tuple[str, int]]:
        """The next of all shards: as many as a page holds may stand on a single one."""
        by_shard: dict[int, list[tuple[str, str]]] = {}
        for index in indexes:
            by_shard.setdefault(shard_of_name(index[1], len(self._shards)), []).append(index)
        pages = await asyncio.gather(
            *(self._shards[shard]._page(some, start, limit, newest_first) for shard, some in by_shard.items())
        )
        entries = [entry for page in pages for entry in page]
        return sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=newest_first)[:limit]

    async def _records(self, run_ids: Sequence[str], fields: Sequence[str]) -> list[Record]:
        by_shard: dict[int, list[str]] = {}
        for run_id in run_ids:
            by_shard.setdefault(shard_of_run(run_id), []).append(run_id)
        found: dict[str, Record] = {}
        read = [(some, self._shards[shard]._records(some, fields)) for shard, some in by_shard.items()]
        for (some, _), records in zip(read, await asyncio.gather(*(reading for _, reading in read)), strict=True):
            found |= dict(zip(some, records, strict=True))
        return [found[run_id] for run_id in run_ids]

    def _place_of(self, stored: str) -> tuple[Connection, Keys] | None:
        shard = shard_of_run(stored)
        return self._places[shard] if shard < len(self._places) else None

    async def _times(self, run_ids: Sequence[str]) -> list[Reply]:
        places = [self._places[shard_of_run(run_id)] for run_id in run_ids]
        return list(
            await asyncio.gather(*(c.read("HGET", k.run(r), "c") for (c, k), r in zip(places, run_ids, strict=True)))
        )


class ShardedResults(Results):
    """The waits of one client for runs of all shards, told over one subscription."""

    def __init__(self, places: Sequence[tuple[Connection, Keys]], vault: Vault | None = None) -> None:
        super().__init__(*places[0], vault)
        self._places = places

    def _channels(self) -> list[str]:
        return [keys.client_channel(self._client) for _, keys in self._places]

    def _home_of(self, stored: str) -> tuple[Connection, Keys] | None:
        shard = shard_of_run(stored)
        return self._places[shard] if shard < len(self._places) else None


def sum_of(stats: Sequence[RunStats]) -> RunStats:
    """The counts of all shards together."""
    by_status = {status: sum(one["by_status"][status] for one in stats) for status in ALL_STATUSES}
    total: RunStats = {"total": sum(by_status.values()), "by_status": by_status}
    paused = [one["paused"] for one in stats if "paused" in one]
    if paused:
        total["paused"] = {
            "queues": sorted({name for one in paused for name in one["queues"]}),
            "workflows": sorted({name for one in paused for name in one["workflows"]}),
        }
    return total
