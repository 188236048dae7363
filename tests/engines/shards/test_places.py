"""Where runs live, and what a client sees of all shards together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

from redflow import RunHandle, create_client, start_worker, workflow
from redflow.domain.run import new_run_id, public_run_id
from redflow.domain.shards import MAX_SHARDS, on_shard, shard_of_name, shard_of_run
from redflow.engines.redis.definitions import Definitions
from redflow.engines.redis.keys import Keys
from redflow.errors import ShardMismatchError, UnknownWorkflowError
from redflow.types import JsonData, ListRunsParams, SearchRunsParams
from tests.support.core_scenarios import CORE, Scenario, name_of
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.shards import engine_of, name_on, shard_of, stored
from tests.support.world import Context, World, eventually


@pytest.mark.parametrize("scenario", CORE, ids=name_of)
async def test_core(world: World, scenario: Scenario) -> None:
    await scenario(world)


def test_a_shard_is_part_of_the_id() -> None:
    run_id = new_run_id(1_700_000_000_000, 2**62 - 1, 5)
    assert shard_of_run(run_id) == 5
    assert on_shard(run_id, 255) == new_run_id(1_700_000_000_000, 2**62 - 1, 255)
    assert {shard_of_name(f"w{n}", 3) for n in range(30)} == {0, 1, 2}


async def test_scripts_and_clients_agree_where_a_workflow_lives(world: World) -> None:
    """Subscribers' runs are placed by a script."""
    connection = world.client.connection
    for name in ("w", "Zürich", "a:b", ""):
        told = await connection.read("EVAL", "return redis.sha1hex(ARGV[1])", 0, name)
        assert isinstance(told, bytes)
        assert int(told[:8], 16) % 7 == shard_of_name(name, 7)


async def test_a_workflow_is_listed_once_it_can_be_started(world: World) -> None:
    """It is registered at home first: whoever looked in between was told of a workflow that no start knew."""
    client, name = world.client, name_on(2)
    definitions = engine_of(world).definitions

    @workflow(name, registry=world.registry)
    async def w(ctx: Context) -> object:
        return ctx.input

    await Definitions._register(definitions, w, "app", None)
    assert await client.list_workflows() == []
    assert await client.list_workflows_meta() == []
    assert await client.get_workflow_meta(name) is None
    with pytest.raises(UnknownWorkflowError):
        await world.start(1, name=name)
    await client.sync_registry(world.registry, app="app")
    assert await client.list_workflows() == [name]
    assert [meta["name"] for meta in await client.list_workflows_meta()] == [name]
    await world.start(1, name=name)


async def test_each_run_is_where_its_workflow_lives(world: World) -> None:
    names = [name_on(shard) for shard in range(3)]
    for name in names:

        @workflow(name, registry=world.registry)
        async def w(ctx: Context) -> object:
            return ctx.input

    await world.worker()
    for shard, name in enumerate(names):
        handle = await world.start(shard, name=name)
        assert shard_of(handle.id) == shard
        assert await handle.result() == shard
        connection, keys = world.place_of(name)
        assert await connection.read("EXISTS", keys.run(stored(handle.id))) == 1
    assert (await world.client.get_stats())["total"] == 3


async def test_ids_that_are_not_ours_are_nobody(world: World) -> None:
    for shard in (0, 2, 3, 4095):
        run_id = public_run_id(new_run_id(1_700_000_000_000, 1, shard))
        assert await world.client.get_run(run_id) is None
        assert await world.client.get_run_steps(run_id) == []
        assert await world.client.explain_run(run_id) is None
        assert not await world.client.cancel_run(run_id)
        assert await world.client.list_runs(ListRunsParams(cursor=run_id)) == []
        assert (await world.client.search_runs(SearchRunsParams(parent_run_id=run_id)))["runs"] == []


async def test_near_names_are_those_of_all_shards(world: World) -> None:
    name = name_on(2, "shipment")

    @workflow(name, registry=world.registry)
    async def w(ctx: Context) -> None: ...

    await world.client.sync_registry(world.registry, app="app")
    with pytest.raises(UnknownWorkflowError) as told:
        await world.start(name=name + "s")
    assert told.value.near_names == (name,)


@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_pages_over_all_shards_lose_nothing(world: World, sort: Literal["asc", "desc"]) -> None:
    names = [name_on(shard, start) for shard in range(3) for start in ("a", "b")]
    for name in names:

        @workflow(name, registry=world.registry)
        async def w(ctx: Context) -> None: ...

    await world.client.sync_registry(world.registry, app="app")
    made = await asyncio.gather(*(world.start(n, name=names[n % 6]) for n in range(60)))
    states = [await handle.get_state() for handle in made]
    in_order = sorted((state["created_at"], state["id"]) for state in states if state is not None)
    wanted = [run_id for _, run_id in (in_order if sort == "asc" else in_order[::-1])]
    listed: list[str] = []
    searched: list[str] = []
    cursor: str | None = None
    while page := await world.client.list_runs(ListRunsParams(sort=sort, limit=7, cursor=cursor)):
        listed += [run["id"] for run in page]
        cursor = listed[-1]
    assert listed == wanted
    cursor = None
    while True:
        found = await world.client.search_runs(SearchRunsParams(sort=sort, limit=7, cursor=cursor))
        searched += [run["id"] for run in found["runs"]]
        if "next_cursor" not in found:
            break
        cursor = found["next_cursor"]
    assert searched == wanted
    assert (await world.client.get_stats())["by_status"]["queued"] == 60


