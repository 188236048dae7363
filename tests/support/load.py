"""A load that does everything a run can do, to be disturbed and then judged by what its functions noted."""

from __future__ import annotations

import asyncio
from collections import Counter

from redflow import RunHandle, workflow
from redflow.types import BlockingStepApi, JsonData, WorkflowRetryPolicy
from tests.support.world import BlockingContext, Context, World

Handles = list[RunHandle[JsonData]]
STEPS = 3


def define_load(world: World) -> None:
    """Two workflows that between them do everything a run can do; every body notes its call."""

    def body(run: object, n: int) -> list[object]:
        world.did.append(f"{run} {n}")
        return [run, n]

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=5, max_attempts=2))
    async def w(ctx: Context) -> object:
        first = await ctx.step.run("s0", body, ctx.input, 0)
        await ctx.step.wait_for("nap", 10)
        if ctx.run.attempt == 1:
            raise ValueError("once")
        rest = await asyncio.gather(*(ctx.step.run(f"s{n}", body, ctx.input, n) for n in range(1, STEPS)))
        return [first, *rest]

    @workflow("plain", registry=world.registry, max_concurrency=3)
    def plain(ctx: BlockingContext) -> object:
        step: BlockingStepApi = ctx.step
        return [step.run(f"s{n}", body, ctx.input, n) for n in range(STEPS)]


async def check_load(world: World, handles: Handles, *, again: int) -> None:
    """Every run came to its one right end; at most `again` bodies were called more than once in all."""
    for n, handle in enumerate(handles):
        assert await handle.result() == [[n, k] for k in range(STEPS)]
        state = await handle.get_state()
        assert state is not None
        assert state["attempt"] == (1 if n % 3 == 0 else 2)
    calls = Counter(world.did)
    assert set(calls) == {f"{n} {k}" for n in range(len(handles)) for k in range(STEPS)}
    assert sum(calls.values()) - len(calls) <= again
    assert (await world.client.get_stats())["total"] == len(handles), "no order was accepted twice"


async def feed(world: World, count: int, harm: Counter[str] | None = None) -> Handles:
    """Start runs one after another, as a client does that knows nothing of faults; until ten of them were done."""
    handles: Handles = []
    while len(handles) < count or (harm is not None and harm["harm"] < 10):
        n = len(handles)
        handles.append(await world.start(n, name="plain" if n % 3 == 0 else "w"))
    return handles
