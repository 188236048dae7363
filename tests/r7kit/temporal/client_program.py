"""A client that dies at a point of a start. Its argument is JSON: url, address, stream, queue, uuid, die_at.

`die_at`: `created` (the record is written, the flow not started), `started` (the flow is started, the client has not
confirmed), or "" for a client that lives.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from r7kit import config
from r7kit.records.store import TaskStore
from r7kit.runtimes.temporal.engine import TemporalEngine
from tests.r7kit.temporal.flows import Child


def die(*args: object) -> None:
    """As kill -9 does it."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    """Start one flow."""
    told = json.loads(sys.argv[1])
    config.configure(redis_url=told["url"], temporal_address=told["address"], stream_default=told["stream"])
    if told["die_at"] == "created":
        TemporalEngine.start = die  # type: ignore[method-assign, assignment]
    if told["die_at"] == "started":
        TaskStore.confirm = die  # type: ignore[method-assign, assignment]
    await Child.start(uuid=told["uuid"], payload={"given": 1}, queue=told["queue"])


if __name__ == "__main__":
    asyncio.run(main())
