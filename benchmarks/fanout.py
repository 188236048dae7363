"""What a crowd costs beside one run: an event with 100 subscribers, a parent with 100 children.

One worker process, idle before each measurement. One run is a one-step run from trigger to result; subscribers and
children are one-step runs too. A fan-out is complete when the client has the results of all subscribers' runs, or that
of the parent. Runs and fan-outs are measured in turn, so that a disturbance of the machine meets both.

Twice: with steps that wait for 10 ms, as for another service, and with steps that do nothing. The latter is a race of
the engine against itself: 100 runs that do nothing take the CPU time of 100 runs, one takes the time of its trips.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Final

from benchmarks import crowds
from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Settings
from redflow import RedflowClient

_WORK_MS: Final = {"10 ms steps": 10.0, "empty steps": 0.0}
_WARM_UP: Final = 20
_RUNS_PER_ROUND: Final = 10


async def measure(bench: Bench) -> None:
    """`n` rounds, each of some single runs, one fan-out to subscribers and one to children."""
    for _ in range(bench.settings.reps):
        async with (
            bench.world(crowds.REGISTRY) as client,
            bench.worker(client, bench.settings.concurrency, crowds.MODULE) as worker,
        ):
            await worker.start()
            for _ in range(_WARM_UP):
                await _one(client, 0)
            await _subscribers(client, 0)
            await _children(client, 0)
            for name, work_ms in _WORK_MS.items():
                await _rounds(bench, client, name, work_ms)


async def _rounds(bench: Bench, client: RedflowClient, name: str, work_ms: float) -> None:
    ones, subscribers, children = [], [], []
    for _ in range(bench.settings.n):
        ones += [await _one(client, work_ms) for _ in range(_RUNS_PER_ROUND)]
        subscribers.append(await _subscribers(client, work_ms))
        ones += [await _one(client, work_ms) for _ in range(_RUNS_PER_ROUND)]
        children.append(await _children(client, work_ms))
    one = statistics.median(ones)
    bench.figures.add(f"{name}: one run", one, "ms")
    for what, times in (("100 subscribers", subscribers), ("100 children", children)):
        bench.figures.add(f"{name}: {what}", statistics.median(times), "ms")
        bench.figures.add(f"{name}: {what}, fastest", min(times), "ms")
        bench.figures.add(f"{name}: {what}, beside one run", statistics.median(times) / one, "times one run")


async def _one(client: RedflowClient, work_ms: float) -> float:
    started = time.perf_counter()
    handle = await client.emit_workflow(crowds.ONE.name, {"n": 21, "ms": work_ms})
    output = await handle.result()
    elapsed = (time.perf_counter() - started) * 1000
    _check(output, 42)
    return elapsed


async def _subscribers(client: RedflowClient, work_ms: float) -> float:
    started = time.perf_counter()
    handles = await client.emit_event(crowds.FANNED_OUT, {"n": 21, "ms": work_ms})
    outputs = await asyncio.gather(*[handle.result() for handle in handles])
    elapsed = (time.perf_counter() - started) * 1000
    _check(outputs, [42] * crowds.SUBSCRIBERS)
    return elapsed


async def _children(client: RedflowClient, work_ms: float) -> float:
    started = time.perf_counter()
    handle = await client.emit_workflow(crowds.PARENT.name, {"n": crowds.SUBSCRIBERS, "ms": work_ms})
    output = await handle.result()
    elapsed = (time.perf_counter() - started) * 1000
    _check(output, crowds.SUBSCRIBERS * (crowds.SUBSCRIBERS - 1))
    return elapsed


def _check(seen: object, wanted: object) -> None:
    if seen != wanted:
        raise BenchmarkError(f"the result is {seen!r}, not {wanted!r}")


BENCHMARK: Final = Benchmark(
    name="fanout",
    title="100 subscribers of an event and 100 children of a run, beside one run",
    measure=measure,
    full=Settings(n=30, reps=3, concurrency=200),
    short=Settings(n=10, reps=1, concurrency=200),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
