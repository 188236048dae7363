"""Durability on several shards: asked for on whichever shard the write is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redflow import EventTrigger, StartWorkerOptions, create_client, define_workflow, start_worker
from redflow.errors import NotDurableError
from redflow.registry import WorkflowRegistry
from redflow.types import Durability, WorkflowCall
from tests.engines.shards.conftest import SHARDS
from tests.support.servers import ServerKind, ServerOptions, ServerProcess
from tests.support.world import Context

Start = Callable[[ServerOptions], ServerProcess]
NAMES = [f"w{n}" for n in range(12)]


async def test_what_is_not_confirmed_is_told_on_every_shard(private_server: Start) -> None:
    """No replica is there to confirm anything."""
    registry = WorkflowRegistry()

    async def handler(ctx: Context) -> None: ...

    for name in NAMES:
        define_workflow(name, handler=handler, registry=registry)
    define_workflow("on", handler=handler, registry=registry, event=EventTrigger("e"))
    server = private_server(ServerOptions())
    client = create_client(
        url=server.url, prefix="p", shards=SHARDS, durability=Durability.REPLICATED, durability_timeout_ms=20
    )
    await client.sync_registry(registry, app="a")
    for name in NAMES:
        with pytest.raises(NotDurableError) as caught:
            await client.run_by_name(name, 1)
        assert caught.value.run_id is not None
        assert await client.make_run_handle(caught.value.run_id).get_state() is not None
    answers = await client.emit_workflows([WorkflowCall(name, 2) for name in NAMES])
    assert [type(answer) for answer in answers] == [NotDurableError] * len(NAMES)
    with pytest.raises(NotDurableError) as told:
        await client.emit_event("e", 1)
    assert told.value.event_id is not None
    await client.close()


async def test_steps_children_and_waits_of_durable_workflows(private_server: Start, server_kind: ServerKind) -> None:
    if server_kind is not ServerKind.BUNDLED:
        pytest.skip("WAITAOF is of Redis 7.2")
    registry = WorkflowRegistry()

    async def child(ctx: Context) -> object:
        return await ctx.step.run("double", lambda: 2 * ctx.input["n"])

    async def parent(ctx: Context) -> object:
        outputs = [await ctx.step.run_workflow(name, kinds[name], {"n": n}) for n, name in enumerate(NAMES)]
        await ctx.step.emit_event("tell", "told", {"n": 1}, correlation_key="k")
        event = await ctx.step.wait_for_event("hear", "told", "k", 10_000)
        return [outputs, event is not None]

    kinds = {
        name: define_workflow(name, handler=child, registry=registry, durability=Durability.FSYNCED) for name in NAMES
    }
    define_workflow("parent", handler=parent, registry=registry, durability=Durability.FSYNCED)
    server = private_server(ServerOptions(appendonly=True))
    client = create_client(url=server.url, prefix="p", shards=SHARDS)
    worker = await start_worker(
        StartWorkerOptions(app="a", url=server.url, prefix="p", shards=SHARDS, registry=registry, concurrency=5)
    )
    handle = await client.run_by_name("parent", {})
    assert await handle.result(timeout_ms=20_000) == [[2 * n for n in range(len(NAMES))], True]
    await worker.stop()
    await client.close()
