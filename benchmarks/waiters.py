"""Many runs that wait for one event: all of them go on, once each, and how long that takes.

From the emit to the last result, seen by the client. That each run was resumed once is read from what emit answered,
from the event's record, and from how often each run was claimed: once to begin to wait, once to go on.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from benchmarks import crowds
from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Settings
from redflow import RedflowClient, RunHandle, WorkflowCall
from redflow.engines.redis.keys import Keys
from redflow.types import JsonData
from tests.support.world import eventually

_BATCH: Final = 500


async def measure(bench: Bench) -> None:
    """`n` waiters on one event."""
    for _ in range(bench.settings.reps):
        async with (
            bench.world(crowds.REGISTRY) as client,
            bench.worker(client, bench.settings.concurrency, crowds.MODULE) as worker,
        ):
            await worker.start()
            handles = await start_many(client, crowds.WAITER.name, [0] * bench.settings.n)
            await eventually(lambda: _asleep(client), "waiters asleep", until=len(handles).__eq__, timeout_s=60)
            results = [asyncio.create_task(handle.result(timeout_ms=60_000)) for handle in handles]
            started = time.perf_counter()
            emitted = await client.emit_event_detailed(crowds.OPENED, "go", correlation_key="all")
            answered = time.perf_counter()
            events = await asyncio.gather(*results)
            ended = time.perf_counter()
            wrong = sum(event is None or event["id"] != emitted["event_id"] for event in events)
            record = await client.get_event(emitted["event_id"])
            if wrong or record is None or record["resumed_run_ids"] != emitted["resumed_run_ids"]:
                raise BenchmarkError(f"{wrong} runs got another event or none, or emit and record name other runs")
            again = len(emitted["resumed_run_ids"]) - len(set(emitted["resumed_run_ids"]))
            again += sum(n != 2 for n in await _claims(bench, client, handles))
            missing = {handle.id for handle in handles} ^ set(emitted["resumed_run_ids"])
        bench.figures.add("emit to the last result", ended - started, "s")
        bench.figures.add("emit to its answer", answered - started, "s")
        bench.figures.add("resumed", len(set(emitted["resumed_run_ids"])), "runs")
        bench.figures.add("not resumed, or resumed twice", len(missing) + again, "runs")


async def start_many(client: RedflowClient, workflow: str, inputs: list[float]) -> list[RunHandle[JsonData]]:
    """Start a run for each input."""
    handles: list[RunHandle[JsonData]] = []
    for start in range(0, len(inputs), _BATCH):
        calls = [WorkflowCall(workflow, data) for data in inputs[start : start + _BATCH]]
        for result in await client.emit_workflows(calls):
            if isinstance(result, Exception):
                raise result
            handles.append(result)
    return handles


async def _asleep(client: RedflowClient) -> int:
    return (await client.get_stats())["by_status"]["scheduled"]


async def _claims(bench: Bench, client: RedflowClient, handles: list[RunHandle[JsonData]]) -> list[int]:
    keys = Keys.of(client.prefix)
    async with bench.redis.pipeline(transaction=False) as pipeline:
        for handle in handles:
            pipeline.hget(keys.run(handle.id.removeprefix("run_").replace("-", "")), "n")  # type: ignore[unused-awaitable]  # reason: a pipeline queues it
        return [int(claims) for claims in await pipeline.execute()]


BENCHMARK: Final = Benchmark(
    name="waiters",
    title="many runs that wait for one event",
    measure=measure,
    full=Settings(n=1_000, reps=3),
    short=Settings(n=1_000, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
