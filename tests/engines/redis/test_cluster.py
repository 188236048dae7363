"""Redis Cluster: everything works on it, and it may lose a master or move our slot in the middle of work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.cluster import RedisCluster as ClusterClient

from redflow import RunHandle, create_client, workflow
from redflow.domain.run import stored_run_id
from redflow.errors import ConnectionError
from redflow.types import JsonData
from tests.support.clusters import RedisCluster, ask, in_step, move_slot, offset_of, slot_of
from tests.support.core_scenarios import (
    CORE,
    Scenario,
    a_killed_worker_is_replaced,
    events,
    name_of,
    results_are_pushed,
    runs_with_steps,
)
from tests.support.load import check_load, define_load, feed
from tests.support.servers import ServerKind, ServerProcess
from tests.support.world import Context, World, impatient, judged, soon


@pytest.fixture(scope="module")
def cluster(server_kind: ServerKind) -> Iterator[RedisCluster]:
    """The cluster of these tests."""
    with RedisCluster(server_kind) as cluster:
        yield cluster


def client_of(node: ServerProcess) -> ClusterClient:
    """A redis-py client that knows one node."""
    return ClusterClient(startup_nodes=[ClusterNode("127.0.0.1", node.port)])


@pytest.fixture
async def world(cluster: RedisCluster, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A prefix on the first node, while the URL or the given client names another one. Judged at the end."""
    prefix = cluster.prefix_on(0, "cluster")
    given = None if getattr(request, "param", "url") == "url" else lambda: client_of(cluster.nodes[2])
    async with judged(World(cluster.url, prefix, redis=given)) as world:
        yield world


@pytest.mark.parametrize("scenario", CORE, ids=name_of)
async def test_core(world: World, scenario: Scenario) -> None:
    await scenario(world)


@pytest.mark.parametrize("world", ["client"], indirect=True)
@pytest.mark.parametrize("scenario", [runs_with_steps, events, results_are_pushed], ids=name_of)
async def test_core_of_a_given_client(world: World, scenario: Scenario) -> None:
    await scenario(world)


async def test_all_keys_of_a_prefix_are_on_the_node_of_its_slot(cluster: RedisCluster) -> None:
    for n, node in enumerate(cluster.nodes[:3]):
        prefix = cluster.prefix_on(n, "spread")
        world = World(cluster.url, prefix)
        define_load(world)
        await world.client.sync_registry(world.registry, app="app")
        await world.start(0)
        assert await world.key_count() == ask(node, "CLUSTER", "COUNTKEYSINSLOT", slot_of(prefix)) > 5
        await world.close()


async def test_a_given_client_stays_usable(cluster: RedisCluster) -> None:
    """Neither a connection of ours nor the end of a worker closes it under its owner."""
    redis = client_of(cluster.nodes[0])
    prefix = cluster.prefix_on(2, "given")
    world = World(cluster.url, prefix, redis=lambda: redis)
    try:

        @workflow("w", registry=world.registry)
        async def w(ctx: Context) -> object:
            return ctx.input

        async def use() -> None:
            for n in range(200):
                await redis.set(f"mine-{n}", n)

        using = asyncio.ensure_future(use())
        assert await world.run(3) == 3
        await using
        await world.stop_workers()
        assert await redis.get("mine-199") == b"199"
    finally:
        await world.close()


async def test_no_node_answers() -> None:
    """One line that says where and why."""
    client = impatient(create_client(url="redis+cluster://127.0.0.1:1,127.0.0.1:2", prefix="nowhere"))
    with pytest.raises(ConnectionError, match=r"^can't reach redis\+cluster://127\.0\.0\.1:1,127\.0\.0\.1:2: [^\n]+$"):
        await client.get_stats()
    await client.close()


@pytest.mark.faults
async def test_a_killed_worker_is_replaced(world: World, tmp_path: Path) -> None:
    await a_killed_worker_is_replaced(world, tmp_path)


@pytest.mark.faults
async def test_a_node_that_hangs_is_not_waited_for(cluster: RedisCluster, world: World) -> None:
    """The first one that is asked for the way accepts the connection and says nothing."""
    world.url = cluster.url_of(cluster.nodes[2], cluster.nodes[1])
    client = world.new_client()
    cluster.nodes[2].pause()
    try:
        began = time.monotonic()
        assert (await client.get_stats())["total"] == 0
        assert time.monotonic() - began < 3
    finally:
        cluster.nodes[2].resume()


@pytest.mark.faults
async def test_the_slot_moves_while_runs_run(cluster: RedisCluster, world: World) -> None:
    """There and back, key by key, under load: nothing is lost, nothing is done twice."""
    define_load(world)
    for _ in range(2):
        await world.worker(replace(world.options(), lease_ms=2000))
    moves: Counter[str] = Counter()
    feeding = asyncio.ensure_future(feed(world, 60, moves))
    for target in (cluster.nodes[1], cluster.nodes[0]):
        done = len(world.did)
        await soon(lambda done=done: len(world.did) > done + 10, "work")  # type: ignore[misc]
        await asyncio.to_thread(move_slot, cluster, world.prefix, target)
        assert cluster.owner(world.prefix) is target
        moves["harm"] += 5
    await check_load(world, await feeding, again=0)


