"""Bytes of Redis that a finished one-step run takes: what the server allocated, and by kind of key.

Two ways of counting, since neither is whole: the growth of `used_memory` holds everything, the tables of the
keyspace too, whose doublings make it jump with n; `MEMORY USAGE` tells the kinds apart and leaves those tables out.
Compare figures of equal n only, and of n >= 10,000.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.counting import keys_of, memory_by_family, used_memory
from benchmarks.harness import Settings
from benchmarks.load import all_ended, check_one_step, emit, read_back
from benchmarks.workflows import APP, ONE_STEP
from redflow import create_client

_PADDINGS: Final = {"tiny payloads": 0, "200-byte payloads": 189}
"""Characters added to input, step output and output, each of which is then so large as JSON."""

_WARM_UP: Final = 200
_LOOSE_CHANGE: Final = 0.5
"""Kinds of key with fewer bytes a run than this aren't listed."""


async def measure(bench: Bench) -> None:
    """`n` runs of each payload size; a few first, uncounted, let the server load scripts and grow its buffers."""
    n = bench.settings.n
    await _finished_runs(bench, min(_WARM_UP, n), "")
    for _ in range(bench.settings.reps):
        for name, padding in _PADDINGS.items():
            allocated, by_family = await _finished_runs(bench, n, "x" * padding)
            bench.figures.add(f"{name}: allocated", allocated / n, "bytes/run")
            bench.figures.add(f"{name}: all keys", by_family.total() / n, "bytes/run")
            for kind, size in by_family.most_common():
                if size / n >= _LOOSE_CHANGE:
                    bench.figures.add(f"{name}: {kind}", size / n, "bytes/run")


async def _finished_runs(bench: Bench, n: int, padding: str) -> tuple[int, Counter[str]]:
    """Finish `n` runs; how much memory the server has taken since, and the bytes of each kind of key."""
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
        by_family = await memory_by_family(bench.redis, await keys_of(bench.redis, client.prefix))
        await read_back(client, ids, check_one_step)
    return allocated, by_family


BENCHMARK: Final = Benchmark(
    name="memory",
    title="bytes of Redis per finished one-step run",
    measure=measure,
    full=Settings(n=10_000, reps=3),
    short=Settings(n=10_000, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
