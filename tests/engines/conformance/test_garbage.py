"""Runs leave no reference cycles: what they used is freed at once, and the garbage collector finds nothing to do."""

from __future__ import annotations

import gc

from redflow import workflow
from redflow.engines.redis.journal import RedisJournal
from redflow.execution.attempt import Attempt
from redflow.execution.steps import Steps
from tests.support.world import Context, World

RUNS = 30


async def test_a_run_that_is_over_leaves_nothing_to_the_collector(world: World) -> None:
    async def add(n: object) -> object:
        return n

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.wait_for("nap", 1)
        return await ctx.step.run("add", add, ctx.input)

    await world.worker()
    assert await (await world.start(0)).result() == 0
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)  # what only the collector frees is kept in gc.garbage
    try:
        for n in range(RUNS):
            assert await (await world.start(n)).result() == n
        gc.collect()
        left = [type(thing).__name__ for thing in gc.garbage if isinstance(thing, (Attempt, RedisJournal, Steps))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert left == []
