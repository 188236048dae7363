"""A server that is there and says no: it loads, is busy, lets nobody in, has no disk, or has forgotten everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Final

import pytest
from redis.asyncio import Redis

from redflow import CronTrigger, RedflowError, define_workflow, workflow
from redflow.errors import ConnectionError as RedflowConnectionError
from redflow.errors import UnknownWorkflowError
from tests.faults.conftest import StartProcess
from tests.support.load import check_load, define_load, feed
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.worker_process import Effects, start_processes
from tests.support.world import Context, World, eventually, impatient, soon

StartServer = Callable[[ServerOptions], ServerProcess]
FULL: Final = bool(os.environ.get("REDFLOW_TEST_FULL"))
"""The sizes of the goal in place of those that CI has time for: `make faults-full`."""
LEASE_MS: Final = 1_000


@contextlib.asynccontextmanager
async def world_on(server: ServerProcess, prefix: str) -> AsyncIterator[World]:
    """A world on a server of the test's own, judged at its end."""
    world = World(server.url, prefix)
    try:
        yield world
        await world.stop_workers()
        await world.check()
    finally:
        await world.close()


async def fill(world: World, keys: int, size: int) -> None:
    """Make the log of the server long, with keys of somebody else."""
    for start in range(0, keys, 1_000):
        async with world.redis.pipeline(transaction=False) as pipeline:
            for key in range(start, min(start + 1_000, keys)):
                pipeline.set(f"other:{key}", b"x" * size)  # type: ignore[unused-awaitable]  # reason: it is queued
            await pipeline.execute()


def knock(server: ServerProcess) -> tuple[socket.socket, str]:
    """Connect and ask; the connection, and what the server says: PONG, a refusal, or nothing."""
    client = socket.socket()
    try:
        client.settimeout(5)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"PING\r\n")
        return client, client.recv(200).decode()
    except OSError:
        return client, ""


async def refusal(server: ServerProcess) -> str:
    """What the server tells a new client."""
    client, told = await asyncio.to_thread(knock, server)
    client.close()
    return told.lower()


@pytest.mark.any_server
@pytest.mark.timeout(600 if FULL else 60)
async def test_a_server_that_loads_a_long_log_is_waited_for(
    private_server: StartServer, prefix: str, process: StartProcess, effects: Effects
) -> None:
    """For longer than anybody's patience: nothing is lost, no attempt is charged, nobody fills a log."""
    keys, size, delay_us = (1_000_000, 64, 0) if FULL else (4_000, 4_096, 850)
    server = private_server(ServerOptions(appendonly=True, config=(f"key-load-delay {delay_us}", "appendfsync no")))
    async with world_on(server, prefix) as world:
        await fill(world, keys, size)
        workers = [process(lease_ms=LEASE_MS, url=server.url) for _ in range(2)]
        await start_processes(workers)
        handles = [await world.start(name=name) for name in ("steps", "flaky") * 5]
        handles.append(lasting := await world.start(1.0, name="long"))
        await effects.shows(lasting.id, "begin")
        server.kill()
        down_at = time.monotonic()
        up = asyncio.ensure_future(asyncio.to_thread(server.start))
        await eventually(partial(refusal, server), "LOADING", until=lambda told: "loading" in told)
        await up
        down_s = time.monotonic() - down_at
        for handle in handles:
            await handle.result(timeout_ms=10_000)
        assert time.monotonic() - down_at < down_s + LEASE_MS / 1000 + 5
        for handle in handles:
            state = await handle.get_state()
            assert state is not None
            assert state["attempt"] == (2 if "attempt-2" in effects.of(handle.id) else 1)
        for worker in workers:
            assert worker.alive
            lines = [line for line in worker.text().splitlines() if not line.startswith("run ")]
            told = [line for line in lines if "can't reach" in line]
            assert len(told) <= 1 + down_s // 5, "one line in five seconds speaks for all duties"
            assert told or down_s < 4


async def test_a_server_that_comes_back_empty_is_told_as_such_and_starts_anew(
    private_server: StartServer, prefix: str
) -> None:
    server = private_server(ServerOptions())
    async with world_on(server, prefix) as world:
        ticked = asyncio.Event()

        @workflow("w", registry=world.registry)
        async def w(ctx: Context) -> object:
            return await ctx.step.run("s", lambda: ctx.input)

        async def tick(ctx: Context) -> None:
            ticked.set()

        define_workflow("ticks", handler=tick, registry=world.registry, cron=[CronTrigger("* * * * * *")])

        @workflow("sleeps", registry=world.registry)
        async def sleeps(ctx: Context) -> None:
            await ctx.step.wait_for("nap", "1h")

        await world.worker(replace(world.options(), lease_ms=LEASE_MS, registry_recovery_interval_ms=250))
        handle = await world.start(name="sleeps")
        await world.reaches(handle, "scheduled")
        waits = asyncio.ensure_future(handle.result(timeout_ms=30_000))
        await world.waited_for(handle)
        server.kill()
        await asyncio.to_thread(server.start)
        up_at = time.monotonic()
        ticked.clear()
        with pytest.raises(RedflowError, match="Run state unavailable: run_"):
            await waits
        assert time.monotonic() - up_at < 2 + 1, "at most two seconds, and something for a busy machine"
        assert await handle.get_state() is None

        async def started() -> object:
            with contextlib.suppress(UnknownWorkflowError):
                return await (await world.start(7)).result()
            return None

        assert await eventually(started, "a new run") == 7
        await asyncio.wait_for(ticked.wait(), 10)


