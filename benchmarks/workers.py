"""The curve: 1, 2, 4 and 8 worker processes on one Redis, and which of both is the limit, Redis or the cores.

Two kinds of handlers: empty ones, which cost nothing but the engine, and working ones with 1 ms of CPU and 20 ms of
waiting, as for another service. A backlog is there before all workers of a point start; it is drained to the end. Each
run gives the process that ran it as its output, from which the shares of the workers follow; all are read back.

Every worker has `concurrency` slots. CPU is what the operating system charged the workers and the server; together,
beside the cores of the machine, they say whether more workers could have done more.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.bulk import create_runs
from benchmarks.counting import counts, server_cpu_s
from benchmarks.harness import Settings, number, table
from benchmarks.load import all_ended, read_back
from redflow import RunState, StepState, WorkflowHandlerContext, WorkflowRegistry, define_workflow
from redflow.types import JsonData

MODULE: Final = "benchmarks.workers"
REGISTRY: Final = WorkflowRegistry()
PROCESSES = (1, 2, 4, 8)
"""The points of the curve; tests take fewer."""
_CPU_S: Final = 0.001
_WAIT_S: Final = 0.020


async def _empty(ctx: WorkflowHandlerContext[JsonData]) -> int:
    return os.getpid()


async def _working(ctx: WorkflowHandlerContext[JsonData]) -> int:
    until = time.thread_time() + _CPU_S
    while time.thread_time() < until:
        pass
    await asyncio.sleep(_WAIT_S)
    return os.getpid()


EMPTY: Final = define_workflow("empty", handler=_empty, registry=REGISTRY)
WORKING: Final = define_workflow("working", handler=_working, registry=REGISTRY)
KINDS: Final = (EMPTY.name, WORKING.name)
_PART: Final = {EMPTY.name: 1, WORKING.name: 4}
"""The runs of a kind of handler are n by this: the slower ones are fewer."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve.

    Attributes:
        rate: runs/s, from the first start to the last end.
        scripts: script calls for each run, of all workers.
        server, workers: CPU that they used, cores.
        worker_ms: CPU of the workers for each run, ms.
        server_us: CPU of the server for each run, µs.
        shares: runs of each worker beside the mean, the least and the most.
    """

    rate: float
    scripts: float
    server: float
    workers: float
    worker_ms: float
    server_us: float
    shares: tuple[float, float]


async def measure(bench: Bench) -> None:
    """Each point of each curve in turn, so that a disturbance of the machine meets all."""
    for _ in range(bench.settings.reps):
        for workflow in _PART:
            first: float | None = None
            for processes in PROCESSES:
                point = await _point(bench, workflow, processes)
                first = first or point.rate
                _add(bench, f"{workflow}, {processes}", point, point.rate / first)
    for workflow in _PART:
        for line in _curve(bench, workflow):
            bench.figures.note(line)
    bench.figures.note(f"This machine has {os.cpu_count()} cores for workers, server and benchmark together.")


async def _point(bench: Bench, workflow: str, processes: int) -> Point:
    n = max(1, bench.settings.n // _PART[workflow])
    async with bench.world(REGISTRY) as client, AsyncExitStack() as stack:
        ids = await create_runs(client, workflow, n)
        workers = [
            await stack.enter_async_context(bench.worker(client, bench.settings.concurrency, MODULE))
            for _ in range(processes)
        ]
        before = await counts(bench.redis)
        server_before, workers_before = await server_cpu_s(bench.redis), [await worker.cpu_s() for worker in workers]
        await asyncio.gather(*[worker.start() for worker in workers])
        await all_ended(client, n)
        scripts = (await counts(bench.redis)).since(before).scripts
        server_s = await server_cpu_s(bench.redis) - server_before
        workers_s = sum([await worker.cpu_s() for worker in workers]) - sum(workers_before)
        for worker in workers:
            await worker.stop()
        states = await read_back(client, ids, _check)
    seconds = (max(s["finished_at"] for s in states) - min(s["started_at"] for s in states)) / 1000
    by_process = Counter(s["output"] for s in states)
    each = [by_process[pid] / (n / processes) for pid in by_process] + [0.0] * (processes - len(by_process))
    return Point(
        n / seconds,
        scripts / n,
        server_s / seconds,
        workers_s / seconds,
        workers_s / n * 1000,
        server_s / n * 1e6,
        (min(each), max(each)),
    )


def _check(number: int, state: RunState, steps: Sequence[StepState]) -> str:
    if state["status"] == "succeeded" and isinstance(state.get("output"), int):
        return ""
    return f"ended as {state['status']} with {state.get('output')!r}"


_COLUMNS: Final = {
    "rate": "runs/s",
    "beside one": "times",
    "scripts": "per run",
    "server CPU": "cores",
    "worker CPU": "cores",
    "worker CPU a run": "ms",
    "server CPU a run": "µs",
    "least share": "of the mean",
    "largest share": "of the mean",
}


def _add(bench: Bench, name: str, point: Point, beside_one: float) -> None:
    values = (
        point.rate,
        beside_one,
        point.scripts,
        point.server,
        point.workers,
        point.worker_ms,
        point.server_us,
        *point.shares,
    )
    for (column, unit), value in zip(_COLUMNS.items(), values, strict=True):
        bench.figures.add(f"{name}: {column}", value, unit)


def _curve(bench: Bench, workflow: str) -> list[str]:
    """The medians as a table, a line for each number of processes."""
    rows = [
        [str(processes), *(number(bench.figures.get(f"{workflow}, {processes}: {c}").median) for c in _COLUMNS), ""]
        for processes in PROCESSES
    ]
    return [line.strip("\n") for line in table([f"{workflow}: processes", *_COLUMNS, ""], rows)]


BENCHMARK: Final = Benchmark(
    name="workers",
    title="1 to 8 worker processes on one Redis",
    measure=measure,
    full=Settings(n=20_000, reps=3),
    short=Settings(n=4_000, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
