"""Workers: what the list tells of them, and drain."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from importlib.metadata import version

import pytest

from redflow import define_workflow
from redflow.engines.redis.keys import Keys
from redflow.errors import NotFoundError
from redflow.types import WorkerInfo
from tests.support.world import Context, World, eventually, soon


def define_gated(world: World) -> None:
    async def handler(ctx: Context) -> object:
        world.did.append(f"begin {ctx.input}")
        await soon(lambda: f"let {ctx.input} end" in world.did, "it may end")
        return ctx.input

    define_workflow("w", handler=handler, registry=world.registry)


async def info_of(world: World, worker: str) -> WorkerInfo:
    return await world.client.workers.get(worker)


async def test_what_is_told_of_a_worker(world: World) -> None:
    define_gated(world)
    worker = await world.worker(replace(world.options(), queues=["default", "x"], concurrency=3))
    handle = await world.start(1)
    await soon(lambda: world.did == ["begin 1"], "it runs")
    told = await info_of(world, worker.id)
    assert told["started_at"] <= told["heartbeat_at"] < told["alive_until"]
    assert told == {
        "started_at": told["started_at"],
        "heartbeat_at": told["heartbeat_at"],
        "alive_until": told["alive_until"],
        "id": worker.id,
        "app": "app",
        "queues": ["app:default", "app:x"],
        "workflows": ["w"],
        "concurrency": 3,
        "running": 1,
        "host": platform.node(),
        "pid": os.getpid(),
        "version": version("redflow"),
    }
    world.did.append("let 1 end")
    await handle.result()
    assert (await info_of(world, worker.id))["running"] == 0
    with pytest.raises(NotFoundError, match="no live worker 'nobody'"):
        await world.client.workers.get("nobody")


async def test_the_list_is_paged_and_forgets_who_left(world: World) -> None:
    define_gated(world)
    workers = [await world.worker() for _ in range(3)]
    first = await world.client.workers.list(limit=2)
    second = await world.client.workers.list(cursor=first["next_cursor"], limit=2)
    listed = [info["id"] for info in first["workers"] + second["workers"]]
    assert listed == sorted(worker.id for worker in workers)
    assert "next_cursor" not in second
    await workers[0].stop()
    left = await world.client.workers.list()
    assert [info["id"] for info in left["workers"]] == sorted(worker.id for worker in workers[1:])


async def test_a_drained_worker_ends_its_runs_and_claims_nothing(world: World) -> None:
    define_gated(world)
    worker = await world.worker()
    held = await world.start(1)
    await soon(lambda: world.did == ["begin 1"], "it runs")
    await world.client.workers.drain(worker.id, then="stop")
    await soon(lambda: worker.draining == "stop", "it has heard")
    assert not worker.drained
    assert (await info_of(world, worker.id))["draining"] == "stop"
    later = await world.start(2)
    world.did.append("let 1 end")
    assert await held.result() == 1
    await soon(lambda: worker.drained, "it holds nothing")
    told = await world.client.explain_run(later.id)
    assert told is not None
    assert told["reason"] == "It is ready, but no live worker serves its queue 'app:default': no worker lives."
    assert (await world.client.queues.list())["queues"][0]["workers"] == 0
    assert "begin 2" not in world.did
    await world.client.workers.resume(worker.id)
    await soon(lambda: "begin 2" in world.did, "it claims again")
    assert worker.draining == ""
    assert "draining" not in await info_of(world, worker.id)
    world.did.append("let 2 end")
    await later.result()


async def test_another_worker_takes_what_a_drained_one_leaves(world: World) -> None:
    define_gated(world)
    first = await world.worker()
    await world.client.workers.drain(first.id)
    await soon(lambda: first.draining == "idle", "it has heard")
    handle = await world.start(1)
    second = await world.worker()
    await soon(lambda: world.did == ["begin 1"], "it runs")
    assert (await info_of(world, second.id))["running"] == 1
    assert (await info_of(world, first.id))["running"] == 0
    world.did.append("let 1 end")
    await handle.result()


async def test_what_drain_refuses(world: World) -> None:
    for unknown in ("nobody", "", "a:b", "*"):
        with pytest.raises(NotFoundError, match="no live worker"):
            await world.client.workers.drain(unknown)
        with pytest.raises(NotFoundError, match="no live worker"):
            await world.client.workers.resume(unknown)
    with pytest.raises(ValueError, match="'idle' or 'stop'"):
        await world.client.workers.drain("w1", then="die")  # type: ignore[arg-type] # reason: what is refused


async def test_a_drain_survives_that_the_worker_registers_again(world: World) -> None:
    define_gated(world)
    worker = await world.worker()
    await world.client.workers.drain(worker.id)
    await soon(lambda: worker.draining == "idle", "it has heard")
    await worker._registrar.register()
    await eventually(lambda: info_of(world, worker.id), "drains", until=lambda info: info.get("draining") == "idle")


async def test_a_drained_worker_is_never_marked_idle(world: World) -> None:
    """A bell that it got would be lost to the others."""
    define_gated(world)
    worker = await world.worker()
    handles = [await world.start(n) for n in range(3)]
    await soon(lambda: len(world.did) == 3, "they run")
    await world.client.workers.drain(worker.id)
    await soon(lambda: worker.draining == "idle", "it has heard")
    for n, handle in enumerate(handles):
        world.did.append(f"let {n} end")
        await handle.result()
        for shard, connection in enumerate(world.connections):
            key = f"{Keys.of(world.prefix, shard, world.shards).base}idle:app:default"
            assert await connection.read("SISMEMBER", key, worker.id) == 0
    await soon(lambda: worker.drained, "it holds nothing")
