"""After a mixed workload and its retention, the keys are those of before: nothing is left without an owner or a TTL."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.support.scripts import (
    ALIVE_MS,
    BIG,
    ERROR,
    LEASE_MS,
    QUEUE,
    RETENTION_MS,
    WORKER,
    Bench,
    settlement,
    step,
)

QUEUES = (QUEUE, "app:x")
COUNTERS = {"seq", "epoch"}
"""Two numbers that stay, whatever happens."""


async def staying_keys(bench: Bench) -> set[str]:
    """The keys that have no TTL."""
    return {name for name, entry in (await bench.snapshot()).entries.items() if entry.ttl_ms is None}


async def start_some(bench: Bench, chance: random.Random) -> None:
    """New runs of every kind: with keys, for later, with large inputs, elsewhere, of unknown workflows."""
    for _ in range(6):
        order = bench.order(chance.choice(["w", "w", "other", "new"]), input_json=chance.choice([b"1", BIG]))
        order = replace(order, queue=chance.choice([None, "q", "x"]), idempotency_key=chance.choice([None, "k1", "k2"]))
        order = replace(order, run_at_ms=chance.choice([None, bench.now + chance.randrange(5_000)]))
        await bench.scripts.create([order], "app")
        if chance.random() < 0.2:
            await bench.scripts.cancel(order.run_id, "not needed")
        if chance.random() < 0.3:
            await bench.read("SADD", f"@waiters:{order.run_id}", "c1")
            await bench.read("EXPIRE", f"@waiters:{order.run_id}", 300)


async def end_some(bench: Bench, chance: random.Random) -> None:
    """A worker claims, and every run meets another fate; some holders die."""
    worker = chance.choice([WORKER, "w2"])
    for run in (await bench.claim(5, worker=worker, queues=QUEUES)).runs:
        fate = chance.choice(["succeeded", "failed", "canceled", "retry", "suspended", "hand back", "die", "decide"])
        await bench.scripts.record([step(run.lease, payload=chance.choice([b"1", BIG]))])
        if fate == "hand back":
            await bench.scripts.release([run.lease])
        elif fate == "decide":
            await bench.scripts.decide_failure(run.lease, BIG)
        elif fate != "die":
            item = settlement(run.lease, fate, BIG, due=bench.now + 100, attempt=run.attempt)
            await bench.scripts.settle([item], worker, QUEUES, idle=True)


async def pass_time(bench: Bench, by: int) -> None:
    """Time passes, and the loops do their duty."""
    bench.now += by
    await bench.scripts.promote(100)
    await bench.scripts.recover(100, ERROR)
    await bench.scripts.purge(None, 100)


async def drain(bench: Bench) -> None:
    """Go on until every run has ended."""
    for _ in range(100):
        await pass_time(bench, LEASE_MS)
        for run in (await bench.claim(100, worker="w2", queues=QUEUES)).runs:
            await bench.settle(run.lease, "failed" if b"z" in run.record else "succeeded", ERROR)
        snapshot = await bench.snapshot()
        if not any(name.startswith(("idx:scheduled", "idx:queued", "idx:running")) for name in snapshot.entries):
            return
    raise AssertionError("the runs do not come to their end")


async def test_after_the_retention_the_keys_are_those_of_before(bench: Bench) -> None:
    chance = random.Random(11)
    await bench.serve("w", max_concurrency=2)
    await bench.register_workflow("other")
    await bench.register_worker("w", "other", "new", worker="w2")
    before = await staying_keys(bench)
    for _ in range(40):
        await start_some(bench, chance)
        await end_some(bench, chance)
        await pass_time(bench, chance.choice([1, 100, LEASE_MS]))
    made = (await bench.snapshot()).names("run:")
    assert len(made) > 50
    await bench.register_workflow("new")
    await drain(bench)
    statuses = {status for status, _ in (name.split(":", 1) for name in (await bench.snapshot()).names("idx:"))}
    assert statuses == {"succeeded", "failed", "canceled"}
    assert await bench.remove_workflows("w", "other", quiet_ms=-2 * ALIVE_MS) == ["new"]
    bench.now += RETENTION_MS
    while await bench.scripts.purge(None, 100):
        pass
    assert await staying_keys(bench) - COUNTERS == before - COUNTERS


async def test_nothing_but_the_counters_outlives_workers_and_workflows(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease)
    await bench.unregister_worker(QUEUE)
    bench.now += RETENTION_MS
    await bench.scripts.purge(None, 100)
    await bench.remove_workflows()
    await bench.register_worker()
    await bench.scripts.renew(WORKER, LEASE_MS, ALIVE_MS, [], patience_s=1)
    await bench.unregister_worker()
    assert await staying_keys(bench) == {*COUNTERS, "workers"}
