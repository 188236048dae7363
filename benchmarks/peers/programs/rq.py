"""rq: a queue over Redis. One job at a time a process; no asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload

_FUNCTION = "benchmarks.peers.programs.rq.one"


def one(data: Payload) -> Payload:
    """The job."""
    return work.double(data)


class Client(stage.Client):
    """rq's queue."""

    at_a_time = 1
    bulk = 1000

    async def open(self) -> None:
        self._redis = Redis.from_url(self.settings.url)
        self._queue = Queue(connection=self._redis)

    async def close(self) -> None:
        self._redis.close()

    async def start(self, kind: Kind, data: Payload) -> Job:
        return self._queue.enqueue(_FUNCTION, data)

    async def start_many(self, kind: Kind, datas: Sequence[Payload]) -> list[Job]:
        return self._queue.enqueue_many([Queue.prepare_data(_FUNCTION, (data,)) for data in datas])

    async def ended(self, started: int) -> int:
        return int(self._redis.zcard("rq:finished:default"))

    async def stored_output(self, run: Job) -> object:
        return self._output(run.latest_result())

    async def result(self, run: Job) -> object:
        return self._output(run.latest_result(timeout=60))

    @staticmethod
    def _output(found: Any) -> object:
        if found is None or found.type != found.Type.SUCCESSFUL:
            raise ValueError(f"its result is {found}")
        return found.return_value


def _worker(given: Config) -> None:
    quiet = ["--logging_level", "WARNING", "--disable-job-desc-logging"]
    stage.give_way("rq.cli", "worker", "--url", given.url, "--worker-class", "rq.SimpleWorker", *quiet)


if __name__ == "__main__":
    stage.main(Client, _worker)
