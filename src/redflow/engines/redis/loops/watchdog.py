"""Restarts a claimer that has fallen asleep although there is work and room for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from redflow.engines.redis.executor import Executor
from redflow.engines.redis.replies import as_int
from redflow.engines.redis.runs import RunScripts
from redflow.errors import RedflowError

log = logging.getLogger("redflow")


async def watch_claimer(
    scripts: Sequence[RunScripts],
    executor: Executor,
    queues: Sequence[str],
    restart: Callable[[], None],
    every_s: float,
    stalled_for_s: float,
) -> None:
    """For ever: restart the claimer when no claim was answered, no run held and none ended for `stalled_for_s`, and
    runs are ready.

    Redis is asked only when this worker has been quiet that long, so that an idle one costs next to nothing.
    """
    loop = asyncio.get_running_loop()
    seen, since = executor.progress, loop.time()
    while True:
        await asyncio.sleep(every_s)
        if executor.held or executor.progress != seen:
            seen, since = executor.progress, loop.time()
        elif loop.time() - since >= stalled_for_s and queues:
            since = loop.time()
            try:
                ready = [
                    count
                    for its in scripts
                    for count in await its.connection.read_many(
                        [("ZCARD", f"{its.keys.base}ready:{q}") for q in queues]
                    )
                ]
            except RedflowError as exc:
                log.debug("the watchdog could not look: %s", exc)
                continue
            if any(as_int(count) for count in ready):
                log.warning(
                    "runs are ready but this worker has claimed none for %g s: restarting its claimer", stalled_for_s
                )
                restart()