async def test_a_server_that_is_busy_with_a_foreign_script_is_waited_for(
    private_server: StartServer, prefix: str
) -> None:
    """Longer than the lease: refused with BUSY meanwhile, nobody counts as dead, and two seconds later all goes on."""
    server = private_server(ServerOptions(config=("lua-time-limit 100",)))
    async with world_on(server, prefix) as world:
        define_load(world)
        for _ in range(2):
            await world.worker(replace(world.options(), lease_ms=LEASE_MS, concurrency=5))
        handles = await feed(world, 20)
        foreigner = Redis.from_url(server.url, socket_timeout=30)
        done = len(world.did)
        script = "while redis.call('TIME')[1] + redis.call('TIME')[2] / 1e6 < tonumber(ARGV[1]) do end"
        busy = asyncio.ensure_future(foreigner.eval(script, 0, str(time.time() + 2 * LEASE_MS / 1000)))
        await eventually(partial(refusal, server), "BUSY", until=lambda told: "busy" in told)
        handles += [await world.start(n, name="plain" if n % 3 == 0 else "w") for n in range(20, 30)]
        await busy
        over_at = time.monotonic()
        await soon(lambda: len(world.did) > done, "progress")
        assert time.monotonic() - over_at < 2
        await check_load(world, handles, again=2 * 5 * 2)  # the leases ran out in all slots
        await foreigner.aclose()


@pytest.mark.any_server
async def test_a_server_that_lets_nobody_in_any_more(
    private_server: StartServer, prefix: str, process: StartProcess, effects: Effects
) -> None:
    """Who has a connection goes on; who wants one is told why not, and is let in when there is room again."""
    server = private_server(ServerOptions(config=("maxclients 20",)))
    async with world_on(server, prefix) as world:
        worker = await process(lease_ms=LEASE_MS, url=server.url).ready()
        assert await (await world.start(0, name="long")).result() == [worker.pid] * 2  # both sides are connected
        await world.redis.ping()
        with contextlib.ExitStack() as crowd:

            def fill_up() -> str:
                while (seen := knock(server))[1].startswith("+PONG"):
                    crowd.enter_context(seen[0])
                seen[0].close()
                return seen[1]

            handle = await world.start(0.5, name="long")
            await effects.shows(handle.id, "begin")
            assert "max number of clients reached" in fill_up()
            assert await handle.result() == [worker.pid] * 2
            newcomer = impatient(world.new_client())
            with pytest.raises(RedflowConnectionError, match="max number of clients reached"):
                await newcomer.get_stats()
            late = process(lease_ms=LEASE_MS, url=server.url)
            assert await late.death() == 1, "a worker that can't begin says so and ends"
            assert "max number of clients reached" in late.text()

            # All its connections are gone, and others have taken its places.
            handle = await world.start(0.1, name="long")
            await effects.shows(handle.id, "begin")
            await world.redis.client_kill_filter(_type="pubsub")
            await world.redis.client_kill_filter(_type="normal")
            assert "max number of clients reached" in fill_up()
            await effects.shows(handle.id, "end")
        assert await handle.result() == [worker.pid] * 2
        assert worker.alive
        assert (await newcomer.get_stats())["by_status"]["succeeded"] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process can be set on Linux only")
async def test_a_disk_that_is_full_is_waited_for(
    private_server: StartServer, prefix: str, process: StartProcess, effects: Effects
) -> None:
    """The log may not grow any more: what would write is refused (MISCONF), and goes on when there is room again."""
    server = private_server(ServerOptions(appendonly=True, config=("appendfsync everysec",)))
    async with world_on(server, prefix) as world:
        workers = [process(lease_ms=LEASE_MS, url=server.url) for _ in range(2)]
        await start_processes(workers)
        handles = [await world.start(name=name) for name in ("steps", "flaky") * 5]
        log = next(path for path in server.directory.rglob("*.aof") if "base" not in path.name)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 2_000, resource.RLIM_INFINITY))

        async def started() -> str:
            try:
                handles.append(await world.start(name="steps"))
            except RedflowConnectionError as exc:
                return str(exc)
            return ""

        assert "MISCONF" in await eventually(started, "a full disk")
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        room_at = time.monotonic()
        handles.append(await world.start(name="steps"))
        assert time.monotonic() - room_at < 3
        for handle in handles:
            await handle.result(timeout_ms=10_000)
            state = await handle.get_state()
            assert state is not None
            assert state["attempt"] == (2 if effects.count(handle.id, "attempt-2") else 1)
        assert all(worker.alive for worker in workers)
        total = (await world.client.get_stats())["total"]
        assert total in (len(handles), len(handles) + 1), "a start that was refused, or whose reply was lost"


async def test_a_worker_begins_on_no_server_that_would_remove_its_runs(
    private_server: StartServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server(ServerOptions(users=("limited on nopass ~* &* +@all -@dangerous -@admin",)))
    async with world_on(server, prefix) as world:
        define_load(world)
        await world.redis.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(RedflowConnectionError, match=r"maxmemory-policy is allkeys-lru.*noeviction"):
            await world.worker()
        assert await world.key_count() == 0, "nothing was begun"
        await world.redis.config_set("maxmemory-policy", "volatile-ttl")
        await (await world.worker()).stop()
        assert [text for text in caplog.messages if "maxmemory-policy is volatile-ttl" in text]
        await world.redis.config_set("maxmemory-policy", "allkeys-lru")
        limited = server.url.replace("redis://", "redis://limited:none@")
        await (await world.worker(replace(world.options(), url=limited))).stop()  # nobody could know
