"""Bytes of Redis that a finished one-step run takes: what the server allocated, by kind of key, by field of the record.

Two ways of counting, since neither is whole: the growth of `used_memory` holds everything, the tables of the
keyspace too, whose doublings make it jump with n; `MEMORY USAGE` tells the kinds apart and leaves those tables out.
Compare figures of equal n only, and of n >= 10,000. Fields are what they take in a compact hash, name and value; what
is left of the record is its key, its place in the table of keys, and what the allocator rounds up.

Structures that a plain run has none of are measured apart, by themselves: n entries each, no worker.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.counting import family, keys_of, memory_by_family, memory_by_field, used_memory
from benchmarks.harness import Settings
from benchmarks.load import all_ended, check_one_step, emit, read_back
from benchmarks.workflows import APP, ONE_STEP
from redflow import WorkflowCall, create_client

_PADDINGS: Final = {"tiny payloads": 0, "200-byte payloads": 189}
"""Characters added to input, step output and output, each of which is then so large as JSON."""

_WARM_UP: Final = 200
_AT_A_TIME: Final = 100
_SAMPLE: Final = 200
"""So many records are looked at field by field."""
_LOOSE_CHANGE: Final = 0.5
"""Kinds of key with fewer bytes a run than this aren't listed."""


async def measure(bench: Bench) -> None:
    """`n` runs of each payload size; a few first, uncounted, let the server load scripts and grow its buffers."""
    n = bench.settings.n
    await _finished_runs(bench, min(_WARM_UP, n), "")
    for _ in range(bench.settings.reps):
        for name, padding in _PADDINGS.items():
            allocated, by_family, fields = await _finished_runs(bench, n, "x" * padding)
            bench.figures.add(f"{name}: allocated", allocated / n, "bytes/run")
            bench.figures.add(f"{name}: all keys", by_family.total() / n, "bytes/run")
            for kind, size in by_family.most_common():
                if size / n >= _LOOSE_CHANGE:
                    bench.figures.add(f"{name}: {kind}", size / n, "bytes/run")
            for field, size in fields.most_common():
                bench.figures.add(f"{name}: run, field {field}", size, "bytes/run")
            bench.figures.add(f"{name}: run, key and rest", by_family["run"] / n - fields.total(), "bytes/run")
        for kind, size in (await _other_structures(bench, n)).most_common():
            if size / n >= _LOOSE_CHANGE:
                bench.figures.add(f"in use: {kind}", size / n, "bytes/entry")


async def _other_structures(bench: Bench, n: int) -> Counter[str]:
    """Bytes of each kind of key of `n` runs that wait, and have all that a run may have, and of `n` events."""
    async with bench.world() as client:
        parent = (await client.emit_workflow(ONE_STEP.name, {"n": 0})).id
        later = datetime.now(UTC) + timedelta(days=1)
        for first in range(0, n, _AT_A_TIME):
            numbers = range(first, min(first + _AT_A_TIME, n))
            await client.emit_workflows([WorkflowCall(ONE_STEP.name, {"n": i}) for i in numbers])
            await client.emit_workflows(
                [
                    WorkflowCall(
                        ONE_STEP.name, {"n": i}, str(i), run_at=later, parent_run_id=parent, run_timeout_ms="1h"
                    )
                    for i in numbers
                ]
            )
            await asyncio.gather(
                *[
                    client.emit_event("paid", {"n": i}, correlation_key=f"order-{i}", idempotency_key=f"{i}")
                    for i in numbers
                ]
            )
        keys = await keys_of(bench.redis, client.prefix)
        used = await memory_by_family(bench.redis, keys)
        used["run"] //= 2  # of those that are ready, and of those that wait for their time
        return used


async def _finished_runs(bench: Bench, n: int, padding: str) -> tuple[int, Counter[str], Counter[str]]:
    """Finish `n` runs; how much memory the server has taken since, and the bytes of each kind of key and field.

    Fields are the mean of some runs.
    """
    async with bench.world() as client:
        before = await used_memory(bench.redis)
        async with bench.worker(client, bench.settings.concurrency) as worker:
            # A client of its own, so that its buffers in the server are gone when the memory is read.
            emitter = create_client(app=APP, url=bench.url, prefix=client.prefix)
            ids = await emit(emitter, ONE_STEP.name, n, bench.settings.concurrency, padding)
            await worker.start()
            await all_ended(emitter, n)
            await worker.stop()
            await emitter.close()
        allocated = await used_memory(bench.redis) - before
        keys = await keys_of(bench.redis, client.prefix)
        by_family = await memory_by_family(bench.redis, keys)
        fields = await memory_by_field(bench.redis, [key for key in keys if family(key) == "run"][:_SAMPLE])
        await read_back(client, ids, check_one_step)
    return allocated, by_family, fields


BENCHMARK: Final = Benchmark(
    name="memory",
    title="bytes of Redis per finished one-step run",
    measure=measure,
    full=Settings(n=10_000, reps=3),
    short=Settings(n=10_000, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
