"""Whether runs that may not start yet stand in the way of others: B beside 1,000 blocked runs of A in the same queue.

For each of mutex, max_concurrency and throttle: one run of A is let through and stays, all others are blocked by it.
Then runs of B are started one after another, from trigger to result, in turn with the same on a prefix of its own where
nothing is blocked: rounds of some runs each, so that a disturbance of the machine meets both. One worker process each.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from benchmarks import crowds
from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Settings, percentile
from benchmarks.waiters import start_many
from redflow import RedflowClient
from tests.support.world import eventually

_STAY_MS: Final = 600_000.0
BLOCKED = 1_000
"""Runs of A that are blocked; tests take fewer."""
_WARM_UP: Final = 20
_ROUND: Final = 25


async def measure(bench: Bench) -> None:
    """`n` runs of B alone and `n` behind the blocked runs, for each way of blocking."""
    for _ in range(bench.settings.reps):
        async with (
            bench.world(crowds.REGISTRY) as free,
            bench.worker(free, bench.settings.concurrency, crowds.MODULE) as worker,
        ):
            await worker.start()
            for block in crowds.BLOCKS:
                await _measure(bench, block, free)


async def _measure(bench: Bench, block: str, free: RedflowClient) -> None:
    async with (
        bench.world(crowds.REGISTRY) as crowded,
        bench.worker(crowded, bench.settings.concurrency, crowds.MODULE) as worker,
    ):
        await worker.start()
        workflow = f"blocked by {block}"
        [holder] = await start_many(crowded, workflow, [_STAY_MS])
        await eventually(lambda: _running(crowded), "the holder runs", until=(1).__eq__)
        await start_many(crowded, workflow, [0.0] * BLOCKED)
        at_once = [await _run_b(crowded)]
        await eventually(lambda: _blocked(crowded), "all stand in line", until=BLOCKED.__eq__, timeout_s=30)
        for client in (free, crowded):
            for _ in range(_WARM_UP):
                await _run_b(client)
        alone: list[float] = []
        behind: list[float] = []
        while len(alone) < bench.settings.n:
            for client, times in ((free, alone), (crowded, behind)):
                times += [await _run_b(client) for _ in range(_ROUND)]
        if await _blocked(crowded) != BLOCKED or await _running(crowded) != 1:
            raise BenchmarkError(f"{block}: the runs of A did not stay blocked")
        await crowded.cancel_run(holder.id)
        await worker.end()  # the blocked runs go with their prefix
    figures = bench.figures
    for name, times in (("alone", alone), ("behind", behind)):
        figures.add(f"{block}: B {name}, p50", percentile(times, 0.5), "ms")
        figures.add(f"{block}: B {name}, p99", percentile(times, 0.99), "ms")
    figures.add(f"{block}: p99 behind beside alone", percentile(behind, 0.99) / percentile(alone, 0.99), "times alone")
    figures.add(f"{block}: B started right after the 1,000", at_once[0], "ms")


async def _run_b(client: RedflowClient) -> float:
    started = time.perf_counter()
    handle = await client.emit_workflow(crowds.ONE.name, {"n": 21, "ms": 0})
    output = await handle.result()
    elapsed = (time.perf_counter() - started) * 1000
    if output != 42:
        raise BenchmarkError(f"{handle!r} gave {output!r}")
    return elapsed


async def _running(client: RedflowClient) -> int:
    return (await client.get_stats())["by_status"]["running"]


async def _blocked(client: RedflowClient) -> int:
    by_status = (await client.get_stats())["by_status"]
    return by_status["queued"] + by_status["scheduled"] if by_status["running"] == 1 else -1


BENCHMARK: Final = Benchmark(
    name="blocked",
    title="runs of B behind 1,000 blocked runs of A, beside B alone",
    measure=measure,
    full=Settings(n=1_000, reps=3),
    short=Settings(n=300, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
