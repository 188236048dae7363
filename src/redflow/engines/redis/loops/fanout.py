"""Carries on the fan-out of events that an emitter left unfinished."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from redflow.domain.event import delivery_backoff_ms
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.events import Events
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.errors import ConnectionError, RedflowError, make_error_json

log = logging.getLogger("redflow")

_CHUNK: Final = 20


async def carry_on_fan_outs(events: Events, clock: ServerClock, due: Deadline) -> None:
    """Sleep until the next event falls due, deliver, for ever."""
    while True:
        await due.wait()
        asked_at, marked = asyncio.get_running_loop().time(), clock.mark()
        try:
            now, next_due, ids = await events.due(_CHUNK)
            for event_id in ids:
                await deliver(events, event_id)
        except RedflowError as exc:
            events.complaints.tell("the fan-out of events failed: %s", exc)
            await asyncio.sleep(0.5)
            continue
        clock.observe(now, marked)
        due.set(next_due, asked_at)


async def deliver(events: Events, event_id: str) -> None:
    """Pass over one event until it is complete; a pass that fails is put off, with its error in the record."""
    try:
        final = False
        while not final:
            final = (await events.deliver(event_id)).final
    except ConnectionError:
        raise
    except RedflowError as exc:
        this_pass = await events.passes(event_id) + 1
        await events.defer(event_id, delivery_backoff_ms(this_pass, random.randint(0, 250)), make_error_json(exc))
        log.warning("event %s could not be delivered: %s", event_id, exc)
