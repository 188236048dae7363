"""How a worker fills its slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from redflow import define_workflow
from redflow.engines.redis.link import Argument, Link
from redflow.engines.redis.replies import Reply
from redflow.engines.redis.runs import CLAIM, SETTLE
from redflow.types import WorkflowRetryPolicy
from tests.support.world import Context, World, soon

SLOTS = 250
"""More than one claim may bring."""


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    world = World(redis_url, prefix)
    yield world
    await world.close()


async def test_more_slots_than_a_claim_brings_are_filled_at_once(world: World) -> None:
    """A claim that was cut short by its own limit is followed by the next, not by the slow check."""
    running = 0
    release = asyncio.Event()

    async def handler(ctx: Context) -> None:
        nonlocal running
        running += 1
        await release.wait()

    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handles = await asyncio.gather(*[world.start() for _ in range(SLOTS)])
    # Neither the slow check (it waits as long as a lease) nor the watchdog may help within the test's patience.
    patient = replace(
        world.options(), concurrency=SLOTS, lease_ms=60_000, blmove_timeout_sec=60, watchdog_enabled=False
    )
    await world.worker(patient)
    await soon(lambda: running == SLOTS, f"{SLOTS} running handlers")
    release.set()
    await asyncio.gather(*[handle.result() for handle in handles])


async def test_a_claim_follows_an_outcome_at_its_heels(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one slot and a backlog the next claim is sent after the outcome and before the reply to it."""
    sent: list[str] = []
    names = {CLAIM.sha: "claim", SETTLE.sha: "settle"}
    queue = Link._queue

    def noting(link: Link, args: Sequence[Argument]) -> asyncio.Future[Reply]:
        name, future = names.get(str(args[1]) if len(args) > 1 else ""), queue(link, args)
        if name is not None:
            sent.append(name)
            future.add_done_callback(lambda _: sent.append(f"{name} answered"))
        return future

    define_workflow("w", handler=lambda ctx: ctx.input, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handles = [await world.start(n) for n in range(30)]
    monkeypatch.setattr(Link, "_queue", noting)
    await world.small_worker()
    assert [await handle.result() for handle in handles] == list(range(30))
    calls = [call for call in sent if call in names.values()]
    assert calls[calls.index("settle") :][:50] == ["settle", "claim"] * 25, "the outcome goes first"
    assert " ".join(sent).count("settle claim settle answered") >= 25


@pytest.mark.parametrize("slots", [1, 2])
async def test_few_slots_stay_as_few(world: World, slots: int) -> None:
    """Runs that sleep, retry and come back: never more bodies under way than slots."""
    running = most = 0

    async def body() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async def handler(ctx: Context) -> None:
        for n in range(3):
            await ctx.step.run(f"s{n}", body)
            await ctx.step.wait_for(f"w{n}", 0)
        if ctx.run.attempt < 3:
            raise ValueError("again")

    retries = WorkflowRetryPolicy(delay=0)
    define_workflow("w", handler=handler, registry=world.registry, retries=retries)
    await world.client.sync_registry(world.registry, app="app")
    handles = [await world.start() for _ in range(30)]
    worker = await world.small_worker(slots)
    for handle in handles:
        await handle.result()
    assert most <= slots
    await soon(lambda: not worker._executor.held, "an empty slot")
    assert not worker._executor.leaving
