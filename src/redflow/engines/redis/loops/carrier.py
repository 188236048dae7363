"""Brings entries from shard to shard, and looks after what no worker of a shard would see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from redflow.engines.redis.definitions import QUIET_MS
from redflow.engines.redis.link import Argument
from redflow.engines.redis.loops.registrar import UNREGISTER_WORKER
from redflow.engines.redis.outgoing import Outgoing
from redflow.engines.redis.replies import as_int
from redflow.engines.redis.runs import SERVER_TIME, RunScripts
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

CHECK_EVERY_S: Final = 5.0
"""How late an entry is found whose ring was lost, and a lock is audited."""
_LATER_S: Final = 0.02
"""So that an entry which somebody else has taken is looked at when it is due, not just before."""
_LAST_DELIVERY_S: Final = 1.0
STRAYS_EVERY_S: Final = 30.0


class Carrier:
    """Delivers the entries of one shard, when it is rung and now and then by itself.

    Args:
        outgoing: what crosses shards.
        shard: whose entries it brings away.
        worker: id of this worker.
    """

    def __init__(self, outgoing: Outgoing, shard: int, worker: str) -> None:
        self._outgoing = outgoing
        self._shard = shard
        self._worker = worker
        self._rung = asyncio.Event()
        self._flight: asyncio.Task[float | None] | None = None

    def ring(self) -> None:
        """There is an entry."""
        self._rung.set()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self._rung.clear()
            pause_s = CHECK_EVERY_S
            try:
                # Shielded: entries that were taken and not brought would wait for the end of their lease.
                delivery = self._outgoing.deliver(self._shard, self._worker)
                self._flight = asyncio.get_running_loop().create_task(delivery)
                left_s = await asyncio.shield(self._flight)
                pause_s = pause_s if left_s is None else min(pause_s, left_s + _LATER_S)
            except RedflowError as exc:
                log.warning("the entries of shard %d could not be taken: %s", self._shard, exc)
                await asyncio.sleep(0.5)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._rung.wait()

    async def end(self) -> None:
        """After the loop was cancelled: wait for the delivery that is under way, and be rung no more."""
        if self._flight is not None and not self._flight.done():
            await asyncio.wait({self._flight}, timeout=_LAST_DELIVERY_S)
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)
            await self._outgoing.forget(self._shard, self._worker)


async def look_for_strays(
    shards: Sequence[RunScripts],
    serves: Callable[[int], bool],
    worker: str,
    queues: Sequence[str],
    register: Callable[[int], Awaitable[None]],
    lease_ms: int,
) -> None:
    """For ever: have runs set aside that are ready in our queues on shards where no workflow of ours lives.

    Their workflow is unknown here; if it is so everywhere, they are to fail, as on a prefix of one shard.
    """
    while True:
        for shard, scripts in enumerate(shards):
            if serves(shard) or not queues:
                continue
            try:
                ready = [f"{scripts.keys.base}ready:{queue}" for queue in queues]
                if as_int(await scripts.connection.read("EXISTS", *ready)):
                    await register(shard)
                    await scripts.claim(worker, f"{worker}.strays", lease_ms, 1, queues)
                    goodbye: tuple[Argument, ...] = (SERVER_TIME, worker, QUIET_MS, *queues)
                    await scripts.connection.call(UNREGISTER_WORKER, scripts.keys.base, goodbye)
            except RedflowError as exc:
                log.debug("shard %d could not be looked at for strays: %s", shard, exc)
        await asyncio.sleep(STRAYS_EVERY_S)
