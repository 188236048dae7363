"""Runs of one mutex key: whether two ever overlap, how long the hand-over takes, and what it asks of the server.

Two worker processes. Each run stays in its section for 1 ms and gives back when it came in and when it left, by the
monotonic clock that all processes of the machine share; a hand-over is the time from one's leaving to the next one's
coming. All runs are started first, so that they stand in line.

Then a shorter pass with the line at rest behind a holder that stays: what the workers ask of the server meanwhile
(nobody polls), and what each hand-over costs (told by MONITOR). Canceling the holder sets the line going.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from benchmarks import crowds
from benchmarks.bench import Bench, Benchmark, main
from benchmarks.counting import Watched, watching
from benchmarks.harness import BenchmarkError, Settings, percentile
from benchmarks.load import all_ended
from benchmarks.waiters import start_many
from redflow import RedflowClient, RunHandle
from redflow.engines.redis.keys import Keys
from redflow.types import JsonData
from tests.support.world import eventually

_WORKERS: Final = 2
_STAY_MS: Final = 1.0
_FOREVER_MS: Final = 3_600_000.0
_REST_S: Final = 1.5
_LOOK: Final = "ZCARD"
"""The command by which this benchmark looks at the line; workers never send it by itself."""
_READ_AT_A_TIME: Final = 200


async def measure(bench: Bench) -> None:
    """`n` runs on one key; then a tenth of them behind a holder that stays for `seconds`."""
    for _ in range(bench.settings.reps):
        await _hand_overs(bench)
        await _price(bench)
    bench.figures.note(f"{_WORKERS} worker processes; each run stays in its section for {_STAY_MS:g} ms.")


async def _hand_overs(bench: Bench) -> None:
    n = bench.settings.n
    async with bench.world(crowds.REGISTRY) as client:
        handles = await start_many(client, crowds.EXCLUSIVE.name, [_STAY_MS] * n)
        async with AsyncExitStack() as stack:
            await _start_workers(bench, client, stack)
            await all_ended(client, n)
        visits = await _visits(client, handles)
    waits = [after[0] - before[1] for before, after in itertools.pairwise(visits)]
    times = [wait / 1e6 for wait in waits]
    bench.figures.add("overlaps", sum(wait < 0 for wait in waits), "runs")
    bench.figures.add("hand-over p50", percentile(times, 0.5), "ms")
    bench.figures.add("hand-over p99", percentile(times, 0.99), "ms")
    bench.figures.add("hand-over, longest", max(times), "ms")
    bench.figures.add("from the first to the last", (visits[-1][1] - visits[0][0]) / 1e9, "s")


async def _price(bench: Bench) -> None:
    n, seconds = max(1, bench.settings.n // 10), bench.settings.seconds
    rest_s = min(_REST_S, seconds)
    async with bench.world(crowds.REGISTRY) as client, AsyncExitStack() as stack:
        await _start_workers(bench, client, stack)
        [holder] = await start_many(client, crowds.EXCLUSIVE.name, [_FOREVER_MS])
        await eventually(lambda: _running(client), "the holder runs", until=(1).__eq__)
        await start_many(client, crowds.EXCLUSIVE.name, [_STAY_MS] * n)
        line = f"{Keys.of(client.prefix).base}mutexline:{crowds.MUTEX_KEY}"

        async def length() -> int:
            return int(await bench.redis.zcard(line))

        await eventually(length, f"{n} runs in line", until=n.__eq__, timeout_s=60)
        await asyncio.sleep(rest_s)
        async with watching(bench.redis) as idle:
            await asyncio.sleep(seconds)
        async with watching(bench.redis) as busy:  # from before the first hand-over, so that all n are counted
            await client.cancel_run(holder.id)
            await eventually(length, "the end of the line", until=(0).__eq__, timeout_s=120)
        await all_ended(client, n + 1)
    bench.figures.add("while the line stands: commands of each worker", _sent(idle) / seconds / _WORKERS, "commands/s")
    bench.figures.add("commands", _sent(busy) / n, "per hand-over")
    bench.figures.add("commands inside scripts", busy.inside_scripts / n, "per hand-over")
    for name, calls in busy.top_level.most_common():
        if calls / n >= 0.1 and name != _LOOK:
            bench.figures.add(f"  {name}", calls / n, "per hand-over")


async def _running(client: RedflowClient) -> int:
    return (await client.get_stats())["by_status"]["running"]


async def _start_workers(bench: Bench, client: RedflowClient, stack: AsyncExitStack) -> None:
    for _ in range(_WORKERS):
        worker = await stack.enter_async_context(bench.worker(client, bench.settings.concurrency, crowds.MODULE))
        await worker.start()


async def _visits(client: RedflowClient, handles: Sequence[RunHandle[JsonData]]) -> list[tuple[int, int]]:
    """When each run came in and left, ns, in the order of coming."""
    visits: list[tuple[int, int]] = []
    for start in range(0, len(handles), _READ_AT_A_TIME):
        for state in await asyncio.gather(*[h.get_state() for h in handles[start : start + _READ_AT_A_TIME]]):
            if state is None or state["status"] != "succeeded" or state["attempt"] != 1:
                raise BenchmarkError(f"a run did not succeed at once: {state}")
            entered, left = state["output"]
            visits.append((entered, left))
    return sorted(visits)


def _sent(seen: Watched) -> int:
    return seen.top_level.total() - seen.top_level[_LOOK]


BENCHMARK: Final = Benchmark(
    name="mutex",
    title="runs of one mutex key: overlaps, hand-overs, and what they ask of the server",
    measure=measure,
    full=Settings(n=10_000, reps=3, seconds=5),
    short=Settings(n=1_000, reps=1, seconds=2),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