async def test_a_worker_claims_from_its_shards_in_turn(world: World) -> None:
    """With one slot, no shard waits behind another's queue."""
    names = [name_on(shard) for shard in range(3)]
    for name in names:

        @workflow(name, registry=world.registry)
        async def w(ctx: Context) -> None:
            world.did.append(ctx.run.workflow)

    await world.client.sync_registry(world.registry, app="app")
    handles = [await world.start(n, name=name) for name in names for n in range(20)]
    await world.small_worker(1)
    for handle in handles:
        await handle.result()
    assert min(Counter(world.did[:30])[name] for name in names) >= 5


async def test_a_worker_never_holds_more_than_it_has_slots(world: World) -> None:
    inside = most = 0
    names = [name_on(shard) for shard in range(3)]
    for name in names:

        @workflow(name, registry=world.registry)
        async def w(ctx: Context) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await world.client.sync_registry(world.registry, app="app")
    handles = [await world.start(n, name=names[n % 3]) for n in range(120)]
    await world.small_worker(4)
    for handle in handles:
        await handle.result()
    assert most <= 4


async def test_a_worker_of_one_shard_claims_there_only(world: World) -> None:
    mine = name_on(1)

    @workflow(mine, registry=world.registry)
    async def w(ctx: Context) -> object:
        return ctx.input

    await world.worker()
    assert await world.run(1, name=mine) == 1
    for shard, lives in ((0, 1), (1, 1), (2, 0)):  # home knows every worker
        scripts = engine_of(world).shards[shard].scripts
        assert await scripts.connection.read("ZCARD", f"{scripts.keys.base}workers") == lives


# -- how many ------------------------------------------------------------------------------------------------------


async def test_another_number_is_refused_by_name(world: World) -> None:
    await world.client.get_stats()
    for shards in (1, 2, 4):
        other = create_client(url=world.url, prefix=world.prefix, shards=shards)
        with pytest.raises(ShardMismatchError, match=rf"has 3 shards, this client was told {shards}: "):
            await other.get_stats()
        await other.close()
    with pytest.raises(ShardMismatchError):
        await start_worker(replace(world.options(), shards=2))
    same = world.new_client()
    assert (await same.get_stats())["total"] == 0


async def test_a_prefix_of_one_shard_stays_one(redis_url: str, prefix: str) -> None:
    """Whatever its first user wrote: a run, an event, a registry."""
    one = World(redis_url, prefix, shards=1)

    @workflow("w", registry=one.registry)
    async def w(ctx: Context) -> None: ...

    await one.client.get_stats()
    await one.client.sync_registry(one.registry, app="app")
    other = create_client(url=redis_url, prefix=prefix, shards=3)
    with pytest.raises(ShardMismatchError, match=r"has 1 shard, this client was told 3: "):
        await other.get_stats()
    assert await one.redis.get(Keys.of(prefix).shards) is None
    await one.client.reset_state()
    assert (await other.get_stats())["total"] == 0
    with pytest.raises(ShardMismatchError, match="has 3 shards, this client was told 1"):
        await one.new_client().get_stats()
    assert await other.reset_state() == {"deleted": 1}
    await other.close()
    await one.close()


async def test_after_a_reset_the_number_is_written_down_anew(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None: ...

    await world.client.sync_registry(world.registry, app="app")
    await world.client.reset_state()
    assert await world.key_count() == 0
    assert await world.redis.get(Keys.of(world.prefix).shards) is None
    await world.client.sync_registry(world.registry, app="app")
    assert await world.redis.get(Keys.of(world.prefix).shards) == b"3"


def test_how_many_there_may_be() -> None:
    for shards in (0, -1, MAX_SHARDS + 1, True):
        with pytest.raises(ValueError, match="shards must be"):
            create_client(url="redis://127.0.0.1:1", shards=shards)


# -- what it costs -------------------------------------------------------------------------------------------------


async def test_an_idle_worker_stays_cheap(
    private_server: Callable[[ServerOptions], ServerProcess], prefix: str
) -> None:
    """About two calls a second for each shard."""
    world = World(private_server(ServerOptions()).url, prefix, shards=3)
    try:
        names = [name_on(shard) for shard in range(3)]
        for name in names:

            @workflow(name, registry=world.registry)
            async def w(ctx: Context) -> None: ...

        worker = await world.worker()
        for name in names:
            await world.run(name=name)

        async def waiting() -> int:
            places = [world.place_of(name) for name in names]
            marked = [await at.read("SCARD", f"{keys.base}idle:{worker.queues[0]}") for at, keys in places]
            return marked.count(1)

        async def calls() -> int:
            stats = await world.redis.info("commandstats")
            return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval"))

        await eventually(waiting, "the worker waits for bells on all shards", until=lambda count: count == 3)
        before, seconds = await calls(), 5
        await asyncio.sleep(seconds)  # the length of the measurement
        assert await calls() - before <= 2.5 * seconds * world.shards
    finally:
        await world.close()


async def test_handles_travel_between_clients(world: World) -> None:
    """Who has only the id finds the run."""
    name = name_on(2)

    @workflow(name, registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run("s", lambda: "x" * 50_000)

    handle = await world.begin(name=name)
    again: RunHandle[JsonData] = RunHandle(handle.id, world.new_client())
    assert await again.result() == "x" * 50_000
