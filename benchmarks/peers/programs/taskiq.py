"""taskiq: a queue with the Redis Streams broker and the Redis result backend. Its own worker command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload, config

_RESULTS = "result"
_POLL_S = 0.005
_POLL_MANY_S = 0.02
"""taskiq's clients poll for results, each 200 ms by default; a hundred who poll often would be in their own way."""

_mine = config()
broker = RedisStreamBroker(_mine.url).with_result_backend(RedisAsyncResultBackend(_mine.url, prefix_str=_RESULTS))


@broker.task(task_name="one")
async def one(data: Payload) -> Payload:
    """The job."""
    return work.double(data)


class Client(stage.Client):
    """taskiq's broker; it has no bulk form."""

    async def open(self) -> None:
        await broker.startup()
        self._redis = Redis.from_url(self.settings.url)

    async def close(self) -> None:
        await self._redis.aclose()
        await broker.shutdown()

    async def start(self, kind: Kind, data: Payload) -> Any:
        return await one.kiq(data)

    async def ended(self, started: int) -> int:
        return await stage.count_results(self._redis, f"{_RESULTS}:", started)

    async def stored_output(self, run: Any) -> object:
        found = await run.get_result()
        if found.is_err:
            raise ValueError(f"{run.task_id} failed: {found.error}")
        return found.return_value

    async def result(self, run: Any) -> object:
        return (await run.wait_result(check_interval=_POLL_S, timeout=60)).return_value

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        runs = await self.start_all("one", datas)
        waits = [run.wait_result(check_interval=_POLL_MANY_S, timeout=60) for run in runs]
        return [found.return_value for found in await asyncio.gather(*waits)]


def _worker(given: Config) -> None:
    name = "benchmarks.peers.programs.taskiq:broker"
    options = ["--workers", "1", "--max-async-tasks", str(given.concurrency), "--log-level", "WARNING"]
    stage.give_way("taskiq", "worker", name, *options)


if __name__ == "__main__":
    stage.main(Client, _worker)
