"""Events of a prefix of several shards: they are all at home, and go from there to the runs of the other shards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from redflow.domain.run import stored_run_id
from redflow.domain.sealing import Vault
from redflow.domain.shards import shard_of_run
from redflow.engine import Emitted, EventOrder
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.events import Events
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.outgoing import Outgoing
from redflow.engines.redis.replies import as_text
from redflow.errors import ConnectionError, RedflowError
from redflow.types import EventDelivery

log = logging.getLogger("redflow")

_PASSES: Final = 8
"""How many passes in a row may bring nothing new before an event is left to a later time."""
_PAUSE_S: Final = 0.01


class ShardedEvents(Events):
    """The events of one prefix.

    Args:
        connection: to the home shard.
        keys: of the home shard.
        retention_ms: how long ended events are kept.
        outgoing: what crosses shards.
        places: connection and keys of each shard.
        vault: encrypts their data and blinds their keys; None: nothing does.
    """

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        retention_ms: int,
        outgoing: Outgoing,
        places: Sequence[tuple[Connection, Keys]],
        vault: Vault | None = None,
    ) -> None:
        super().__init__(connection, keys, retention_ms, vault)
        self._outgoing = outgoing
        self._places = places

    async def emit(self, order: EventOrder) -> Emitted:
        """Accept an event and bring it where it is to go; what fails, workers carry on."""
        emitted = await self.accept(order)
        away = any(shard_of_run(stored_run_id(run) or "0" * 32) for run in emitted.resumed_run_ids)
        try:
            if away and emitted.final:
                emitted = replace(await self._after_delivery(emitted.event_id), code=emitted.code)
            while not emitted.final:
                emitted = replace(await self.deliver(emitted.event_id), code=emitted.code)
        except RedflowError as exc:
            log.warning("event %s stays in the outbox, workers carry on: %s", emitted.event_id, exc)
        return emitted

    async def deliver(self, event_id: str) -> Emitted:
        """The next passes over an event: until one is final, or has more to do on this shard.

        Raises:
            ConnectionError: another shard doesn't take its part.
        """
        for number in range(_PASSES):
            emitted = await self._after_delivery(event_id)
            if emitted.final:
                return emitted
            await asyncio.sleep(_PAUSE_S * number)
        raise ConnectionError(f"event {event_id} has not reached all shards yet")

    async def _after_delivery(self, event_id: str) -> Emitted:
        await self._outgoing.deliver(0)
        return await super().deliver(event_id)

    async def _follow_merged(self, deliveries: Sequence[EventDelivery]) -> None:
        """A delivery whose run a debounce merged into another one names that one."""

        async def follow(delivery: EventDelivery) -> None:
            stored = stored_run_id(delivery.get("run_id"))
            if stored is None or shard_of_run(stored) >= len(self._places):
                return
            connection, keys = self._places[shard_of_run(stored)]
            into = await connection.read("HGET", keys.run(stored), "mi")
            if into is not None:
                delivery["run_id"] = as_text(into)

        await asyncio.gather(*map(follow, deliveries))
