"""Clients that kill themselves at each of their round trips to Redis in turn, while they start a flow.

Arguments: engine, Redis URL, Temporal address or "", stream, queue, prefix of the uuids. For each trip, from 1, one
client dies before it sends that command, and one after its reply has come. It prints a line for each, uuid and `killed`
or `started`, and ends with the first trip that both clients survive: they make no more of them.

Each client is a fork of this process, since starting a process for each takes long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partialmethod
from itertools import count
from unittest.mock import patch

from r7kit.config import configure
from redflow.engines.redis.link import Argument, Link
from redflow.engines.redis.replies import Reply
from tests.r7kit.redflow.flows import Doubles

Send = Callable[..., asyncio.Future[Reply]]


def die(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def use_client(queue: str, uuid: str, trip: int, when: str) -> None:
    """Start a flow, in a process that dies at its `trip`-th command."""
    trips = count(1)

    def dying(link: Link, send: Send, *args: Argument) -> asyncio.Future[Reply]:
        last = next(trips) == trip
        if last and when == "before":
            die()
        future = send(link, *args)
        if last:
            future.add_done_callback(die)
        return future

    async def start() -> None:
        await Doubles.start(uuid=uuid, payload={"input": 21}, queue=queue)

    send, send_now = partialmethod(dying, Link.send), partialmethod(dying, Link.send_now)
    with patch.object(Link, "send", send), patch.object(Link, "send_now", send_now):
        asyncio.run(start())


def killed_clients(queue: str, prefix: str) -> Iterator[tuple[str, str]]:
    """A uuid for each client, and how it ended."""
    for trip in count(1):
        ends = []
        for when in ("before", "after"):
            uuid = f"{prefix}-{trip}-{when}"
            child = os.fork()
            if child == 0:
                use_client(queue, uuid, trip, when)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            ends.append("killed" if killed else "started" if os.waitstatus_to_exitcode(status) == 0 else "failed")
            yield uuid, ends[-1]
        if ends != ["killed", "killed"]:
            return


if __name__ == "__main__":
    engine, url, address, stream, queue, prefix = sys.argv[1:]
    configure(engine=engine, redis_url=url, temporal_address=address or None, stream_default=stream)
    for uuid, end in killed_clients(queue, prefix):
        sys.stdout.write(f"{uuid} {end}\n")
        sys.stdout.flush()
