"""streaq: a queue over Redis Streams. Tasks are tried three times; a lost worker's tasks go to another one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from streaq import Worker

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload, config

_mine = config()
worker: Worker[Any] = Worker(
    redis_url=_mine.url,
    redis_kwargs={"max_connections": 300},  # each wait for a result takes one
    concurrency=_mine.concurrency,
    anyio_kwargs={"use_uvloop": _mine.loop == "uvloop"},
)


@worker.task
async def one(data: Payload) -> Payload:
    """The job."""
    return work.double(data)


class Client(stage.Client):
    """The same object as the worker, as streaq has it."""

    bulk = 1000

    async def open(self) -> None:
        self._open = AsyncExitStack()
        await self._open.enter_async_context(worker)

    async def close(self) -> None:
        await self._open.aclose()

    async def start(self, kind: Kind, data: Payload) -> Any:
        return await one.enqueue(data)

    async def start_many(self, kind: Kind, datas: Sequence[Payload]) -> list[Any]:
        tasks = [one.enqueue(data) for data in datas]
        await worker.enqueue_many(tasks)
        return tasks

    async def ended(self, started: int) -> int:
        return int(await worker.redis.zcard(worker._results_set))

    async def stored_output(self, run: Any) -> object:
        # What `result` reads, without the subscription that it takes before.
        found = await worker.deserialize(await worker.redis.get(worker.results_key + run.id))
        if not found["s"]:
            raise ValueError(f"{run.id} failed: {found['r']}")
        return found["r"]

    async def result(self, run: Any) -> object:
        return (await run.result(timeout=timedelta(seconds=60))).result


def _worker(given: Config) -> None:
    worker.run_sync()


if __name__ == "__main__":
    stage.main(Client, _worker)
