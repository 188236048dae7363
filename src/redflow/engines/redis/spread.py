"""What a worker of a prefix of several shards does on each of them: where it claims, what it carries on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from redflow.definitions import AnyWorkflow
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.loops.carrier import Carrier
from redflow.engines.redis.loops.claimer import Claimer
from redflow.engines.redis.loops.shard_claimer import ShardClaimer
from redflow.engines.redis.runs import RunScripts
from redflow.engines.redis.sharded_engine import ShardedEngine
from redflow.engines.redis.site import Site

C = TypeVar("C", bound=Claimer)


class MakeClaimer(Protocol):
    """Makes the claimer of a shard."""

    def __call__(self, site: Site, kind: type[C]) -> C:
        """A claimer of this kind."""
        ...


class Spread:
    """The shards of one prefix as a worker uses them.

    Args:
        engine: of the prefix.
        sites: its shards.
        workflows: the registry's present content.
    """

    def __init__(
        self, engine: ShardedEngine, sites: Sequence[Site], workflows: Callable[[], Sequence[AnyWorkflow]]
    ) -> None:
        self.engine = engine
        self._sites = sites
        self._workflows = workflows
        self._names: list[str] = []
        self._served: frozenset[int] = frozenset()

    def serves(self, shard: int) -> bool:
        """Whether workflows of this worker live on a shard."""
        names = [definition.name for definition in self._workflows()]
        if names != self._names:
            self._names, self._served = names, frozenset(map(self.engine.shard_of, names))
        return shard in self._served

    def elsewhere(self) -> list[tuple[RunScripts, ServerClock]]:
        """Scripts and clock of the shards besides home on which workflows of this worker live."""
        return [(site.scripts, site.clock) for shard, site in enumerate(self._sites) if shard and self.serves(shard)]

    async def carry_cancels_on(self) -> None:
        """Cancel the children of canceled runs on all shards."""
        for shard in range(len(self._sites)):
            await self.engine.outgoing.carry_cancels_on(shard)


def claimers_of(sites: Sequence[Site], spread: Spread | None, make: MakeClaimer) -> list[Claimer]:
    """The claimer of each shard; those of several share the slots of their worker."""
    if spread is None:
        return [make(site, Claimer) for site in sites]
    claimers: list[ShardClaimer] = []
    for shard, site in enumerate(sites):
        claimer = make(site, ShardClaimer)
        claimer.join(claimers, partial(spread.serves, shard))
    return list(claimers)


def carriers_of(spread: Spread, shards: int, worker: str) -> list[Carrier]:
    """What brings the entries of each shard away."""
    return [Carrier(spread.engine.outgoing, shard, worker) for shard in range(shards)]
