"""Moves scheduled runs into their queues when their time has come."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redflow import telemetry
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.runs import RunScripts
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

_CHUNK: Final = 200


async def promote_due_runs(scripts: RunScripts, clock: ServerClock, due: Deadline) -> None:
    """Sleep until the next due time, promote in chunks, for ever."""
    while True:
        await due.wait()
        asked_at = asyncio.get_running_loop().time()
        try:
            now, next_due, promoted = await scripts.promote(_CHUNK)
        except RedflowError as exc:
            log.warning("promoting due runs failed: %s", exc)
            await asyncio.sleep(0.5)
            continue
        clock.observe(now)
        due.set(next_due, asked_at)
        if promoted:
            telemetry.emit(telemetry.RUNS_PROMOTED, count=promoted)
