"""Faults of the server and of the way to it, under load: restart, stall, lost connections, lost replies, lost scripts.

Workers live in this process; what their functions did is noted in a list, which Redis can't talk them out of.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partialmethod

import pytest
from redis.asyncio import Redis

from redflow import workflow
from redflow.domain.run import stored_run_id
from redflow.engines.redis.link import Argument, Link, LinkLost
from redflow.engines.redis.loops.registrar import REGISTER_WORKER
from redflow.engines.redis.replies import Reply
from redflow.engines.redis.runs import RunScripts, StepWrite
from tests.support.load import STEPS, Handles, check_load, define_load, feed
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, eventually, soon

StartServer = Callable[[ServerOptions], ServerProcess]
Send = Callable[..., asyncio.Future[Reply]]


@contextlib.asynccontextmanager
async def meanwhile(world: World, harm: Callable[[], Awaitable[object]]) -> AsyncIterator[Counter[str]]:
    """Do harm again and again while the block runs; counts how often.

    On a loaded machine everything takes longer but a pause: so after each harm something must have been done before
    the next comes, or half a second have passed, for what stands still shall suffer, too.
    """
    count: Counter[str] = Counter()
    over = asyncio.Event()

    async def keep_on() -> None:
        while not over.is_set():
            done = len(world.did)
            await harm()
            count["harm"] += 1
            with contextlib.suppress(AssertionError):
                await soon(lambda done=done: len(world.did) > done, "progress", timeout_s=0.5)  # type: ignore[misc]

    task = asyncio.ensure_future(keep_on())
    try:
        yield count
    finally:
        over.set()  # not cancelled: redis-py sometimes swallows that, and the harm would go on for ever
        await asyncio.gather(task, return_exceptions=True)


async def test_connections_are_killed_again_and_again(world: World) -> None:
    define_load(world)
    for _ in range(2):
        await world.worker(replace(world.options(), lease_ms=2000))
    async with meanwhile(world, lambda: world.redis.client_kill_filter(_type="normal")) as harm:
        handles = await feed(world, 60, harm)
        await check_load(world, handles, again=0)


async def test_push_connections_are_killed_again_and_again(world: World) -> None:
    define_load(world)
    await world.worker()
    async with meanwhile(world, lambda: world.redis.client_kill_filter(_type="pubsub")) as harm:
        handles = await feed(world, 30, harm)
        await check_load(world, handles, again=0)


async def test_scripts_are_flushed_again_and_again(world: World) -> None:
    define_load(world)
    await world.worker()
    async with meanwhile(world, lambda: world.redis.script_flush()) as harm:
        handles = await feed(world, 60, harm)
        await check_load(world, handles, again=0)


def lose_replies(monkeypatch: pytest.MonkeyPatch, every: int) -> Counter[str]:
    """Every n-th call of a script loses its first reply: it was applied, and is sent again.

    Returns:
        How many were "sent", and how many replies were "lost", so far.
    """
    seen = Counter[str]()
    sent_again: set[tuple[Argument, ...]] = set()

    def losing(link: Link, send: Send, *args: Argument) -> asyncio.Future[Reply]:
        future = send(link, *args)
        if args[0] not in ("EVALSHA", "EVAL"):
            return future
        if args in sent_again:  # what comes again gets through, or a call could run out of patience
            sent_again.remove(args)
            return future
        seen["sent"] += 1
        if seen["sent"] % every:
            return future
        sent_again.add(args)
        lost: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def applied(done: asyncio.Future[Reply]) -> None:
            if lost.done():
                return
            if done.cancelled() or done.exception() is not None:
                lost.cancel() if done.cancelled() else lost.set_exception(done.exception() or LinkLost("", sent=True))
                return
            seen["lost"] += 1
            lost.set_exception(LinkLost("the reply was lost", sent=True))

        future.add_done_callback(applied)
        return lost

    for name in ("send", "send_now"):
        monkeypatch.setattr(Link, name, partialmethod(losing, getattr(Link, name)))
    return seen


async def test_a_cancel_whose_reply_is_lost_still_says_that_it_canceled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    define_load(world)
    await world.client.sync_registry(world.registry, app=world.options().app)
    handle = await world.start()
    await world.client.get_stats()  # loads what else there is to load
    seen = lose_replies(monkeypatch, 1)
    assert await world.client.cancel_run(handle.id)
    assert seen["lost"] == (1 if world.client.shards == 1 else 2)  # on several the outbox is brought on its way as well
    assert not await world.client.cancel_run(handle.id), "somebody else's cancel of a canceled run"


@pytest.mark.parametrize("every", [1, 2, 3])
async def test_replies_are_lost_after_the_command_was_applied(
    world: World, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    seen = lose_replies(monkeypatch, every)
    define_load(world)
    await world.worker()
    handles = await feed(world, 40)
    keyed = [await world.client.emit_workflow("plain", 999, idempotency_key="k") for _ in range(5)]
    assert len({handle.id for handle in keyed}) == 1
    assert await keyed[0].result() == [[999, k] for k in range(STEPS)]
    await world.client.cleanup_expired_runs_now(reference_time_ms=0)
    for call in [call for call in world.did if call.startswith("999")]:
        world.did.remove(call)
    for n, handle in enumerate(handles):
        assert await handle.result() == [[n, k] for k in range(STEPS)]
    assert len(world.did) == len(set(world.did)), "a committed step is never called again"
    assert (await world.client.get_stats())["total"] == 41
    assert seen["lost"] >= 10


async def test_redis_is_killed_and_restarted_while_runs_run(private_server: StartServer, prefix: str) -> None:
    """AOF with fsync at every write: nothing that was accepted is lost, nothing that was recorded runs again."""
    server = private_server(ServerOptions(appendonly=True))
    world = World(server.url, prefix)
    try:
        define_load(world)
        for _ in range(2):
            await world.worker(replace(world.options(), lease_ms=1000, concurrency=5))
        handles = await feed(world, 20)
        for _ in range(3):
            done = len(world.did)
            server.kill()
            await asyncio.to_thread(server.start)
            handles += [await world.start(n, name="plain" if n % 3 == 0 else "w") for n in next_numbers(handles, 8)]
            await soon(lambda done=done: len(world.did) > done, "progress after a restart")  # type: ignore[misc]
        await check_load(world, handles, again=3 * 2 * 5 * 2)
    finally:
        await world.close()


def next_numbers(handles: Handles, count: int) -> range:
    return range(len(handles), len(handles) + count)


async def test_a_run_keeps_its_steps_over_a_restart_in_the_middle_of_one(
    private_server: StartServer, prefix: str
) -> None:
    server = private_server(ServerOptions(appendonly=True))
    world = World(server.url, prefix)
    started, go = asyncio.Event(), asyncio.Event()
    try:

        @workflow("w", registry=world.registry)
        async def w(ctx: Context) -> object:
            async def second() -> str:
                world.did.append("second")
                started.set()
                await go.wait()
                return "second"

            await ctx.step.run("first", world.did.append, "first")
            return await ctx.step.run("second", second)

        await world.worker()
        handle = await world.start()
        result = asyncio.ensure_future(handle.result())
        await started.wait()
        server.kill()
        go.set()  # the step ends while nobody can write it down
        await asyncio.to_thread(server.start)
        assert await result == "second"
        assert world.did == ["first", "second"], "a short outage costs nothing"
    finally:
        await world.close()


@pytest.mark.parametrize("freezes", [4])
async def test_a_server_that_stalls_longer_than_the_lease_poisons_nobody(
    private_server: StartServer, prefix: str, freezes: int
) -> None:
    """Outages do not count as deaths of a holder, however often they come during one step."""
    server = private_server(ServerOptions(appendonly=True))
    world = World(server.url, prefix)
    go = asyncio.Event()
    lease_s = 0.4
    try:

        @workflow("w", registry=world.registry, max_attempts=1)
        async def w(ctx: Context) -> object:
            async def lasting() -> str:
                world.did.append("begin")
                await go.wait()
                return "done"

            return await ctx.step.run("s", lasting)

        for _ in range(2):
            await world.worker(replace(world.options(), lease_ms=int(lease_s * 1000)))
        handle = await world.start()
        for _ in range(freezes):
            await soon(lambda: bool(world.did), "the step")
            server.pause()
            await asyncio.sleep(2 * lease_s)  # the length of the outage
            server.resume()
            await eventually(lambda: world.status(handle), "the server", until="running".__eq__)
            await asyncio.sleep(2 * lease_s)  # time for whoever wants to take the run
        go.set()
        assert await handle.result() == "done"
    finally:
        await world.close()


async def test_a_late_running_does_not_undo_a_steps_success(world: World) -> None:
    """Two writes of one step, sent again after a broken connection, may arrive in either order."""
    define_load(world)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start(0)
    scripts = RunScripts(world.client.connection, world.keys, 60_000)
    await scripts.connection.call(REGISTER_WORKER, world.keys.base, ("", "w1", 30_000, "app", "{}", "", "w"))
    reply = await scripts.claim("w1", "w1.1", 30_000, 1, ["app:default"])
    assert reply is not None
    [run] = reply.runs
    await scripts.record([StepWrite(run.lease, "s:one", "1 Sr 1 0 5 ", b"7")])
    await scripts.record([StepWrite(run.lease, "s:one", "1 Rr 1 0 - ", b"")])
    [step] = await world.client.get_run_steps(handle.id)
    assert (step["status"], step["output"]) == ("succeeded", 7)
    await scripts.release([run.lease])


@pytest.mark.slow
async def test_a_run_lost_in_a_long_outage_is_handed_back_and_nobody_counts_as_dead(
    private_server: StartServer, prefix: str
) -> None:
    """The outage outlasts lease and patience, so that the step is interrupted and begins anew."""
    server = private_server(ServerOptions(appendonly=True))
    world = World(server.url, prefix)
    redis = Redis.from_url(server.url)
    go = asyncio.Event()
    try:

        @workflow("w", registry=world.registry)
        async def w(ctx: Context) -> object:
            async def lasting() -> int:
                world.did.append("begin")
                await go.wait()
                return ctx.run.attempt

            await ctx.step.run("first", world.did.append, "first")
            return await ctx.step.run("s", lasting)

        await world.worker(replace(world.options(), lease_ms=500))
        handle = await world.start()
        await soon(lambda: world.did == ["first", "begin"], "the step")
        server.kill()
        await asyncio.sleep(3.5)  # the length of the outage
        await asyncio.to_thread(server.start)
        await soon(lambda: world.did.count("begin") == 2, "the step's second begin")
        deaths = await redis.hget(f"{world.keys.base}run:{stored_run_id(handle.id)}", "x")
        assert deaths is None
        go.set()
        assert await handle.result() == 1
        assert world.did == ["first", "begin", "begin"]
    finally:
        await redis.aclose()
        await world.close()


async def test_a_full_server_refuses_new_runs_and_lets_the_old_ones_drain(
    private_server: StartServer, prefix: str
) -> None:
    server = private_server(ServerOptions(maxmemory=64 * 1024 * 1024))
    world = World(server.url, prefix)
    redis = Redis.from_url(server.url)
    try:
        define_load(world)
        await world.client.sync_registry(world.registry, app="app")
        handles = await feed(world, 30)
        before = await world.key_count()
        await redis.config_set("maxmemory", 1)
        with pytest.raises(Exception, match="out of memory") as caught:
            await world.start(99)
        assert type(caught.value).__name__ == "QueueFullError"
        assert await world.key_count() == before, "refused whole"
        await redis.config_set("maxmemory", 64 * 1024 * 1024)
        await world.worker()
        await soon(lambda: bool(world.did), "the load to begin")
        await redis.config_set("maxmemory", 1)
        await check_load(world, handles, again=0)
    finally:
        await redis.aclose()
        await world.close()
