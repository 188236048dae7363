"""arq: a queue over Redis. Worker by its own command; jobs are not retried unless they ask for it."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import run_worker

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload

_POLL_S = 0.01
"""arq's worker and its clients poll; by default each half second. This is the best that is reasonable."""


async def one(ctx: dict[str, Any], data: Payload) -> Payload:
    """The job."""
    return work.double(data)


class Client(stage.Client):
    """arq's pool; it has no bulk form."""

    async def open(self) -> None:
        self._pool = await create_pool(RedisSettings.from_dsn(self.settings.url))

    async def close(self) -> None:
        await self._pool.aclose()

    async def start(self, kind: Kind, data: Payload) -> str:
        job = await self._pool.enqueue_job(kind, data)
        assert job is not None
        return job.job_id

    async def ended(self, started: int) -> int:
        # A job leaves the queue in the transaction that stores its result.
        return started - int(await self._pool.zcard("arq:queue"))

    async def stored_output(self, run: str) -> object:
        info = await Job(run, self._pool).result_info()
        if info is None or not info.success:
            raise ValueError(f"{run} is {info}")
        return info.result

    async def result(self, run: str) -> object:
        return await Job(run, self._pool).result(timeout=60, poll_delay=_POLL_S)


def _worker(settings: Config) -> None:
    loop_factory = stage.new_loop(settings.loop)
    if loop_factory is not None:
        import asyncio

        asyncio.set_event_loop(loop_factory())
    run_worker(
        {
            "functions": [one],
            "redis_settings": RedisSettings.from_dsn(settings.url),
            "max_jobs": settings.concurrency,
            "poll_delay": _POLL_S,
        }
    )


if __name__ == "__main__":
    stage.main(Client, _worker)
