"""How many steps a second one worker process performs in runs of ten steps, each journaled before the next begins."""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import Settings
from benchmarks.load import check_ten_steps, run_load
from benchmarks.workflows import STEPS_IN_TEN, TEN_STEPS


async def measure(bench: Bench) -> None:
    """Drain `n` runs."""
    steps = bench.settings.n * STEPS_IN_TEN
    for _ in range(bench.settings.reps):
        load = await run_load(bench, "draining", TEN_STEPS.name, check_ten_steps)
        bench.figures.add("steps", steps / load.seconds, "steps/s")
        bench.figures.add("worker CPU", load.cpu_s / steps * 1000, "ms/step")
        bench.figures.add("script calls", load.counts.scripts / steps, "per step")
        bench.figures.add("round trips", load.counts.reads / steps, "per step")
    bench.figures.note("A run's share of claim and settle is in its ten steps. All steps' records were read back.")


BENCHMARK: Final = Benchmark(
    name="steps",
    title="steps a second in ten-step runs, one worker process",
    measure=measure,
    full=Settings(n=2_000, reps=3),
    short=Settings(n=500, reps=2),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
