"""What one run costs in commands and round trips when it shares them with nobody: runs one after another.

Script calls are counted over all `n` runs from INFO. Which verbs they were, and the plain commands beside them, is
told by MONITOR in a second, shorter pass, since MONITOR slows the server. Both hold what an idle worker does anyway.
The trips of runs that share them are figures of `runs` and `steps`.
"""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.counting import counts, watching
from benchmarks.harness import BenchmarkError, Settings
from benchmarks.workflows import ONE_STEP, STEPS_IN_TEN, TEN_STEPS
from redflow import RedflowClient

_WARM_UP: Final = 10
_PER_THOUSAND: Final = 1000


async def measure(bench: Bench) -> None:
    """`n` one-step runs, each awaited before the next; then a fifth of them watched; then ten-step runs."""
    n = bench.settings.n
    for _ in range(bench.settings.reps):
        async with bench.world() as client, bench.worker(client, bench.settings.concurrency) as worker:
            await worker.start()
            await _run_one_by_one(client, min(_WARM_UP, n))
            before = await counts(bench.redis)
            await _run_one_by_one(client, n)
            spent = (await counts(bench.redis)).since(before)
            bench.figures.add("script calls for 1,000 runs", spent.scripts * _PER_THOUSAND / n, "calls")
            bench.figures.add("script calls", spent.scripts / n, "per run")
            bench.figures.add("round trips", spent.reads / n, "per run")
            await _watch(bench, client, max(1, n // 5))
            await _measure_steps(bench, client, max(1, n // 10))


async def _watch(bench: Bench, client: RedflowClient, n: int) -> None:
    async with watching(bench.redis) as seen:
        await _run_one_by_one(client, n)
    bench.figures.add("top-level commands", seen.top_level.total() / n, "per run")
    bench.figures.add("commands inside scripts", seen.inside_scripts / n, "per run")
    for name, calls in seen.top_level.most_common():
        if calls / n >= 0.1:
            bench.figures.add(f"  {name}", calls / n, "per run")


async def _measure_steps(bench: Bench, client: RedflowClient, n: int) -> None:
    before = await counts(bench.redis)
    for number in range(n):
        handle = await client.emit_workflow(TEN_STEPS.name, {"n": number})
        if await handle.result() != number + STEPS_IN_TEN:
            raise BenchmarkError(f"{handle!r} gave a wrong result")
    spent = (await counts(bench.redis)).since(before)
    bench.figures.add("ten-step runs: script calls", spent.scripts / n / STEPS_IN_TEN, "per step")
    bench.figures.add("ten-step runs: round trips", spent.reads / n / STEPS_IN_TEN, "per step")


async def _run_one_by_one(client: RedflowClient, n: int) -> None:
    for number in range(n):
        handle = await client.emit_workflow(ONE_STEP.name, {"n": number})
        if await handle.result() != {"n": 2 * number}:
            raise BenchmarkError(f"{handle!r} gave a wrong result")


BENCHMARK: Final = Benchmark(
    name="trips",
    title="commands and round trips per run and per step, runs one after another",
    measure=measure,
    full=Settings(n=1_000, reps=3),
    short=Settings(n=1_000, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
