"""dramatiq: a queue with the Redis broker and result backend. Threads; its own worker command."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload, config

_mine = config()
_results = RedisBackend(url=_mine.url)
broker = RedisBroker(url=_mine.url)
broker.add_middleware(Results(backend=_results, store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="one")
def one(data: Payload) -> Payload:
    """The job."""
    return work.double(data)


class Client(stage.Client):
    """dramatiq's actor; it has no bulk form."""

    at_a_time = 1

    async def start(self, kind: Kind, data: Payload) -> Any:
        return one.send(data)

    async def ended(self, started: int) -> int:
        # A message goes when it is acknowledged, after its result has been stored.
        return started - int(broker.client.hlen("dramatiq:default.msgs"))

    async def stored_output(self, run: Any) -> object:
        return run.get_result(backend=_results)

    async def result(self, run: Any) -> object:
        return run.get_result(backend=_results, block=True, timeout=60_000)


def _worker(given: Config) -> None:
    options = ["--processes", "1", "--threads", str(given.concurrency), "--skip-logging"]
    stage.give_way("dramatiq", "benchmarks.peers.programs.dramatiq", *options)


if __name__ == "__main__":
    stage.main(Client, _worker)
