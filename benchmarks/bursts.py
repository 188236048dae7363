"""What happens when very many runs fall due at one instant or have to be removed at once, and what others feel of it.

Due: `n` runs are scheduled for the same time, on a queue that nobody serves; idle workers promote them. Expired: `n`
finished runs whose retention is over before a worker starts, which then removes them. While they are at it a client
creates runs one after another; beside these stand the same creates with nothing to do for the workers.

The time of each script is the server's, from its slow log, whose clock also goes on while the server waits for a core.
So the same masses are gone through once more by this process alone, call by call, and each call's CPU is looked at.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.bulk import create_due_at_once, create_runs, finish_runs
from benchmarks.counting import server_cpu_s
from benchmarks.harness import BenchmarkError, Settings, percentile
from benchmarks.stalls import longest_by_cpu, watching_scripts
from benchmarks.worker import WorkerProcess
from benchmarks.workflows import ONE_STEP
from redflow import RedflowClient
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.runs import RunScripts

PROMOTERS: Final = (1, 8)
"""How many workers promote at the same time; each in a process of its own."""
LIMIT_MS: Final = 10.0
"""What no script may take."""
MASSES: Final = {
    **{f"due, {count} worker{'s' if count > 1 else ''}": "promote_runs" for count in PROMOTERS},
    "expired": "purge_runs",
}
"""What is measured, and the verb that has to do with it."""
CHUNK: Final = 100
"""What workers do in a call."""
_FAR_MS: Final = 3_600_000
_NOBODYS: Final = "nobody's"
_PAUSE_S: Final = 0.001
_LOOK_EVERY_S: Final = 0.05
_GIVE_UP_S: Final = 300.0


async def measure(bench: Bench) -> None:
    """`n` due with each number of workers and `n` expired; `seconds` is how long the quiet creates go on."""
    *due, expired = MASSES
    for _ in range(bench.settings.reps):
        for name, workers in zip(due, PROMOTERS, strict=True):
            await _due(bench, name, workers)
        await _expired(bench, expired)
        await _alone(bench)
    bench.figures.note("Others: a client that creates one run after another, 1 ms between them; quiet: nothing is due.")
    bench.figures.note("A script's time goes on while the server waits for a core: see how much of the time it did.")


async def _due(bench: Bench, name: str, workers: int) -> None:
    async with bench.world() as client, _idle_workers(bench, client, workers) as processes:
        at_s = await create_due_at_once(client, ONE_STEP.name, bench.settings.n, _NOBODYS)
        for worker in processes:
            await worker.start()
        quiet = await _creates(client, lambda: _passed(at_s - 0.1), at_most_s=bench.settings.seconds)
        await asyncio.sleep(max(0.0, at_s - time.time()))
        async with _measured(bench, name, quiet) as others:
            others += await _creates(client, lambda: _emptied(bench, client, "due"))
        queued = (await client.get_stats())["by_status"]["queued"]
        if queued != bench.settings.n + len(quiet) + len(others):
            raise BenchmarkError(f"{queued} runs are queued, not all that were due and created")


async def _expired(bench: Bench, name: str) -> None:
    async with bench.world() as client, _idle_workers(bench, client, 1) as [worker]:
        await finish_runs(client, ONE_STEP.name, bench.settings.n, retention_ms=1)
        quiet = await _creates(client, _never, at_most_s=bench.settings.seconds)
        async with _measured(bench, name, quiet) as others:
            await worker.start()
            others += await _creates(client, lambda: _emptied(bench, client, "expiry:1"))
        left = (await client.get_stats())["total"]
        if left != len(quiet) + len(others):
            raise BenchmarkError(f"{left} runs are left, not only those that were created meanwhile")


async def _alone(bench: Bench) -> None:
    """The same chunks of the same masses by nobody else: what each takes of the server's CPU."""
    n, later = bench.settings.n, int(time.time() * 1000) + 10 * _FAR_MS
    async with bench.world() as client:
        await create_runs(client, ONE_STEP.name, n, run_at_ms=int(time.time() * 1000) + _FAR_MS)
        scripts = RunScripts(client.connection, Keys.of(client.prefix), client.run_history_retention_ms, later)

        async def promote() -> int:
            return (await scripts.promote(CHUNK))[2]

        await _add_longest(bench, "promote_runs", promote)
    async with bench.world() as client:
        await finish_runs(client, ONE_STEP.name, n, retention_ms=1)
        scripts = RunScripts(client.connection, Keys.of(client.prefix), client.run_history_retention_ms, later)
        await _add_longest(bench, "purge_runs", lambda: scripts.purge(None, CHUNK))


