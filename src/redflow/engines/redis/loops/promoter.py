"""Moves scheduled runs into their queues when their time has come, and fails runs when their time-out has passed."""

from __future__ import annotations

import asyncio
from typing import Final

from redflow import telemetry
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.loops.pacing import Turns
from redflow.engines.redis.runs import RunScripts
from redflow.errors import RedflowError

_CHUNK: Final = 100
_TIME_OUT_CHUNK: Final = 50
"""Less, since to end a run costs several times what it takes to promote one."""


async def promote_due_runs(scripts: RunScripts, clock: ServerClock, due: Deadline) -> None:
    """Sleep until the next due time, promote in chunks, for ever."""
    turns, more = Turns(scripts.connection, scripts.keys.turn("promote")), False
    while True:
        await due.wait()
        try:
            if more:
                await turns.take()
            asked_at, marked = asyncio.get_running_loop().time(), clock.mark()
            now, next_due, promoted = await scripts.promote(_CHUNK)
            timed_out = 0
            if next_due is not None and next_due <= now:  # more than a chunk was due, or a time-out is
                now, next_due, timed_out = await scripts.time_out(_TIME_OUT_CHUNK)
        except RedflowError as exc:
            scripts.connection.complaints.tell("promoting due runs failed: %s", exc)
            await asyncio.sleep(0.5)
            continue
        clock.observe(now, marked)
        due.set(next_due, asked_at)
        more = next_due is not None and next_due <= now
        if promoted:
            telemetry.emit(telemetry.RUNS_PROMOTED, count=promoted)
        if timed_out:
            telemetry.emit(telemetry.RUNS_TIMED_OUT, count=timed_out)
