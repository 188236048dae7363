"""What the parts of the operators' engine have in common: the shards, and paging over names."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from redflow.domain.run import stored_run_id
from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.crons import Crons
from redflow.engines.redis.definitions import Definitions
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.listing import Listing
from redflow.engines.redis.queries import Queries
from redflow.engines.redis.replies import Reply, as_int, as_list
from redflow.engines.redis.runs import RunScripts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """One shard, or the whole of a prefix that has one.

    Attributes:
        connection: to its server.
        keys: its keys.
        scripts: the verbs of runs.
        crons: its cron triggers.
        queries: reads its runs.
        after_cancels: carries on what cancels there have begun; told whether children are to follow.
    """

    connection: Connection
    keys: Keys
    scripts: RunScripts
    crons: Crons
    queries: Queries
    after_cancels: Callable[[bool], Awaitable[None]]

    async def now(self) -> int:
        """The server's time, epoch ms; that of the scripts in a test."""
        if isinstance(self.scripts.now, int):
            return self.scripts.now
        return server_ms(await self.connection.read("TIME"))


class OperationsBase:
    """What is asked of some or all shards.

    Args:
        places: the shards; the first is home.
        listing: of all of them.
        definitions: of all of them.
    """

    def __init__(self, places: Sequence[Place], listing: Listing, definitions: Definitions) -> None:
        self._places = places
        self._listing = listing
        self._definitions = definitions

    @property
    def _home(self) -> Place:
        return self._places[0]

    def _place_of_workflow(self, workflow: str) -> Place:
        return self._places[shard_of_name(workflow, len(self._places)) if len(self._places) > 1 else 0]

    def _by_place(self, run_ids: Sequence[str]) -> dict[int, list[tuple[int, str]]]:
        """(index, stored id) of the runs of each shard; what can't be an id of a run is left out."""
        found: dict[int, list[tuple[int, str]]] = {}
        for index, run_id in enumerate(run_ids):
            stored = stored_run_id(run_id)
            shard = shard_of_run(stored) if stored is not None and len(self._places) > 1 else 0
            if stored is not None and shard < len(self._places):
                found.setdefault(shard, []).append((index, stored))
        return found

    async def _of_all(self, ask: Callable[[Place], Awaitable[T]]) -> list[T]:
        """What each shard answers."""
        return list(await asyncio.gather(*(ask(place) for place in self._places)))


def server_ms(reply: Reply) -> int:
    """The reply to TIME in ms."""
    seconds, micros = as_list(reply)
    return as_int(seconds) * 1000 + as_int(micros) // 1000


def page_of(names: Sequence[str], cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
    """One page of sorted names after the cursor, and the cursor of the next page, None: there is none."""
    first = 0 if cursor is None else bisect.bisect_right(names, cursor)
    page = names[first : first + limit]
    return page, page[-1] if first + limit < len(names) else None