async def _add_longest(bench: Bench, verb: str, call: Callable[[], Awaitable[int]]) -> None:
    done, longest = await longest_by_cpu(bench.redis, call)
    if done != bench.settings.n:
        raise BenchmarkError(f"{verb} did {done} runs and not all")
    bench.figures.add(f"{verb}: {CHUNK} of n, longest by CPU", longest, "ms")


@asynccontextmanager
async def _measured(bench: Bench, name: str, quiet: list[float]) -> AsyncIterator[list[float]]:
    """What the workers do in the block goes into the figures; the creates of others meanwhile are to be added."""
    others: list[float] = []
    verb = MASSES[name]
    cpu_s, started = await server_cpu_s(bench.redis), time.perf_counter()
    async with watching_scripts(bench.redis) as stalls:
        yield others
    seconds = time.perf_counter() - started
    n, add = bench.settings.n, bench.figures.add
    add(f"{name}: rate", n / seconds, "runs/s")
    add(f"{name}: server CPU", (await server_cpu_s(bench.redis) - cpu_s) / n * 1e6, "µs/run")
    add(f"{name}: {verb}, longest", stalls.longest(verb), "ms")
    add(f"{name}: {verb}, p99", percentile(stalls.calls.get(verb) or [0.0], 0.99), "ms")
    add(f"{name}: scripts over {LIMIT_MS:g} ms", stalls.over(LIMIT_MS), "scripts")
    if stalls.without_core is not None:
        add(f"{name}: server waited for a core", stalls.without_core * 100, "% of the time")
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        add(f"{name}: create of others, {what}", percentile(others, share), "ms")
        add(f"{name}: create of others, {what}, quiet", percentile(quiet, share), "ms")


@asynccontextmanager
async def _idle_workers(bench: Bench, client: RedflowClient, count: int) -> AsyncIterator[list[WorkerProcess]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(bench.worker(client, 1)) for _ in range(count)]


async def _creates(
    client: RedflowClient, over: Callable[[], Awaitable[bool]], at_most_s: float = _GIVE_UP_S
) -> list[float]:
    """Create runs, one after another, until it is over; how long each took, ms."""
    times: list[float] = []
    looked = started = time.perf_counter()
    while (now := time.perf_counter()) - started < at_most_s:
        if now - looked > _LOOK_EVERY_S:
            looked = now
            if await over():
                return times
        await client.run_by_name(ONE_STEP.name, {"n": 1}, queue_override=_NOBODYS)
        times.append((time.perf_counter() - now) * 1000)
        await asyncio.sleep(_PAUSE_S)
    if at_most_s == _GIVE_UP_S:
        raise BenchmarkError(f"the workers have not done it within {_GIVE_UP_S:g} s")
    return times


async def _passed(at_s: float) -> bool:
    return time.time() >= at_s


async def _never() -> bool:
    return False


async def _emptied(bench: Bench, client: RedflowClient, key: str) -> bool:
    return bool(await bench.redis.exists(Keys.of(client.prefix).base + key) == 0)


BENCHMARK: Final = Benchmark(
    name="bursts",
    title="n runs due at one instant, n runs expired at once",
    measure=measure,
    full=Settings(n=1_000_000, reps=3, seconds=3),
    short=Settings(n=20_000, reps=1, seconds=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
