"""celery: a queue with Redis as broker and result backend. Its own worker command."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from redis.asyncio import Redis

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload, config

_mine = config()
app = Celery("benchmark", broker=_mine.url, backend=_mine.url)
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task(name="one")
def one(data: Payload) -> Payload:
    """The job."""
    return work.double(data)


class Client(stage.Client):
    """celery's task; it has no bulk form."""

    at_a_time = 1

    async def open(self) -> None:
        self._redis = Redis.from_url(self.settings.url)

    async def close(self) -> None:
        await self._redis.aclose()

    async def start(self, kind: Kind, data: Payload) -> Any:
        return one.delay(data)

    async def ended(self, started: int) -> int:
        return await stage.count_results(self._redis, "celery-task-meta-", started)

    async def stored_output(self, run: Any) -> object:
        meta = app.backend.get_task_meta(run.id)
        if meta["status"] != "SUCCESS":
            raise ValueError(f"{run.id} is {meta['status']}")
        return meta["result"]

    async def result(self, run: Any) -> object:
        return run.get(timeout=60)


def _worker(given: Config) -> None:
    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    name = f"worker-{os.getpid()}@%h"  # two of the same name would talk to each other
    pool = ["--pool", "threads", "--concurrency", str(given.concurrency), "--hostname", name]
    stage.give_way("celery", "--app", "benchmarks.peers.programs.celery", "worker", *pool, *quiet)


if __name__ == "__main__":
    stage.main(Client, _worker)
