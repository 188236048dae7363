"""Clients of every sort on one server: modes, prefixes, embedded://, use after close (spec conventions, 3)."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from redflow import (
    RedflowClient,
    StartWorkerOptions,
    WorkflowRegistry,
    create_client,
    define_workflow,
    get_default_client,
    set_default_client,
    start_worker,
    workflow,
)
from redflow.engines.redis.sources import AnyRedis
from redflow.errors import ConnectionError
from redflow.types import WorkflowRetryPolicy
from tests.support.world import Context, World


async def everything(ctx: Context) -> object:
    if ctx.run.attempt == 1:
        await ctx.step.run("s", lambda: ["é", None])
        await ctx.step.wait_for("nap", 10)
        raise ValueError("again")
    return [ctx.input, await ctx.step.run("s", lambda: "never")]


def redis_of(url: str, mode: str) -> AnyRedis:
    kind = RedisCluster if url.startswith("redis+cluster://") else Redis
    url = url.removeprefix("redis+cluster://").removeprefix("redis://")
    if mode == "decoded":
        return kind.from_url(f"redis://{url}", decode_responses=True)
    if mode == "resp3":
        return kind.from_url(f"redis://{url}", protocol=3, decode_responses=True)
    if mode == "retrying":
        retry = Retry(ExponentialBackoff(), 5)
        return kind.from_url(
            f"redis://{url}", retry=retry, socket_timeout=0.5, health_check_interval=1, max_connections=1
        )
    return kind.from_url(f"redis://{url}")


@pytest.mark.parametrize("mode", ["bytes", "decoded", "resp3", "retrying"])
async def test_every_mode_of_a_passed_in_client_works(world: World, mode: str) -> None:
    define_workflow("w", handler=everything, registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    redis = redis_of(world.url, mode)
    client = create_client(redis=redis, prefix=world.prefix)
    assert client.redis is redis
    worker = await world.worker(replace(world.options(), redis=redis, url=None))
    handle = await client.emit_workflow("w", {"ü": 1}, idempotency_key="k")
    assert await handle.result() == [{"ü": 1}, ["é", None]]
    assert await client.get_run(handle.id) == await world.client.get_run(handle.id)
    assert await client.get_run_steps(handle.id) == await world.client.get_run_steps(handle.id)
    assert await client.get_run_attempts(handle.id) == await world.client.get_run_attempts(handle.id)
    assert (await client.get_stats())["total"] == 1
    assert await client.list_workflows() == ["w"]
    assert (await client.reset_runs())["deleted"] > 0
    await worker.stop()
    assert await redis.ping(), "stop() leaves a passed-in client open"
    await client.close()


async def test_two_prefixes_are_two_worlds(world: World) -> None:
    other = World(world.url, world.prefix + "-other")
    try:
        for each in (world, other):

            @workflow("w", registry=each.registry)
            async def w(ctx: Context, each: World = each) -> object:
                each.did.append(str(ctx.input))
                return each.prefix

            await each.worker()
        handles = [
            await each.client.emit_workflow("w", n, idempotency_key="k") for each in (world, other) for n in "ab"
        ]
        results = [await handle.result() for handle in handles]
        assert results == [world.prefix] * 2 + [other.prefix] * 2
        assert (world.did, other.did) == (["a"], ["a"])
        assert await other.client.get_run(handles[0].id) is None
        assert await other.client.cancel_run(handles[0].id) is False
        assert (await other.client.get_stats())["total"] == 1
    finally:
        await other.client.reset_state()
        await other.close()


async def test_trailing_colons_of_a_prefix_mean_nothing(world: World) -> None:
    define_workflow("w", handler=everything, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    same = create_client(url=world.url, prefix=f"{world.prefix}::")
    assert await same.list_workflows() == ["w"]
    await same.close()


@pytest.mark.parametrize("bad", ["a{b", "a}", "a*", "a?", "a[b]", "a\\", "a\nb", "a\x00", "x" * 256, "\ud800"])
async def test_a_bad_prefix_is_refused(world: World, bad: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        create_client(url=world.url, prefix=bad)
    with pytest.raises(ValueError, match="prefix"):
        await start_worker(replace(world.options(), prefix=bad))


async def test_use_after_close_fails_at_once(world: World) -> None:
    define_workflow("w", handler=everything, registry=world.registry)
    client = create_client(url=world.url, prefix=world.prefix)
    await client.sync_registry(world.registry, app="app")
    handle = await client.emit_workflow("w", 1)
    await client.close()
    await client.close()
    for call in (
        lambda: client.emit_workflow("w", 1),
        lambda: handle.result(),
        lambda: handle.get_state(),
        lambda: client.cancel_run(handle.id),
        lambda: client.get_stats(),
    ):
        started = time.monotonic()
        with pytest.raises(ConnectionError, match="closed"):
            await call()
        assert time.monotonic() - started < 0.5
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "redflow-signals"], "nothing is reopened"


async def test_close_closes_a_client_that_was_passed_in(world: World) -> None:
    closed: list[str] = []

    class Noting(Redis):
        async def aclose(self, close_connection_pool: bool | None = None) -> None:
            closed.append("closed")
            await super().aclose(close_connection_pool)

    client = create_client(redis=Noting.from_url(world.url), prefix=world.prefix)
    assert await client.get_stats()
    assert closed == []
    await client.close()
    assert closed == ["closed"]


async def test_close_while_waiting_ends_the_wait(world: World) -> None:
    define_workflow("w", handler=everything, registry=world.registry)
    client = create_client(url=world.url, prefix=world.prefix)
    await client.sync_registry(world.registry, app="app")
    handle = await client.emit_workflow("w", 1)
    waiting = asyncio.ensure_future(handle.result())
    await world.waited_for(handle)
    started = time.monotonic()
    await client.close()
    with pytest.raises(ConnectionError, match="closed"):
        await waiting
    assert time.monotonic() - started < 1


async def test_the_default_client_is_made_once_and_can_be_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", world.url)
    monkeypatch.setenv("REDFLOW_PREFIX", world.prefix)
    monkeypatch.setenv("REDFLOW_APP", "  shop ")
    set_default_client(None)
    client = get_default_client()
    assert client is get_default_client()
    assert (client.prefix, client.app) == (world.prefix, "shop")

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return ctx.input

    await world.worker()
    assert await (await w.run(5)).result() == 5
    set_default_client(world.client)
    assert get_default_client() is world.client
    set_default_client(None)
    assert get_default_client() not in (client, world.client)
    await get_default_client().close()
    set_default_client(None)
    await client.close()


async def test_the_embedded_server_by_url(tmp_path: Path) -> None:
    """Started by the first who connects; state survives the next start."""
    url = f"embedded://{tmp_path}/data"
    client = create_client(url=url, prefix="p", app="app")
    workflows = WorkflowRegistry()
    define_workflow("w", handler=everything, registry=workflows, retries=WorkflowRetryPolicy(delay=1))
    options = StartWorkerOptions(app="app", url=url, prefix="p", registry=workflows)
    worker = await start_worker(options)
    handle = await client.emit_workflow("w", 1)
    assert await handle.result() == [1, ["é", None]]
    await worker.stop()
    await client.close()
    again = create_client(url=url, prefix="p")
    state = await again.get_run(handle.id)
    assert state is not None
    assert state["output"] == [1, ["é", None]]
    await again.close()


async def test_clients_in_the_same_world_see_each_others_writes(world: World) -> None:
    define_workflow("w", handler=everything, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.client.emit_workflow("w", 1)
    other = world.new_client()
    assert await other.get_run(handle.id) == await handle.get_state()
    assert isinstance(other, RedflowClient)


NEVER_CLOSED = """
import asyncio, sys
from redflow import WorkflowRegistry, create_client
from redflow.errors import TimeoutError

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no word of ours
    client = create_client(url=sys.argv[1], prefix=sys.argv[2])
    await client.sync_registry(WorkflowRegistry(), app="app")
    handle = await client.run_by_name("w", 1, queue_override="q")
    try:
        await handle.result(timeout_ms=20)
    except TimeoutError:
        print("not yet")

asyncio.run(main())
"""


async def test_a_program_that_forgets_to_close_its_client_ends_without_a_word(redis_url: str, prefix: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", NEVER_CLOSED, redis_url, prefix]
    program = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await program.communicate()
    assert (program.returncode, out, err.decode()) == (0, b"not yet\n", "")