@pytest.mark.faults
async def test_the_slot_moves_at_once(cluster: RedisCluster, world: World, server_kind: ServerKind) -> None:
    """Valkey 9 sends the slot over as a whole, and hands it over in one moment."""
    if server_kind is not ServerKind.BUNDLED:
        pytest.skip("CLUSTER MIGRATESLOTS is of Valkey 9")
    define_load(world)
    await world.worker(replace(world.options(), lease_ms=2000))
    moves: Counter[str] = Counter()
    feeding, slot = asyncio.ensure_future(feed(world, 60, moves)), slot_of(world.prefix)
    for source, target in ((0, 1), (1, 0)):
        done = len(world.did)
        await soon(lambda done=done: len(world.did) > done + 10, "work")  # type: ignore[misc]
        name = ask(cluster.nodes[target], "CLUSTER", "MYID")
        ask(cluster.nodes[source], "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)
        await soon(lambda target=target: cluster.owner(world.prefix) is cluster.nodes[target], "it to move")  # type: ignore[misc]
        moves["harm"] += 5
    await check_load(world, await feeding, again=0)


@pytest.mark.faults
async def test_a_slot_that_moves_for_longer_than_the_lease_poisons_nobody(cluster: RedisCluster, world: World) -> None:
    """While it moves no lease can be renewed, and nobody is taken for dead for that."""
    go = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("begin")
        await ctx.step.run("s", go.wait)
        return ctx.run.attempt

    for _ in range(2):
        await world.worker(replace(world.options(), lease_ms=400))
    handle = await world.start()
    await soon(lambda: bool(world.did), "the step")

    def hold() -> None:
        time.sleep(1.2)  # how long most of the keys are here and the others there

    await asyncio.to_thread(move_slot, cluster, world.prefix, cluster.nodes[1], hold)
    await asyncio.to_thread(move_slot, cluster, world.prefix, cluster.nodes[0])
    go.set()
    assert await handle.result() == 1
    assert await world.redis.hget(world.keys.run(stored_run_id(handle.id) or ""), "x") is None


@pytest.mark.faults
async def test_a_cluster_that_is_down_for_a_moment(cluster: RedisCluster, world: World) -> None:
    """A slot without a node stops the whole cluster (cluster-require-full-coverage); then work goes on."""
    define_load(world)
    await world.worker(replace(world.options(), lease_ms=2000))
    outage: Counter[str] = Counter()
    feeding = asyncio.ensure_future(feed(world, 40, outage))
    await soon(lambda: len(world.did) > 10, "work")
    node, slot, losses = cluster.nodes[0], (slot_of(world.prefix) + 1) % 5000, world.client.connection.losses
    ask(node, "CLUSTER", "DELSLOTS", slot)
    await soon(lambda: world.client.connection.losses > losses, "a refusal")
    await asyncio.sleep(0.5)  # the length of the outage
    ask(node, "CLUSTER", "ADDSLOTS", slot)
    outage["harm"] = 10
    await check_load(world, await feeding, again=0)


@pytest.fixture(scope="module")
def replicated(cluster: RedisCluster) -> Iterator[RedisCluster]:
    """The cluster with a replica of its first node, which takes over within a second or two."""
    cluster.add_replica(cluster.nodes[0])
    cluster.fails_over(after_ms=700)
    yield cluster
    cluster.fails_over(after_ms=15_000)


@pytest.mark.faults
async def test_a_planned_failover_costs_nothing(replicated: RedisCluster, world: World) -> None:
    """CLUSTER FAILOVER: the master waits for its replica, so nothing is lost and no step runs again."""
    define_load(world)
    for _ in range(2):
        await world.worker(replace(world.options(), lease_ms=2000))
    failovers: Counter[str] = Counter()
    feeding = asyncio.ensure_future(feed(world, 40, failovers))
    await soon(lambda: len(world.did) > 10, "work")
    former = replicated.owner(world.prefix)
    replica = replicated.replica_of(former)
    ask(replica, "CLUSTER", "FAILOVER")
    await soon(lambda: replicated.owner(world.prefix) is replica, "the failover")
    failovers["harm"] = 10
    await check_load(world, await feeding, again=0)
    in_step(former)


@pytest.mark.faults
async def test_a_master_dies_and_its_replica_takes_over(
    replicated: RedisCluster, world: World, record_property: Callable[[str, object], None]
) -> None:
    """What was accepted and replicated survives; a step that was recorded and replicated does not run again."""
    started, go = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        async def second() -> object:
            world.did.append(f"second {ctx.input}")
            if world.did.count(f"second {ctx.input}") == 1 and len(world.did) == 20:
                started.set()
            await go.wait()
            return ctx.input

        await ctx.step.run("first", world.did.append, f"first {ctx.input}")
        return await ctx.step.run("second", second)

    for _ in range(2):
        await world.worker()
    handles: list[RunHandle[JsonData]] = [await world.start(n) for n in range(10)]
    results = asyncio.ensure_future(asyncio.gather(*(handle.result() for handle in handles)))
    await started.wait()
    waiting = [await world.client.emit_workflow("w", n, idempotency_key=str(n)) for n in range(10, 40)]
    former = replicated.owner(world.prefix)
    replica = replicated.replica_of(former)
    reached = offset_of(former)
    await soon(lambda: offset_of(replica) >= reached, "the replica to have it all")

    former.kill()
    killed_at = time.monotonic()
    go.set()  # the steps end while nobody can write it down
    assert await results == list(range(10))
    took_s = time.monotonic() - killed_at
    assert [await handle.result() for handle in waiting] == list(range(10, 40))
    record_property("seconds_until_work_went_on", round(took_s, 1))
    assert took_s < 12
    assert all(world.did.count(f"first {n}") == 1 for n in range(10))
    assert all(world.did.count(f"second {n}") <= 2 for n in range(10))
    again = await world.client.emit_workflow("w", 10, idempotency_key="10")
    assert again.id == waiting[0].id
    assert (await world.client.get_stats())["total"] == 40
    await asyncio.to_thread(former.start)
    in_step(former)
