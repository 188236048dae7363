"""How many runs a second one client process starts, by single emits; each is one durable write."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Settings
from benchmarks.load import emit, read_back
from benchmarks.workflows import ONE_STEP
from redflow import RedflowClient, RunState, StepState


async def measure(bench: Bench) -> None:
    """One emit at a time, and `concurrency` at a time; every run is read back."""
    for _ in range(bench.settings.reps):
        for at_a_time in (1, bench.settings.concurrency):
            async with bench.world() as client:
                rate = await _rate(client, bench.settings.n, at_a_time)
                bench.figures.add(f"concurrency {at_a_time}", rate, "emits/s")


async def _rate(client: RedflowClient, n: int, at_a_time: int) -> float:
    await client.list_workflows()  # the connection stands
    started = time.perf_counter()
    ids = await emit(client, ONE_STEP.name, n, at_a_time)
    seconds = time.perf_counter() - started
    await read_back(client, ids, _check_queued)
    queued = (await client.get_stats())["by_status"]["queued"]
    if queued != n:
        raise BenchmarkError(f"{n} runs were started and {queued} are queued")
    return n / seconds


def _check_queued(number: int, state: RunState, steps: Sequence[StepState]) -> str:
    right = state["status"] == "queued" and state["input"] == {"n": number} and not steps
    return "" if right else f"stored as {state!r}"


BENCHMARK: Final = Benchmark(
    name="enqueue",
    title="runs started a second by one client process, single emits",
    measure=measure,
    full=Settings(n=10_000, reps=3),
    short=Settings(n=2_000, reps=2),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
