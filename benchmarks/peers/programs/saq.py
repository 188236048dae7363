"""saq: a queue over Redis (or Postgres). Its own worker start; jobs are not retried unless they ask for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from saq.job import Status
from saq.queue.redis import RedisQueue

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload, config

_NO_SWEEP_S = 3600
_LISTEN_S = 0.02
_POLL_S = 0.02
"""`map` polls for the results, by default each half second."""


def _queue(url: str) -> RedisQueue:
    # Each of the worker's slots blocks on a connection of its own; redis-py would stop at 100.
    return RedisQueue(Redis.from_url(url, max_connections=1000))


async def one(ctx: dict[str, Any], *, data: Payload) -> Payload:
    """The job."""
    return work.double(data)


def settings() -> dict[str, Any]:
    """What saq's worker is started with."""
    mine = config()
    return {"queue": _queue(mine.url), "functions": [one], "concurrency": mine.concurrency}


class Client(stage.Client):
    """saq's queue; it has no bulk form, but waits for many at once."""

    async def open(self) -> None:
        self._queue = _queue(self.settings.url)
        await self._queue.connect()
        # The sweep of stuck jobs has just been done, as far as workers know. Without that a worker's first sweep finds
        # jobs that it has itself just taken and not yet begun, and aborts them.
        await self._queue.redis.setex("saq:default:sweep", _NO_SWEEP_S, 1)

    async def close(self) -> None:
        await self._queue.disconnect()

    async def start(self, kind: Kind, data: Payload) -> str:
        job = await self._queue.enqueue(kind, data=data)
        assert job is not None
        return job.key

    async def ended(self, started: int) -> int:
        return started - int(await self._queue.redis.zcard("saq:default:incomplete"))

    async def stored_output(self, run: str) -> object:
        job = await self._queue.job(run)
        if job is None or job.status != Status.COMPLETE:
            raise ValueError(f"{run} is {job and job.status}")
        return job.result

    async def trigger(self, data: Payload) -> tuple[str, object]:
        job = await self._queue.enqueue("one", data=data)
        assert job is not None
        while not job.completed:
            # It looks, then listens: an end between the two is not heard. `apply` would poll in place of listening.
            with contextlib.suppress(asyncio.TimeoutError):
                await job.refresh(until_complete=_LISTEN_S)
        return job.key, job.result

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        outputs: list[object] = await self._queue.map(
            "one", [{"data": data} for data in datas], timeout=60, poll_interval=_POLL_S
        )
        return outputs


def _worker(given: Config) -> None:
    from saq.worker import start

    loop_factory = stage.new_loop(given.loop)
    if loop_factory is not None:
        asyncio.new_event_loop = loop_factory  # saq makes its loop itself, by this name
    start("benchmarks.peers.programs.saq.settings")


if __name__ == "__main__":
    stage.main(Client, _worker)
