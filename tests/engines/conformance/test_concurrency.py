"""max_concurrency across workers and queues, slots of a worker (spec 6.1)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from redflow import workflow
from redflow.types import WorkflowRetryPolicy
from tests.support.world import Context, World


class Gauge:
    """Counts what runs at the same time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def __aenter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    async def __aexit__(self, *exc: object) -> None:
        self.now -= 1


async def test_a_worker_runs_as_many_as_it_has_slots(world: World) -> None:
    gauge = Gauge()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        async with gauge:
            await ctx.step.run("s", asyncio.sleep, 0.03)

    await world.small_worker(3)
    handles = [await world.start(n) for n in range(12)]
    for handle in handles:
        await handle.result()
    assert gauge.most == 3


async def test_max_concurrency_holds_across_workers_and_queues_and_is_handed_over(world: World) -> None:
    gauge = Gauge()

    @workflow("w", registry=world.registry, max_concurrency=2, queue="a")
    async def w(ctx: Context) -> None:
        async with gauge:
            world.did.append(str(ctx.input))
            await asyncio.sleep(0.02)

    for queues in (["a"], ["b"]):
        # So slow a check that only being told of a free slot can finish in time.
        await world.worker(replace(world.options(), queues=queues, blmove_timeout_sec=30, lease_ms=30_000))
    started = time.monotonic()
    handles = [await world.client.run_by_name("w", n, queue_override="ab"[n % 2]) for n in range(20)]
    for handle in handles:
        await handle.result()
    assert gauge.most == 2
    assert time.monotonic() - started < 5
    assert sorted(world.did, key=int) == [str(n) for n in range(20)]


async def test_excess_runs_stand_in_line_in_their_order(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry, max_concurrency=1)
    async def w(ctx: Context) -> None:
        world.did.append(str(ctx.input))
        await go.wait()

    @workflow("other", registry=world.registry)
    async def other(ctx: Context) -> str:
        return "not in the way"

    await world.small_worker(3)
    handles = [await world.start(n) for n in range(6)]
    await world.reaches(handles[0], "running")
    assert await world.run(name="other") == "not in the way"
    assert [await world.status(handle) for handle in handles] == ["running"] + ["queued"] * 5
    state = await handles[3].get_state()
    assert state is not None
    assert state["attempt"] == 0, "no attempt is used"
    go.set()
    for handle in handles:
        await handle.result()
    assert world.did == [str(n) for n in range(6)]


async def test_a_retry_delay_frees_the_slot_and_the_retry_takes_one_again(world: World) -> None:
    gauge = Gauge()

    @workflow("w", registry=world.registry, max_concurrency=1, retries=WorkflowRetryPolicy(delay=150))
    async def w(ctx: Context) -> None:
        async with gauge:
            world.did.append(f"{ctx.input}@{ctx.run.attempt}")
            if ctx.input == "a" and ctx.run.attempt == 1:
                raise ValueError("again")

    await world.worker()
    a = await world.start("a")
    await world.reaches(a, "scheduled")
    await (await world.start("b")).result()
    await a.result()
    assert world.did == ["a@1", "b@1", "a@2"]
    assert gauge.most == 1


async def test_a_raised_limit_lets_the_line_in(world: World) -> None:
    gauge = Gauge()
    go = asyncio.Event()

    @workflow("w", registry=world.registry, max_concurrency=1)
    async def w(ctx: Context) -> None:
        async with gauge:
            await go.wait()

    await world.worker()
    handles = [await world.start(n) for n in range(4)]
    await world.reaches(handles[0], "running")
    workflow("w", registry=world.registry, max_concurrency=3)(w.handler)
    await world.worker()  # the worker whose definition is newer
    for handle in handles[:3]:
        await world.reaches(handle, "running")
    assert gauge.now == 3
    go.set()
    for handle in handles:
        await handle.result()


async def test_two_workers_share_the_load_and_one_redis_object(world: World) -> None:
    barrier = asyncio.Barrier(4)

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await barrier.wait()
        return ctx.input

    options = replace(world.options(), redis=world.redis, url=None, concurrency=2)
    first, second = await world.worker(options), await world.worker(options)
    handles = [await world.start(n) for n in range(4)]
    assert [await handle.result() for handle in handles] == list(range(4))
    await first.stop()
    await second.stop()
    assert await world.redis.ping(), "a client that was passed in is not closed"
