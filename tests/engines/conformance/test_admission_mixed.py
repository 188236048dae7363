"""All of admission together, with debounce, slots, sleeps, retries, cancels, and workers that come and go."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from redflow import define_workflow
from redflow.types import JsonData, ResolvedDebounce, WorkflowDebounceOptions, WorkflowRateLimitOptions
from redflow.types import WorkflowRetryPolicy as Retries
from tests.support.world import Context, World

GATES = ("mutex:", "mutexline:", "grants", "throttled", "throttleline:", "debounce:", "line:", "leases", "due")


def part(name: str, data: JsonData) -> str:
    assert isinstance(data, dict)
    return str(data[name])


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_everything_comes_to_its_end_and_nothing_is_left(world: World, seed: int) -> None:
    chance = random.Random(seed)
    inside: Counter[str] = Counter()
    overlaps: list[str] = []

    async def handler(ctx: Context) -> JsonData:
        key = part("mutex", ctx.input)
        for kind in ("retry", "nap", ""):
            inside[key] += 1
            if inside[key] > 1:
                overlaps.append(key)
            try:
                await asyncio.sleep(0.001)
            finally:
                inside[key] -= 1
            if kind == "retry" and part("how", ctx.input) == kind and ctx.run.attempt == 1:
                raise RuntimeError("once more")
            if kind == "nap" and part("how", ctx.input) == kind:
                await ctx.step.wait_for("nap", 20)
        return ctx.run.attempt

    for name, limit in (("a", None), ("b", 2), ("c", 1)):
        define_workflow(
            name,
            handler=handler,
            max_concurrency=limit,
            mutex=lambda data: part("mutex", data),
            throttle=WorkflowRateLimitOptions(lambda data: part("budget", data), 4, 60),
            rate_limit=WorkflowRateLimitOptions(lambda data: part("budget", data), 60, 10_000) if name == "a" else None,
            debounce=WorkflowDebounceOptions(lambda data: part("n", data), 10) if name == "c" else None,
            retries=Retries(delay=10),
            registry=world.registry,
        )
    await world.client.sync_registry(world.registry, app="app")
    stranger = world.new_client()
    workers = [await world.small_worker(3), await world.small_worker(3)]
    handles = []
    for n in range(240):
        data = {
            "mutex": f"m{chance.randrange(4)}",
            "budget": f"b{chance.randrange(3)}",
            "how": chance.choice(["retry", "nap", "plain", "plain"]),
            "n": chance.randrange(40),
        }
        name = chance.choice("abc")
        if name == "c" and chance.random() < 0.5:
            debounce = ResolvedDebounce(str(data["n"]), 10)
            handles.append(await world.client.run_by_name("c", data, debounce=debounce))
        else:
            handles.append(await stranger.emit_workflow(name, data))
        if chance.random() < 0.1:
            await world.client.cancel_run(chance.choice(handles).id)
        if n % 20 == 19:
            await world.check()
        if n % 60 == 59:
            await workers.pop(0).stop()
            workers.append(await world.small_worker(3))
    ends = Counter([await world.ended(handle) for handle in handles])
    assert overlaps == []
    assert ends["succeeded"] > 100
    keys = [key.decode().partition("}:")[2] async for key in world.redis.scan_iter(f"{world.prefix}*")]
    assert [key for key in keys if key.startswith(GATES)] == []
