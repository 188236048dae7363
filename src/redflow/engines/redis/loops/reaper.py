"""Takes runs from workers that let their leases run out, and gives them to others."""

from __future__ import annotations

import asyncio
import logging

from redflow import telemetry
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.runs import RunScripts
from redflow.errors import PoisonError, RedflowError, make_error_json

log = logging.getLogger("redflow")

DEATHS_TO_POISON = 3


def poison_error() -> bytes:
    """The stored error of a run that killed its holders."""
    return make_error_json(
        PoisonError(f"{DEATHS_TO_POISON} workers in a row died while they held this run, without a new step recorded")
    ).encode()


async def recover_dead_runs(
    scripts: RunScripts, clock: ServerClock, lease: Deadline, batch: int, lease_ms: int
) -> None:
    """Sleep until the next lease can run out, recover, for ever.

    After a gap (the server was out of reach) one full lease passes first: every holder was cut off as well, and
    gets the chance to renew before its runs are taken.
    """
    losses = scripts.connection.losses
    error = poison_error()
    while True:
        await lease.wait()
        if scripts.connection.losses != losses:
            losses = scripts.connection.losses
            await asyncio.sleep(lease_ms / 1000)
        asked_at = asyncio.get_running_loop().time()
        try:
            now, next_lease, recovered, poisoned = await scripts.recover(batch, error)
        except RedflowError as exc:
            log.warning("recovering runs failed: %s", exc)
            await asyncio.sleep(0.5)
            continue
        clock.observe(now)
        lease.set(next_lease, asked_at)
        if recovered:
            telemetry.emit(telemetry.RUNS_RECOVERED, count=recovered)
            log.warning("recovered %d runs whose workers are gone", recovered)
        if poisoned:
            telemetry.emit(telemetry.RUNS_POISONED, count=poisoned)
            log.error("%d runs fail as poison: their holders died again and again", poisoned)
