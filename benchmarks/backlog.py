"""What a backlog costs: claims and draining with few and with very many runs queued. Two servers, one for each depth.

Claims: one after another, in turn on both servers, a batch of 100 and a single run, seen by the caller. What was
claimed is settled and as many runs are created, so that the backlog stays as deep as it was.

Draining: what is timed is a fixed number of runs, DRAINED, by one worker process, from the first start to the end of
the last of them by the server's clock: once out of SHALLOW more than these, so that 1,000 are queued when it is over,
and once out of DEEP more, so that 100,000 still are. Both backlogs are then drained to the end, which is timed as
well. All of the DRAINED are read back.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.bulk import Loader, create_runs
from benchmarks.counting import server_cpu_s, used_memory
from benchmarks.harness import BenchmarkError, Settings, percentile
from benchmarks.load import all_ended, check_one_step, read_back
from benchmarks.workflows import ONE_STEP
from redflow import RedflowClient
from redflow.domain.run import public_run_id
from redflow.engines.redis.keys import Keys
from tests.support.servers import ServerKind, ServerOptions, ServerProcess

SHALLOW: Final = 1_000
DEEP = 100_000
"""Runs that stay queued behind those that are timed; tests take fewer."""
DRAINED = 20_000
"""How many runs are timed; tests take fewer."""
_TURNS: Final = {100: 600, 1: 3_000}
"""How often a batch of a size is claimed on each server, in a repetition of full length."""
_FULL_SECONDS: Final = 60.0
_WARM_UP: Final = 20


async def measure(bench: Bench) -> None:
    """Claims beside `n` queued runs, then the drains; `seconds` beside 60 says how much is claimed."""
    async with second_server(bench) as other:
        async with bench.world() as shallow, other.world() as deep:
            await create_runs(shallow, ONE_STEP.name, SHALLOW)
            before, started = await used_memory(other.redis), time.perf_counter()
            await create_runs(deep, ONE_STEP.name, bench.settings.n)
            bench.figures.add("filling", bench.settings.n / (time.perf_counter() - started), "runs/s")
            bench.figures.add("a queued run", (await used_memory(other.redis) - before) / bench.settings.n, "bytes")
            for _ in range(bench.settings.reps):
                for want in _TURNS:
                    await _claims(bench, want, shallow, deep)
        for rep in range(bench.settings.reps):
            rates = {}
            for where, depth in ((bench, SHALLOW), (other, DEEP))[:: 1 if rep % 2 == 0 else -1]:
                rates[depth] = await _drain(bench, where, depth)
            bench.figures.add("drain: deep beside shallow", rates[DEEP] / rates[SHALLOW], "times shallow")
    bench.figures.note(f"Drains: {DRAINED:,} runs are timed, with {SHALLOW:,} more queued behind them and {DEEP:,};")
    bench.figures.note("their outputs and step records were read back.")


@asynccontextmanager
async def second_server(bench: Bench) -> AsyncIterator[Bench]:
    """The same stage on a server of its own, of the kind that the benchmark's settings name."""
    with ServerProcess(ServerKind(bench.settings.server), ServerOptions()) as server:
        async with Redis.from_url(server.url) as redis:
            yield Bench(bench.settings, server.url, redis)


# --- claims ---------------------------------------------------------------------------------------------------------


async def _claims(bench: Bench, want: int, shallow: RedflowClient, deep: RedflowClient) -> None:
    worlds = [(client, await Loader.register(client, ONE_STEP.name)) for client in (shallow, deep)]
    times: list[list[float]] = [[], []]
    turns = max(_WARM_UP, round(_TURNS[want] * bench.settings.seconds / _FULL_SECONDS))
    for turn in range(turns + _WARM_UP):
        for (client, loader), taken in zip(worlds, times, strict=True):
            started = time.perf_counter()
            runs = await loader.claim(want)
            elapsed = (time.perf_counter() - started) * 1000
            if len(runs) != want:
                raise BenchmarkError(f"a claim of {want} took {len(runs)} runs")
            if turn >= _WARM_UP:
                taken.append(elapsed)
            await loader.settle(runs)
            await create_runs(client, ONE_STEP.name, want)
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        few, many = (percentile(taken, share) for taken in times)
        bench.figures.add(f"claim of {want}: {what}, {SHALLOW:,} queued", few, "ms")
        bench.figures.add(f"claim of {want}: {what}, n queued", many, "ms")
        bench.figures.add(f"claim of {want}: {what}, n beside {SHALLOW:,}", many / few, "times")


# --- drains ---------------------------------------------------------------------------------------------------------


async def _drain(bench: Bench, where: Bench, depth: int) -> float:
    """Drain all of DRAINED + `depth` runs; runs/s of the first DRAINED."""
    total = DRAINED + depth
    async with where.world() as client, where.worker(client, bench.settings.concurrency) as worker:
        ids = await create_runs(client, ONE_STEP.name, total)
        server_s, worker_s = await server_cpu_s(where.redis), await worker.cpu_s()
        await worker.start()
        await all_ended(client, total)
        server_s, worker_s = await server_cpu_s(where.redis) - server_s, await worker.cpu_s() - worker_s
        await worker.stop()
        ended = _Ended(client)
        rate, whole = await ended.rate(DRAINED), await ended.rate(total)
        await _check(client, ids, await ended.first(DRAINED))
    name = "shallow" if depth == SHALLOW else "deep"
    bench.figures.add(f"drain: {name}", rate, "runs/s")
    bench.figures.add(f"drain: {name}, to the end", whole, "runs/s")
    bench.figures.add(f"drain: {name}, server CPU", server_s / total * 1e6, "µs/run")
    bench.figures.add(f"drain: {name}, worker CPU", worker_s / total * 1e6, "µs/run")
    return rate


class _Ended:
    """The runs of a prefix in the order in which they ended: its only list of ended runs."""

    def __init__(self, client: RedflowClient) -> None:
        self._client = client
        self._base = Keys.of(client.prefix).base
        self._list = f"{self._base}expiry:{client.run_history_retention_ms}"

    async def first(self, count: int) -> list[str]:
        """Stored ids of the first that ended."""
        found = await self._client.connection.read("LRANGE", self._list, 0, count - 1)
        assert isinstance(found, list)
        return [run_id.decode() for run_id in found if isinstance(run_id, bytes)]

    async def rate(self, count: int) -> float:
        """Runs a second from the first start to the end of the last of the first `count`."""
        beginning = await self.first(200)
        starts = [await self._time(run_id, "t") for run_id in beginning]
        last = await self._client.connection.read("LINDEX", self._list, count - 1)
        if not isinstance(last, bytes):
            raise BenchmarkError(f"less than {count} runs have ended")
        return count / ((await self._time(last.decode(), "f") - min(starts)) / 1000)

    async def _time(self, run_id: str, field: str) -> int:
        found = await self._client.connection.read("HGET", f"{self._base}run:{run_id}", field)
        assert isinstance(found, bytes)
        return int(found)


async def _check(client: RedflowClient, ids: list[str], ended: list[str]) -> None:
    numbers = {run_id: number for number, run_id in enumerate(ids)}
    drained = sorted(numbers[public_run_id(run_id)] for run_id in ended)
    chosen = [ids[number] for number in drained]
    await read_back(client, chosen, lambda k, *found: check_one_step(drained[k], *found))


BENCHMARK: Final = Benchmark(
    name="backlog",
    title="claims and drains with 1,000 runs queued, with 100,000 and with n",
    measure=measure,
    full=Settings(n=1_000_000, reps=5),
    short=Settings(n=20_000, reps=1, seconds=3),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
