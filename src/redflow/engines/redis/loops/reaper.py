"""Takes runs from workers that let their leases run out, and gives them to others."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redflow import telemetry
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.runs import RunScripts
from redflow.errors import PoisonError, RedflowError, make_error_json

log = logging.getLogger("redflow")

DEATHS_TO_POISON = 3

_CLOCK_ERROR_MS: Final = 50
"""How far this worker's idea of the server's time may be off."""


def poison_error() -> bytes:
    """The stored error of a run that killed its holders."""
    return make_error_json(
        PoisonError(f"{DEATHS_TO_POISON} workers in a row died while they held this run, without a new step recorded")
    ).encode()


async def recover_dead_runs(
    scripts: RunScripts, clock: ServerClock, lease: Deadline, batch: int, lease_ms: int
) -> None:
    """Sleep until the next lease can run out, recover, for ever.

    After a gap (the server was out of reach, or stalled) one full lease passes first: every holder was cut off as
    well, and gets the chance to renew or to hand back before its runs are taken.
    """
    losses, slow = scripts.connection.losses, False
    error = poison_error()
    while True:
        await lease.wait()
        if slow or scripts.connection.losses != losses:
            losses = scripts.connection.losses
            await asyncio.sleep(lease_ms / 1000)
        asked_at, marked = asyncio.get_running_loop().time(), clock.mark()
        not_after = clock.now_ms() + lease_ms // 2 + _CLOCK_ERROR_MS
        try:
            now, next_lease, recovered, poisoned = await scripts.recover(batch, error, not_after)
        except RedflowError as exc:
            scripts.connection.complaints.tell("recovering runs failed: %s", exc)
            await asyncio.sleep(0.5)
            continue
        slow = now > not_after
        clock.observe(now, marked)
        lease.set(next_lease, asked_at)
        if recovered:
            telemetry.emit(telemetry.RUNS_RECOVERED, count=recovered)
            log.warning("recovered %d runs whose workers are gone", recovered)
        if poisoned:
            telemetry.emit(telemetry.RUNS_POISONED, count=poisoned)
            log.error("%d runs fail as poison: their holders died again and again", poisoned)
