"""The registry of a prefix of several shards: at home, and each workflow's metadata and crons where its runs live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from redflow.definitions import AnyWorkflow
from redflow.domain.options import check_event_triggers
from redflow.domain.shards import shard_of_name
from redflow.engines.redis.definitions import COUNT_CHORES, Definitions, contracts_of
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import Reply, as_int, as_list
from redflow.errors import ConnectionError
from redflow.types import WorkflowMeta

log = logging.getLogger("redflow")


class ShardedDefinitions(Definitions):
    """The registered workflows of one prefix.

    Args:
        shards: the definitions of each shard; the first is home.
    """

    def __init__(self, shards: Sequence[Definitions]) -> None:
        home = shards[0]
        super().__init__(home._connection, home._keys, home._crons)
        self._shards = shards

    def _at(self, workflow: str) -> Definitions:
        return self._shards[shard_of_name(workflow, len(self._shards))]

    async def sync(self, definitions: Sequence[AnyWorkflow], app: str, version: int | None) -> None:
        """Make Redis know exactly these workflows of the app; see `Definitions.sync`.

        Home comes first, since it decides: who is refused there has written nothing elsewhere.
        """
        for definition in definitions:
            self._crons.zones(definition)
            check_event_triggers(definition.options.event)
        contracts = contracts_of(definitions)
        names = [definition.name for definition in definitions]
        await self._each(version, [shard._remove(names, app) for shard in self._shards])
        await self._check_stored(definitions, contracts)
        for definition in definitions:
            if await self._register(definition, app, version):
                await self._subscribe(definition, contracts)
                await self._each(version, [self._settle_down(definition, app, version)])

    async def _settle_down(self, definition: AnyWorkflow, app: str, version: int | None) -> None:
        """Make a workflow known where its runs live."""
        there = self._at(definition.name)
        if there is not self._shards[0]:
            await there._register(definition, app, version)
        await there._crons.schedule(definition, version)

    async def _each(self, version: int | None, doing: Sequence[Awaitable[None]]) -> None:
        """Do things on shards. A worker goes on without one that is out of reach, and mends it when that is back."""
        for result in await asyncio.gather(*doing, return_exceptions=True):
            if isinstance(result, ConnectionError) and version is not None:
                log.warning("the registry of a shard could not be written: %s", result)
            elif isinstance(result, BaseException):
                raise result

    async def names(self) -> list[str]:
        """The registered workflows, in no order; without those that are known at home only, see `_as_it_is_there`."""
        names = await super().names()
        places = {self._at(name) for name in names} - {self._shards[0]}
        there = {name for found in await asyncio.gather(*(shard.names() for shard in places)) for name in found}
        return [name for name in names if name in there or self._at(name) is self._shards[0]]

    async def get(self, name: str) -> WorkflowMeta | None:
        """The metadata of one workflow; None if it is not registered."""
        meta = await super().get(name)
        return None if meta is None else await self._as_it_is_there(meta)

    async def all(self) -> list[WorkflowMeta]:
        """The metadata of every workflow, by name."""
        found = await asyncio.gather(*map(self._as_it_is_there, await super().all()))
        return [meta for meta in found if meta is not None]

    async def _as_it_is_there(self, meta: WorkflowMeta) -> WorkflowMeta | None:
        """With the crons of its own shard; None while it is known at home only: it can't be started yet."""
        there = self._at(meta["name"])
        if there is self._shards[0]:
            return meta
        its = await there.get(meta["name"])
        if its is not None and "cron" in its:
            meta["cron"] = its["cron"]
        return None if its is None else meta

    async def chores(self, definitions: Sequence[AnyWorkflow], app: str) -> tuple[bool, bool]:
        """(whether metadata of these workflows is missing or another's, whether cancels are to be carried on)."""
        args: list[list[Argument]] = [[app] for _ in self._shards]
        for definition in definitions:
            options, shard = definition.options, shard_of_name(definition.name, len(self._shards))
            args[0] += (definition.name, options.queue, len(options.event), 0 if shard else len(options.cron))
            if shard:
                args[shard] += (definition.name, options.queue, 0, len(options.cron))
        replies = await asyncio.gather(
            *(
                shard._connection.call(COUNT_CHORES, shard._keys.base, some)
                for shard, some in zip(self._shards, args, strict=True)
            ),
            return_exceptions=True,
        )
        told: list[list[Reply]] = []
        for reply in replies:
            if isinstance(reply, BaseException):
                log.warning("the registry of a shard could not be looked at: %s", reply)
            else:
                told.append(as_list(reply))
        return any(as_int(unlike) > 0 for unlike, _ in told), any(cascade == 1 for _, cascade in told)
