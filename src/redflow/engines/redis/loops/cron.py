"""Fires cron triggers: every worker is at it, and of all of them one fires a tick."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redflow import telemetry
from redflow.domain.run import public_run_id
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.crons import MOST_DUE, Crons, DueCron
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

_PAUSE_MS: Final = 5_000


async def fire_crons(crons: Crons, clock: ServerClock, due: Deadline) -> None:
    """Sleep until the next tick, fire it unless another worker was first, for ever."""
    while True:
        await due.wait()
        asked_at, marked = asyncio.get_running_loop().time(), clock.mark()
        try:
            now, following = await fire_due(crons)
        except RedflowError as exc:
            crons.complaints.tell("firing cron triggers failed: %s", exc)
            await asyncio.sleep(0.5)
            continue
        clock.observe(now, marked)
        due.set(following, asked_at)


async def fire_due(crons: Crons) -> tuple[int, int | None]:
    """Fire all that is due; (the server's time when it was looked up, when something falls due next)."""
    now, following, found = await crons.due(MOST_DUE)
    stuck = False
    for cron in found:
        try:
            code, turn, following = await crons.fire(cron, now)
        except ValueError as exc:
            log.error("cron trigger %s can't be fired by this worker: %s", cron.trigger, exc)
            stuck = True
            continue
        _tell(crons, cron, code, turn.fires, turn.missed)
    # One that this worker can't fire stays due: look again later, others may know its time zone.
    return now, max(following or 0, now + _PAUSE_MS) if stuck else following


def _tell(crons: Crons, cron: DueCron, code: str, fires: int | None, missed: int) -> None:
    if code in ("fired", "skipped") and fires is not None:
        telemetry.emit(
            telemetry.CRON_TICK,
            trigger=cron.trigger,
            tick=fires,
            outcome=code,
            run_id=public_run_id(crons.run_id(cron.trigger, fires)) if code == "fired" else None,
        )
    if code in ("fired", "skipped", "missed") and missed:
        log.warning("cron trigger %s missed %d ticks from %d on: no worker was there", cron.trigger, missed, cron.due)
    if code == "unknown_workflow":
        log.warning("cron trigger %s has no registered workflow any more; it starts nothing", cron.trigger)
