"""From `emit_workflow` to the result, seen by a client process while the worker, another process, is idle."""

from __future__ import annotations

import sys
import time
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Settings, percentile
from benchmarks.workflows import ONE_STEP
from redflow import RedflowClient

_WARM_UP: Final = 50


async def measure(bench: Bench) -> None:
    """`n` one-step runs, one after another."""
    for _ in range(bench.settings.reps):
        async with bench.world() as client, bench.worker(client, bench.settings.concurrency) as worker:
            await worker.start()
            for number in range(min(_WARM_UP, bench.settings.n)):
                await _trigger(client, number)
            times = [await _trigger(client, number) for number in range(bench.settings.n)]
        bench.figures.add("p50", percentile(times, 0.50), "ms")
        bench.figures.add("p90", percentile(times, 0.90), "ms")
        bench.figures.add("p99", percentile(times, 0.99), "ms")
        bench.figures.add("longest", max(times), "ms")


async def _trigger(client: RedflowClient, number: int) -> float:
    started = time.perf_counter()
    handle = await client.emit_workflow(ONE_STEP.name, {"n": number})
    output = await handle.result()
    elapsed_ms = (time.perf_counter() - started) * 1000
    if output != {"n": 2 * number}:
        raise BenchmarkError(f"{handle!r} gave {output!r}")
    return elapsed_ms


BENCHMARK: Final = Benchmark(
    name="latency",
    title="trigger to result of one-step runs, one after another, from a second process",
    measure=measure,
    full=Settings(n=500, reps=3),
    short=Settings(n=500, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
