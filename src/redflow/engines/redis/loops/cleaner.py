"""Removes finished runs and ended events whose retention is over, and fails runs that no worker has known for long."""

from __future__ import annotations

import asyncio
from typing import Final

from redflow.engines.redis.events import Events
from redflow.engines.redis.loops.pacing import Turns
from redflow.engines.redis.replies import as_bytes, as_list
from redflow.engines.redis.runs import RunScripts
from redflow.errors import RedflowError, UnknownWorkflowError, make_error_json

_CHUNK: Final = 100
STRAY_PATIENCE_MS: Final = 600_000
"""How long a run whose workflow nobody knows is kept for a worker that does, ms (spec 6.1)."""


async def clean_up(scripts: RunScripts, events: Events | None, every_s: float) -> None:
    """Clean up at once and then at each interval, for ever; events are at home only."""
    turns = Turns(scripts.connection, scripts.keys.turn("purge"))
    while True:
        try:
            for purge in (scripts.purge, *(() if events is None else (events.purge,))):
                while await purge(None, _CHUNK) == _CHUNK:
                    await turns.take()
            await fail_unknown(scripts, STRAY_PATIENCE_MS)
        except RedflowError as exc:
            scripts.connection.complaints.tell("cleaning up failed: %s", exc)
        await asyncio.sleep(every_s)


async def fail_unknown(scripts: RunScripts, patience_ms: int) -> int:
    """Fail the runs whose workflow was unknown everywhere for `patience_ms`; how many."""
    failed = 0
    names = as_list(await scripts.connection.read("ZRANGE", scripts.keys.strays, 0, 49))
    for name in names:
        length, rest = as_bytes(name).split(b":", 1)
        queue, workflow = rest[: int(length)], rest[int(length) + 1 :]
        error = make_error_json(UnknownWorkflowError(workflow.decode(errors="replace"))).encode()
        failed += await scripts.fail_strays(queue, workflow, patience_ms, _CHUNK, error)
    return failed
