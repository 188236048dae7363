"""What each verb costs the server: CPU and network for a run, 1 and 100 at a time; and the longest call of each duty.

The verbs of a one-step run's life are called by this process, one call after another, on runs with tiny payloads: what
is measured is the server's CPU, parsing and sockets included, so that the figures tell how many runs a core of it can
carry. No handler runs. Then the duties of workers, each call with as much to do as it may have: what they cost the
server on average, and the longest by its slow log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from redis.asyncio import Redis

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.bulk import BATCH, Loader, create_runs, scripts_of
from benchmarks.counting import server_cpu_s, used_memory
from benchmarks.harness import BenchmarkError, Settings
from benchmarks.stalls import watching_scripts
from benchmarks.workflows import ONE_STEP
from redflow import RedflowClient
from redflow._ids import next_run_id
from redflow.domain.orders import build_order
from redflow.domain.step import FIELD_PREFIX, StepRecord, pack_header
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.runs import CASCADE_CHUNK, LEASE_CHUNK, ClaimedRun, RunScripts, StepWrite

BATCHES: Final = (1, 10, BATCH)
LIFE: Final = ("create", "claim", "record", "settle")
CAPS: Final = {
    "promote_runs": 100,
    "time_out_runs": 50,
    "purge_runs": 100,
    "cancel_children": CASCADE_CHUNK,
    "recover_runs": 200,
    "renew_leases": LEASE_CHUNK,
    "release_runs": LEASE_CHUNK,
}
"""The most that one call of a duty is given to do."""
_FEWER_SINGLE: Final = 5
_HOUR_MS: Final = 3_600_000
_CALLS: Final = 20


async def measure(bench: Bench) -> None:
    """`n` runs in batches, a fifth of that one by one; and _CALLS full calls of each duty."""
    for _ in range(bench.settings.reps):
        for batch in BATCHES:
            await _life(bench, batch)
        for verb in CAPS:
            await _duty(bench, verb)
    bench.figures.note("µs of the server's CPU: a core of it carries at most 1,000,000 by those of a life.")
    bench.figures.note("The longest call is by the clock, which goes on while the server waits for a core.")


# --- the life of a run ----------------------------------------------------------------------------------------------


async def _life(bench: Bench, batch: int) -> None:
    n = bench.settings.n // (_FEWER_SINGLE if batch == 1 else 1) // batch * batch
    life_us, life_bytes, spent = 0.0, 0.0, dict.fromkeys(LIFE, (0.0, 0.0))
    async with bench.world() as client:
        loader = await Loader.register(client, ONE_STEP.name)
        scripts, memory = scripts_of(client), await used_memory(bench.redis)
        claimed: list[list[ClaimedRun]] = []

        async def create() -> None:
            for start in range(0, n, batch):
                await _create(scripts, start, batch)

        async def claim() -> None:
            claimed.extend([await loader.claim(batch) for _ in range(0, n, batch)])

        async def record() -> None:
            for runs in claimed:
                if len(runs) != batch or await scripts.record([_step(run) for run in runs]):
                    raise BenchmarkError("a claim was short, or a step was refused")

        async def settle() -> None:
            for runs in claimed:
                await loader.settle(runs)

        for name, verb in zip(LIFE, (create, claim, record, settle), strict=True):
            before = await _spent(bench.redis)
            await verb()
            after = await _spent(bench.redis)
            spent[name] = ((after[0] - before[0]) / n * 1e6, (after[1] - before[1]) / n)
            if name == "create":
                bench.figures.add(
                    f"batches of {batch}: a queued run", (await used_memory(bench.redis) - memory) / n, "bytes"
                )
        bench.figures.add(f"batches of {batch}: a finished run", (await used_memory(bench.redis) - memory) / n, "bytes")
    for name, (cpu_us, network) in spent.items():
        bench.figures.add(f"batches of {batch}: {name}", cpu_us, "µs/run")
        life_us, life_bytes = life_us + cpu_us, life_bytes + network
    bench.figures.add(f"batches of {batch}: a life", life_us, "µs/run")
    bench.figures.add(f"batches of {batch}: a core carries", 1e6 / life_us, "runs/s")
    bench.figures.add(f"batches of {batch}: script calls that are", 1e6 / life_us * len(LIFE) / batch, "calls/s")
    bench.figures.add(f"batches of {batch}: network, both ways", life_bytes, "bytes/run")


async def _create(scripts: RunScripts, start: int, batch: int) -> None:
    now_ms = int(time.time() * 1000)
    orders = [
        build_order(next_run_id(now_ms), ONE_STEP.name, {"n": k}, now_ms=now_ms) for k in range(start, start + batch)
    ]
    await scripts.create(orders, None)


def _step(run: ClaimedRun) -> StepWrite:
    created = int(run.record[b"c"])
    step = StepRecord("double", 1, "succeeded", 1, created, created + 1, b'{"n":0}')
    return StepWrite(run.lease, FIELD_PREFIX + step.name, pack_header(step, created), step.payload)


async def _spent(redis: Redis) -> tuple[float, float]:
    """CPU seconds and bytes over the network, so far."""
    stats = await redis.info("stats")
    return await server_cpu_s(redis), float(stats["total_net_input_bytes"] + stats["total_net_output_bytes"])


# --- the duties -----------------------------------------------------------------------------------------------------


async def _duty(bench: Bench, verb: str) -> None:
    cap = CAPS[verb]
    calls = max(2, _CALLS * bench.settings.n // BENCHMARK.full.n)
    async with bench.world() as client:
        call = await _PREPARED[verb](client, cap, calls * cap)
        cpu_s = await server_cpu_s(bench.redis)
        async with watching_scripts(bench.redis) as stalls:
            done = sum([await call() for _ in range(calls)])
        if done != calls * cap:
            raise BenchmarkError(f"{verb}: {calls} calls did {done} and not {cap} each")
        spent_ms = (await server_cpu_s(bench.redis) - cpu_s) / calls * 1000
    bench.figures.add(f"{verb}, {cap} at a time", spent_ms, "ms CPU/call")
    bench.figures.add(f"{verb}, {cap} at a time, longest", stalls.longest(verb), "ms")


Call = Callable[[], Awaitable[int]]


def _later(client: RedflowClient) -> RunScripts:
    """Scripts that take it to be two hours later."""
    now_ms = int(time.time() * 1000) + 2 * _HOUR_MS
    return RunScripts(client.connection, Keys.of(client.prefix), client.run_history_retention_ms, now_ms)


async def _all_claimed(client: RedflowClient, n: int) -> list[ClaimedRun]:
    await create_runs(client, ONE_STEP.name, n)
    loader = await Loader.register(client, ONE_STEP.name)
    return [run for _ in range(0, n, BATCH) for run in await loader.claim(BATCH)]


async def _promote(client: RedflowClient, cap: int, n: int) -> Call:
    await create_runs(client, ONE_STEP.name, n, run_at_ms=int(time.time() * 1000) + _HOUR_MS)
    later = _later(client)

    async def call() -> int:
        return (await later.promote(cap))[2]

    return call


async def _time_out(client: RedflowClient, cap: int, n: int) -> Call:
    """Of runs that were interrupted: they are ended by the call itself."""
    scripts = scripts_of(client)
    now_ms = int(time.time() * 1000)
    for start in range(0, n, BATCH):
        orders = [
            build_order(next_run_id(now_ms), ONE_STEP.name, {"n": k}, now_ms=now_ms, run_timeout_ms=_HOUR_MS)
            for k in range(start, start + BATCH)
        ]
        await scripts.create(orders, None)
    loader = await Loader.register(client, ONE_STEP.name)
    await scripts.release([run.lease for _ in range(0, n, BATCH) for run in await loader.claim(BATCH)])
    later = _later(client)

    async def call() -> int:
        return (await later.time_out(cap))[2]

    return call


async def _purge(client: RedflowClient, cap: int, n: int) -> Call:
    runs = await _all_claimed(client, n)
    loader = await Loader.register(client, ONE_STEP.name, retention_ms=1)
    for start in range(0, n, BATCH):
        await loader.settle(runs[start : start + BATCH])
    later = _later(client)

    async def call() -> int:
        return await later.purge(None, cap)

    return call


async def _cancel(client: RedflowClient, cap: int, n: int) -> Call:
    scripts = scripts_of(client)
    parent = await client.emit_workflow(ONE_STEP.name, {"n": 0})
    now_ms = int(time.time() * 1000)
    for start in range(0, n, BATCH):
        orders = [
            build_order(next_run_id(now_ms), ONE_STEP.name, {"n": k}, now_ms=now_ms, parent_run_id=parent.id)
            for k in range(start, start + BATCH)
        ]
        await scripts.create(orders, None)
    await scripts.cancel(parent.id.removeprefix("run_").replace("-", ""), "")

    async def call() -> int:
        return (await scripts.cancel_children(cap))[0]

    return call


async def _recover(client: RedflowClient, cap: int, n: int) -> Call:
    await _all_claimed(client, n)
    later = _later(client)

    async def call() -> int:
        return (await later.recover(cap, b"{}"))[2]

    return call


async def _renew(client: RedflowClient, cap: int, n: int) -> Call:
    runs, scripts = await _all_claimed(client, n), scripts_of(client)
    loader = await Loader.register(client, ONE_STEP.name)
    some = iter(_chunked(runs, cap))

    async def call() -> int:
        leases = [run.lease for run in next(some)]
        answer = await scripts.renew(loader.worker, _HOUR_MS, _HOUR_MS, leases, patience_s=3)
        return 0 if answer is None or answer[2] else len(leases)

    return call


async def _release(client: RedflowClient, cap: int, n: int) -> Call:
    runs, scripts = await _all_claimed(client, n), scripts_of(client)
    some = iter(_chunked(runs, cap))

    async def call() -> int:
        return await scripts.release([run.lease for run in next(some)])

    return call


def _chunked(runs: Sequence[ClaimedRun], size: int) -> list[Sequence[ClaimedRun]]:
    return [runs[start : start + size] for start in range(0, len(runs), size)]


_PREPARED: Final[dict[str, Callable[[RedflowClient, int, int], Awaitable[Call]]]] = {
    "promote_runs": _promote,
    "time_out_runs": _time_out,
    "purge_runs": _purge,
    "cancel_children": _cancel,
    "recover_runs": _recover,
    "renew_leases": _renew,
    "release_runs": _release,
}

BENCHMARK: Final = Benchmark(
    name="prices",
    title="what each verb costs the server",
    measure=measure,
    full=Settings(n=20_000, reps=3),
    short=Settings(n=4_000, reps=1),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
