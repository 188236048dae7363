"""One shard as a worker sees it: its scripts, its time, and when something falls due there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from redflow.domain.shards import shard_of_run
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.engine import RedisEngine
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.replies import as_int, as_list
from redflow.engines.redis.runs import Lease, RunScripts
from redflow.errors import RedflowError

log = logging.getLogger("redflow")


class Site:
    """A shard; a prefix has one, unless it is spread over several.

    Args:
        engine: of the shard.
        lease_s: after which time at the latest leases are looked at, seconds.
    """

    def __init__(self, engine: RedisEngine, lease_s: float) -> None:
        self.engine = engine
        self.scripts = engine.scripts
        self.keys = engine.keys
        self.clock = ServerClock()
        self.due = Deadline(self.clock, 60.0)
        self.ticks = Deadline(self.clock, 30.0)
        self.lease = Deadline(self.clock, lease_s)

    async def know_time(self) -> None:
        """Wait until the time of this shard is known."""
        while not self.clock.known:
            marked = self.clock.mark()
            try:
                seconds, micros = as_list(await self.scripts.connection.read("TIME"))
                self.clock.observe(as_int(seconds) * 1000 + as_int(micros) // 1000, marked)
            except RedflowError as exc:
                log.warning("the time of shard %d can't be asked: %s", self.keys.shard, exc)
                await asyncio.sleep(0.5)


def by_shard(leases: Sequence[Lease], shards: int) -> dict[int, list[Lease]]:
    """The leases of each shard that has some."""
    if shards == 1:
        return {0: list(leases)} if leases else {}
    found: dict[int, list[Lease]] = {}
    for lease in leases:
        found.setdefault(shard_of_run(lease.run_id), []).append(lease)
    return found


async def release(scripts: Sequence[RunScripts], leases: Sequence[Lease], *, patience_s: float) -> None:
    """Hand runs back, each on its shard."""
    for shard, some in by_shard(leases, len(scripts)).items():
        await scripts[shard].release(some, patience_s=patience_s)
