"""sync_registry: what is written, what is kept, what is refused (spec 7)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydantic import BaseModel

from redflow import DefineWorkflowOptions, EventTrigger, WorkflowDefinition, WorkflowRegistry, define_workflow
from redflow.engines.redis.definitions import Definitions
from tests.support.world import Context, World


async def handler(ctx: Context) -> object:
    return ctx.input


def registry_of(*names: str, queue: str = "default") -> WorkflowRegistry:
    registry = WorkflowRegistry()
    for name in names:
        define_workflow(name, handler=handler, queue=queue, registry=registry)
    return registry


async def names(world: World) -> list[str]:
    return sorted(await world.client.list_workflows())


@pytest.mark.parametrize("app", ["", " ", None, 5])
async def test_a_blank_app_is_refused(world: World, app: str) -> None:
    with pytest.raises(ValueError, match="app"):
        await world.client.sync_registry(WorkflowRegistry(), app=app)


async def test_what_is_no_longer_in_the_registry_is_removed_for_this_app_only(world: World) -> None:
    client = world.client
    await client.sync_registry(registry_of("a", "b"), app="one")
    await client.sync_registry(registry_of("c"), app="two")
    assert await names(world) == ["a", "b", "c"]
    await client.sync_registry(registry_of("b"), app="one")
    assert await names(world) == ["b", "c"]
    await client.sync_registry(WorkflowRegistry(), app="two")
    assert await names(world) == ["b"]


async def test_two_services_that_share_an_app_keep_each_others(world: World) -> None:
    options = replace(world.options(), app="shared")
    first = await world.worker(replace(options, registry=registry_of("a")))
    await world.worker(replace(options, registry=registry_of("b")))
    assert await names(world) == ["a", "b"], "a live worker lists it"
    await first.stop()
    await world.worker(replace(options, registry=registry_of("b")))
    assert await names(world) == ["a", "b"], "and for 30 s after its goodbye"


async def test_metadata_follows_the_definition(world: World) -> None:
    client = world.client
    await client.sync_registry(registry_of("a", queue="one"), app="app")
    first = await client.get_workflow_meta("a")
    await client.sync_registry(registry_of("a", queue="two"), app="app")
    second = await client.get_workflow_meta("a")
    assert first is not None
    assert second is not None
    assert (first["queue"], second["queue"]) == ("app:one", "app:two")
    assert second["updated_at"] >= first["updated_at"]


async def test_the_same_name_under_another_app(world: World) -> None:
    await world.client.sync_registry(registry_of("a"), app="one")
    await world.client.sync_registry(registry_of("a"), app="two")  # nobody of app one is alive
    meta = await world.client.get_workflow_meta("a")
    assert meta is not None
    assert meta["app"] == "two"
    worker = await world.worker(replace(world.options(), app="two", registry=registry_of("a")))
    with pytest.raises(ValueError, match="'a' is served by the live app 'two'; app 'one'"):
        await world.client.sync_registry(registry_of("a"), app="one")
    await worker.stop()
    await world.client.sync_registry(registry_of("a"), app="one")


async def test_an_older_worker_never_overwrites_a_newer_one(world: World) -> None:
    definitions = Definitions(world.client.connection, world.keys)
    await definitions.sync(registry_of("a", queue="new").list(), "app", 2_000)
    await definitions.sync(registry_of("a", queue="old").list(), "app", 1_000)
    meta = await world.client.get_workflow_meta("a")
    assert meta is not None
    assert meta["queue"] == "app:new"
    await definitions.sync(registry_of("a", queue="newest").list(), "app", 3_000)
    meta = await world.client.get_workflow_meta("a")
    assert meta is not None
    assert meta["queue"] == "app:newest"


async def test_two_live_versions_do_not_fight(world: World) -> None:
    """Each looks every 250 ms whether its metadata is there: the newer one's stays."""
    options = replace(world.options(), registry_recovery_interval_ms=250)
    await world.worker(replace(options, registry=registry_of("a", queue="old")))
    await asyncio.sleep(0.002)  # starts are compared in milliseconds
    await world.worker(replace(options, registry=registry_of("a", queue="new")))
    first = await world.client.get_workflow_meta("a")
    await asyncio.sleep(0.6)  # two looks of each
    second = await world.client.get_workflow_meta("a")
    assert first == second
    assert first is not None
    assert first["queue"] == "app:new"


def by_hand(*triggers: EventTrigger) -> WorkflowRegistry:
    """A registry of one workflow that `define_workflow` has not judged."""
    registry = WorkflowRegistry()
    registry.register(WorkflowDefinition(DefineWorkflowOptions(name="w", event=list(triggers)), handler))
    return registry


@pytest.mark.parametrize(
    ("triggers", "message"),
    [
        ([EventTrigger(" ")], "must not be blank"),
        ([EventTrigger("a", id="i"), EventTrigger("b", id="i")], "Duplicate event trigger id"),
        ([EventTrigger("a"), EventTrigger(" a ")], "Duplicate event trigger definition"),
    ],
)
async def test_event_triggers_made_by_hand_are_judged_at_the_sync(
    world: World, triggers: list[EventTrigger], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await world.client.sync_registry(by_hand(*triggers), app="app")
    assert await world.key_count() == 0


async def test_event_names_made_by_hand_are_stripped(world: World) -> None:
    await world.client.sync_registry(by_hand(EventTrigger(" paid ")), app="app")
    meta = await world.client.get_workflow_meta("w")
    assert meta is not None
    assert meta["event"] == [{"name": "paid"}]
    assert len(await world.client.emit_event("paid", 1)) == 1


async def test_a_schema_conflict_refuses_the_registry_before_anything_is_written(world: World) -> None:
    class One(BaseModel):
        a: int

    class Other(BaseModel):
        b: int

    define_workflow("a", handler=handler, event=EventTrigger("paid"), input_schema=One, registry=world.registry)
    await world.client.sync_registry(world.registry, app="one")
    registry = registry_of("b")
    define_workflow("c", handler=handler, event=EventTrigger("paid"), input_schema=Other, registry=registry)
    with pytest.raises(ValueError, match="Event schema conflict: workflow 'c' subscribes to 'paid'"):
        await world.client.sync_registry(registry, app="two")
    assert await names(world) == ["a"]
