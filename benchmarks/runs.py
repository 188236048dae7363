"""How many one-step runs a second one worker process finishes, and what CPU and trips each takes.

Live: the runs are started while the worker is at it, so client, server and worker share the machine. Draining: a
backlog is there before the worker starts.
"""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import Settings
from benchmarks.load import Mode, check_one_step, run_load
from benchmarks.workflows import ONE_STEP

_MODES: Final[tuple[Mode, ...]] = ("live", "draining")


async def measure(bench: Bench) -> None:
    """Both modes in turn, so that a disturbance of the machine meets both."""
    n = bench.settings.n
    for _ in range(bench.settings.reps):
        for mode in _MODES:
            load = await run_load(bench, mode, ONE_STEP.name, check_one_step)
            bench.figures.add(mode, n / load.seconds, "runs/s")
            bench.figures.add(f"{mode}: worker CPU", load.cpu_s / n * 1000, "ms/run")
            bench.figures.add(f"{mode}: script calls", load.counts.scripts / n, "per run")
            bench.figures.add(f"{mode}: round trips", load.counts.reads / n, "per run")
    bench.figures.note("Every run's output and step record were read back; after purging no key was left.")
    bench.figures.note("Live counts include the client's emits; draining counts are the worker's alone.")


BENCHMARK: Final = Benchmark(
    name="runs",
    title="finished one-step runs a second, one worker process",
    measure=measure,
    full=Settings(n=10_000, reps=3),
    short=Settings(n=4_000, reps=2),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
