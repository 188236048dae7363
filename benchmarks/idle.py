"""What a worker asks of the server while there is nothing to do: three workflows, two queues.

MONITOR shows every command that arrives, with a connection's address on those that were sent and `lua` on those that
a script ran; only the former are trips. INFO commandstats can't tell the two apart (an EXPIRE may be either).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.counting import watching
from benchmarks.harness import Settings

_SETTLE_S: Final = 3.0
"""The worker's start is not idleness: how long it gets to come to rest, seconds."""


async def measure(bench: Bench) -> None:
    """Watch one idle worker for `seconds`."""
    seconds = bench.settings.seconds
    for _ in range(bench.settings.reps):
        async with bench.world() as client, bench.worker(client, bench.settings.concurrency) as worker:
            await worker.start()
            await asyncio.sleep(min(_SETTLE_S, seconds))
            cpu = await worker.cpu_s()
            async with watching(bench.redis) as seen:
                await asyncio.sleep(seconds)
            cpu = await worker.cpu_s() - cpu
        bench.figures.add("top-level commands", seen.top_level.total() / seconds, "commands/s")
        bench.figures.add("commands inside scripts", seen.inside_scripts / seconds, "commands/s")
        bench.figures.add("worker CPU", cpu / seconds * 100, "% of a core")
        for name, calls in seen.top_level.most_common():
            bench.figures.add(f"  {name}", calls / seconds, "commands/s")


BENCHMARK: Final = Benchmark(
    name="idle",
    title="commands a second of an idle worker with three workflows and two queues",
    measure=measure,
    full=Settings(n=1, reps=1, seconds=60),
    short=Settings(n=1, reps=1, seconds=20),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
