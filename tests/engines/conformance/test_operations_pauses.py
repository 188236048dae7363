"""Pauses of queues and workflows, and what the lists of queues and workflows tell."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from redflow import RunHandle, define_workflow
from redflow.errors import NotFoundError
from redflow.types import JsonData, QueueInfo, WorkflowInfo
from tests.support.world import Context, World, eventually

QUEUE = "app:default"


def define(world: World, name: str = "w", *, queue: str = "default", max_concurrency: int | None = None) -> None:
    async def handler(ctx: Context) -> object:
        world.did.append(f"{name} {ctx.input}")
        if ctx.input == "sleep":
            await ctx.step.wait_for("s", 100)
        if ctx.input == "gate":
            await ctx.step.wait_for_event("g", "open", "k", "1h")
        return ctx.input

    define_workflow(name, handler=handler, registry=world.registry, queue=queue, max_concurrency=max_concurrency)


async def queue_of(world: World, name: str = QUEUE) -> QueueInfo:
    page = await world.client.queues.list()
    return next(queue for queue in page["queues"] if queue["queue"] == name)


async def workflow_of(world: World, name: str = "w") -> WorkflowInfo:
    page = await world.client.workflows.list()
    return next(workflow for workflow in page["workflows"] if workflow["name"] == name)


async def passed(world: World, *names: str) -> None:
    """Runs of these workflows have come and gone, so a worker has looked at its queues since."""
    for name in names:
        await (await world.start("probe", name=name)).result()


async def test_nothing_of_a_paused_queue_starts_until_it_is_resumed(world: World) -> None:
    define(world)
    define(world, "other", queue="other")
    await world.worker()
    assert await world.client.queues.pause(QUEUE, reason="the shop is closed")
    assert not await world.client.queues.pause(QUEUE, reason="again")
    handles = [await world.start(n) for n in range(5)]
    await passed(world, "other", "other", "other")
    assert world.did == ["other probe"] * 3
    info = await queue_of(world)
    assert (info["waiting"], info["paused"]["reason"]) == (5, "the shop is closed")
    assert info["oldest_waiting_ms"] >= 0
    assert (await world.client.get_stats())["paused"] == {"queues": [QUEUE], "workflows": []}
    told = await world.client.explain_run(handles[0].id)
    assert told is not None
    assert told["waits_for"] == "paused"
    assert told["reason"].startswith("It is ready, but its queue 'app:default' is paused since 20")
    assert told["reason"].endswith("Z (the shop is closed).")
    assert await world.client.queues.resume(QUEUE)
    assert not await world.client.queues.resume(QUEUE)
    assert [await handle.result() for handle in handles] == [0, 1, 2, 3, 4]
    assert "paused" not in await queue_of(world)
    assert "paused" not in await world.client.get_stats()


async def test_nothing_of_a_paused_workflow_starts_or_wakes_and_others_of_its_queue_do(world: World) -> None:
    define(world)
    define(world, "other")
    await world.worker()
    asleep = await world.start("sleep")
    await world.reaches(asleep, "scheduled")
    assert await world.client.workflows.pause("w", reason="bad deploy")
    handles = [await world.start(n) for n in range(250)]
    await world.reaches(asleep, "queued")
    await passed(world, "other", "other")
    assert [done for done in world.did if done.startswith("w")] == ["w sleep"]
    info = await workflow_of(world)
    assert (info["by_status"]["queued"], info["paused"]["reason"]) == (251, "bad deploy")
    await eventually(lambda: queue_of(world), "all are set aside", until=lambda queue: queue["set_aside"] == 251)
    told = await world.client.explain_run(handles[0].id)
    assert told is not None
    assert (told["waits_for"], "its workflow 'w' is paused since" in told["reason"]) == ("paused", True)
    assert (await world.client.get_stats())["paused"] == {"queues": [], "workflows": ["w"]}
    assert await world.client.workflows.resume("w")
    assert [await handle.result() for handle in handles] == list(range(250))
    assert await asleep.result() == "sleep"


async def test_a_paused_workflow_with_a_limit_keeps_to_it_afterwards(world: World) -> None:
    define(world, max_concurrency=1)
    define(world, "other")
    await world.worker()
    await world.client.workflows.pause("w")
    handles = [await world.start(n) for n in range(5)]
    await passed(world, "other")
    await world.client.workflows.resume("w")
    assert [await handle.result() for handle in handles] == [0, 1, 2, 3, 4]
    assert [done for done in world.did if done.startswith("w")] == [f"w {n}" for n in range(5)]


async def test_pauses_hold_for_workers_that_come_later_and_can_be_canceled_under(world: World) -> None:
    define(world)
    await world.client.sync_registry(world.registry, app="app")
    await world.client.queues.pause(QUEUE)
    handle = await world.start(1)
    await world.worker()
    define(world, "other", queue="other")
    await world.worker()
    await passed(world, "other")
    assert world.did == ["other probe"]
    assert await world.client.cancel_run(handle.id)
    assert await world.ended(handle) == "canceled"


async def test_unknown_names_are_refused_with_near_ones(world: World) -> None:
    define(world)
    await world.client.sync_registry(world.registry, app="app")
    with pytest.raises(NotFoundError, match=r"there is no queue 'app:defalt' \(did you mean app:default\?\)"):
        await world.client.queues.pause("app:defalt")
    with pytest.raises(NotFoundError, match="no queue 'default'"):
        await world.client.queues.resume("default")
    with pytest.raises(NotFoundError, match="no workflow 'v'"):
        await world.client.workflows.pause("v")
    with pytest.raises(ValueError, match="queue"):
        await world.client.queues.pause("a\nb")
    with pytest.raises(ValueError, match="reason"):
        await world.client.workflows.pause("w", reason="\x1b[2J")


async def test_the_list_of_queues_is_paged_and_knows_all_of_them(world: World) -> None:
    define(world, "a", queue="qa")
    define(world, "b", queue="qb")
    define(world, "b2", queue="qb")
    await world.worker(replace(world.options(), queues=["qa", "served"]))
    await world.client.run_by_name("a", 1, queue_override="elsewhere")
    started: list[RunHandle[JsonData]] = [await world.start(n, name="b") for n in range(3)]
    pages: list[QueueInfo] = []
    cursor: str | None = None
    while True:
        page = await world.client.queues.list(cursor=cursor, limit=2)
        pages += page["queues"]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    told = {queue["queue"]: queue for queue in pages}
    assert [queue["queue"] for queue in pages] == ["app:elsewhere", "app:qa", "app:qb", "app:served"]
    assert (told["app:elsewhere"]["waiting"], told["app:elsewhere"]["workers"]) == (1, 0)
    assert (told["app:qa"]["workers"], told["app:qa"]["slots"], told["app:qa"]["workflows"]) == (1, 10, ["a"])
    assert (told["app:qb"]["waiting"], told["app:qb"]["workflows"]) == (3, ["b", "b2"])
    await asyncio.sleep(0.02)
    assert (await queue_of(world, "app:qb"))["oldest_waiting_ms"] >= 20
    assert len(started) == 3


async def test_the_list_of_workflows_is_paged_and_counts(world: World) -> None:
    for name in ("a", "b", "c"):
        define(world, name, max_concurrency=4 if name == "b" else None)
    await world.worker()
    await passed(world, "a", "b", "b")
    first = await world.client.workflows.list(limit=2)
    assert [info["name"] for info in first["workflows"]] == ["a", "b"]
    second = await world.client.workflows.list(cursor=first["next_cursor"], limit=2)
    assert [info["name"] for info in second["workflows"]] == ["c"]
    assert "next_cursor" not in second
    told = first["workflows"][1]
    assert (told["app"], told["queue"], told["max_concurrency"]) == ("app", QUEUE, 4)
    assert told["by_status"]["succeeded"] == 2
    assert sum(told["by_status"].values()) == 2
