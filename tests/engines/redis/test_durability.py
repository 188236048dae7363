"""Durability with real replicas and real logs: confirmed, not confirmed in time, not possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from redflow import (
    EventTrigger,
    RedflowClient,
    StartWorkerOptions,
    create_client,
    define_workflow,
    start_worker,
)
from redflow.errors import DurabilityUnsupportedError, NotDurableError, RedflowError
from redflow.registry import WorkflowRegistry
from redflow.types import Durability, ResolvedDebounce, WorkflowCall, WorkflowRetryPolicy
from tests.support.servers import ServerKind, ServerOptions, ServerProcess
from tests.support.world import Context, eventually, soon

Start = Callable[[ServerOptions], ServerProcess]
REPLICATED, FSYNCED = Durability.REPLICATED, Durability.FSYNCED


@pytest.fixture
async def pair(private_server: Start) -> tuple[ServerProcess, ServerProcess]:
    """A master and a replica that is in step with it."""
    master = private_server(ServerOptions(config=("repl-diskless-sync-delay 0",)))
    replica = private_server(ServerOptions(config=(f"replicaof 127.0.0.1 {master.port}",)))
    redis = Redis.from_url(master.url)

    async def in_step() -> int:
        await redis.set("probe", 1)
        return int(await redis.wait(1, 100))

    await eventually(in_step, "a replica in step")
    await redis.aclose()
    return master, replica


@asynccontextmanager
async def client_of(
    server: ServerProcess, durability: Durability, timeout_ms: int = 5000
) -> AsyncIterator[RedflowClient]:
    client = create_client(url=server.url, prefix="p", durability=durability, durability_timeout_ms=timeout_ms)
    try:
        yield client
    finally:
        await client.close()


async def on(server: ServerProcess, run_id: str) -> bool:
    """Whether a server has a run."""
    redis = Redis.from_url(server.url)
    try:
        return bool([key async for key in redis.scan_iter(f"p:*run:{run_id.removeprefix('run_').replace('-', '')}")])
    finally:
        await redis.aclose()


async def commands(server: ServerProcess, name: str) -> int:
    """How often a server was sent a command."""
    redis = Redis.from_url(server.url)
    try:
        stats = await redis.info("commandstats")
        return int(stats.get(f"cmdstat_{name}", {}).get("calls", 0))
    finally:
        await redis.aclose()


async def test_a_run_that_is_confirmed_is_on_the_replica(pair: tuple[ServerProcess, ServerProcess]) -> None:
    master, replica = pair
    async with client_of(master, REPLICATED) as client:
        handles = await asyncio.gather(*[client.run_by_name("w", n, queue_override="q") for n in range(20)])
        for handle in handles:
            assert await on(replica, handle.id)


async def test_a_run_that_is_not_confirmed_was_started(pair: tuple[ServerProcess, ServerProcess]) -> None:
    master, replica = pair
    async with client_of(master, REPLICATED, timeout_ms=50) as client:
        await client.run_by_name("w", 0, queue_override="q")
        replica.pause()
        try:
            with pytest.raises(NotDurableError, match=r"started, but .*replicated .*50 ms") as caught:
                await client.run_by_name("w", 1, queue_override="q", idempotency_key="k")
            run_id = caught.value.run_id
            assert run_id is not None
            assert await client.make_run_handle(run_id).get_state() is not None
            with pytest.raises(NotDurableError) as again:  # asked again it finds the run, and is as unsure as before
                await client.run_by_name("w", 1, queue_override="q", idempotency_key="k")
            assert again.value.run_id == run_id
            plain = await client.run_by_name("w", 2, queue_override="q", durability=Durability.NONE)
            assert await plain.get_state() is not None
        finally:
            replica.resume()
        await eventually(lambda: commands(replica, "ping"), "the replica", until=lambda _: True)
        client.connection.durable_wait_ms = 5000
        handle = await client.run_by_name("w", 1, queue_override="q", idempotency_key="k")
        assert handle.id == run_id
        assert await on(replica, run_id)


async def test_events_bulk_and_debounced_runs(pair: tuple[ServerProcess, ServerProcess]) -> None:
    master, replica = pair
    registry = WorkflowRegistry()

    async def handler(ctx: Context) -> None: ...

    define_workflow("w", handler=handler, registry=registry, event=EventTrigger("e"), durability=REPLICATED)
    define_workflow("plain", handler=handler, registry=registry, durability=Durability.NONE)
    async with client_of(master, REPLICATED, timeout_ms=50) as client:
        await client.sync_registry(registry, app="a")
        assert len(await client.emit_event("e", 1)) == 1
        debounce = ResolvedDebounce("k", 1000, None)
        assert await on(replica, (await client.run_by_name("w", 1, debounce=debounce)).id)
        replica.pause()
        try:
            with pytest.raises(NotDurableError, match="emitted") as caught:
                await client.emit_event("e", 2)
            assert caught.value.event_id is not None
            assert await client.get_event(caught.value.event_id) is not None
            with pytest.raises(NotDurableError):
                await client.run_by_name("w", 1, debounce=debounce)
            calls = [WorkflowCall("w", 1), WorkflowCall("plain", 1), WorkflowCall("nobody", 1), WorkflowCall("w", 2)]
            one, plain, unknown, two = await client.emit_workflows(calls)
            assert isinstance(one, NotDurableError)
            assert isinstance(two, NotDurableError)
            assert one.run_id != two.run_id
            assert not isinstance(plain, Exception)
            assert type(unknown).__name__ == "UnknownWorkflowError"
        finally:
            replica.resume()


async def test_no_replica_at_all_is_not_confirmed(private_server: Start) -> None:
    async with client_of(private_server(ServerOptions()), REPLICATED, timeout_ms=20) as client:
        with pytest.raises(NotDurableError):
            await client.run_by_name("w", 1, queue_override="q")


async def test_a_log_confirms_and_survives(private_server: Start, server_kind: ServerKind) -> None:
    server = private_server(ServerOptions(appendonly=True))
    async with client_of(server, FSYNCED) as client:
        if server_kind is not ServerKind.BUNDLED:
            with pytest.raises(DurabilityUnsupportedError, match=r"WAITAOF needs Redis >= 7\.2"):
                await client.run_by_name("w", 1, queue_override="q")
            assert (await client.get_stats())["total"] == 0
            return
        handle = await client.run_by_name("w", 1, queue_override="q")
        server.kill()
        server.start()
        assert await handle.get_state() is not None
        assert (await client.run_by_name("w", 2, queue_override="q")).id != handle.id


async def test_without_a_log_it_says_what_is_missing_and_writes_nothing(private_server: Start) -> None:
    server = private_server(ServerOptions())
    async with client_of(server, FSYNCED) as client:
        for _ in range(2):
            with pytest.raises(DurabilityUnsupportedError, match=r"FSYNCED: .*(appendonly is off|7\.2)"):
                await client.run_by_name("w", 1, queue_override="q")
        assert (await client.get_stats())["total"] == 0
        redis = Redis.from_url(server.url)
        assert await redis.dbsize() == 0
        await redis.aclose()


async def test_a_user_without_wait_is_told(private_server: Start) -> None:
    server = private_server(ServerOptions(users=("app on >pw ~p* resetchannels &p* +@all -wait",)))
    client = create_client(url=f"redis://app:pw@127.0.0.1:{server.port}", prefix="p", durability=REPLICATED)
    with pytest.raises(DurabilityUnsupportedError, match=r"(?i)permission.*wait|wait.*permission"):
        await client.run_by_name("w", 1, queue_override="q")
    await client.close()


async def test_nothing_is_waited_for_where_nobody_asked(private_server: Start) -> None:
    server = private_server(ServerOptions())
    async with client_of(server, Durability.NONE) as client:
        await client.run_by_name("w", 1, queue_override="q")
        assert client.connection._durable is None
    assert await commands(server, "wait") == 0


@pytest.mark.parametrize("bad", ["replicated", True, 5, "none"])
def test_what_is_no_durability_is_refused(bad: Durability) -> None:
    with pytest.raises(ValueError, match=r"durability must be one of Durability\.NONE"):
        create_client(durability=bad)
    with pytest.raises(ValueError, match="durability must be one of"):
        define_workflow("w", handler=lambda _: None, registry=WorkflowRegistry(), durability=bad)
    for timeout in (0, -1, "soon", True):
        with pytest.raises(ValueError, match="durability_timeout_ms"):
            create_client(durability_timeout_ms=timeout)  # type: ignore[arg-type]


# --- steps ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def worker_on(
    server: ServerProcess,
    handler: Callable[[Context], Awaitable[object]],
    durability: Durability | None,
    attempts: int = 1000,
) -> AsyncIterator[RedflowClient]:
    registry = WorkflowRegistry()
    define_workflow(
        "w",
        handler=handler,
        registry=registry,
        durability=durability,
        retries=WorkflowRetryPolicy(delay=1, max_attempts=attempts),
    )
    worker = await start_worker(StartWorkerOptions(app="a", url=server.url, prefix="p", registry=registry))
    worker.client.connection.durable_wait_ms = 50
    client = create_client(url=server.url, prefix="p")
    try:
        yield client
    finally:
        await worker.stop()
        await client.close()


@pytest.mark.parametrize("by", ["step", "workflow"])
async def test_a_step_goes_on_when_the_replica_has_it(pair: tuple[ServerProcess, ServerProcess], by: str) -> None:
    master, replica = pair
    did: list[str] = []
    reached = asyncio.Event()

    async def handler(ctx: Context) -> object:
        first = REPLICATED if by == "step" else None
        await ctx.step.run("first", lambda durability=None: did.append("first"), durability=first)
        did.append("after")
        await ctx.step.run("plain", lambda: reached.set(), durability=Durability.NONE)
        return None

    async with worker_on(master, handler, REPLICATED if by == "workflow" else None) as client:
        assert await (await client.emit_workflow("w", 1)).result() is None
        replica.pause()
        try:
            did.clear()
            reached.clear()
            handle = await client.emit_workflow("w", 2)

            async def recorded() -> list[str]:
                return [step["name"] for step in await client.get_run_steps(handle.id) if step["status"] == "succeeded"]

            await eventually(recorded, "the record of the step", until=["first"].__eq__)
            assert did == ["first"], "the handler went on before the replica had the step"
        finally:
            replica.resume()
        await handle.result()
        assert did.count("first") == 1, "a step that is recorded is not run again"
        assert reached.is_set()


async def test_a_step_that_is_never_confirmed_fails_its_attempt_and_is_not_run_again(
    pair: tuple[ServerProcess, ServerProcess],
) -> None:
    master, replica = pair
    did: list[str] = []

    async def handler(ctx: Context) -> object:
        try:
            await ctx.step.run("s", lambda: did.append("step"), durability=REPLICATED)
        except NotDurableError as exc:
            did.append(f"not durable in attempt {ctx.run.attempt}" if exc.run_id == ctx.run.id else "another run")
            raise
        return ctx.run.attempt

    async with worker_on(master, handler, None) as client:
        replica.pause()
        try:
            handle = await client.emit_workflow("w", 1)
            await soon(lambda: len(did) >= 3, "two attempts")
            # The second one finds the step recorded, and asks the replica before it goes on with it.
            assert did[:3] == ["step", "not durable in attempt 1", "not durable in attempt 2"]
        finally:
            replica.resume()
        assert await handle.result() >= 3


async def test_children_and_events_of_a_durable_workflow(pair: tuple[ServerProcess, ServerProcess]) -> None:
    master, replica = pair

    async def handler(ctx: Context) -> object:
        if ctx.input == "child":
            return "child"
        await ctx.step.emit_event("event", "e", 1)
        await ctx.step.wait_for("nap", 5)
        emitted = await ctx.step.emit_workflow("emitted", "w", "child")
        return [emitted, await ctx.step.run_workflow("child", "w", "child")]

    async with worker_on(master, handler, REPLICATED) as client:
        emitted, child = await (await client.emit_workflow("w", 1)).result()
        assert child == "child"
        assert await on(replica, emitted)


async def test_a_step_that_can_not_be_durable_is_not_begun(private_server: Start) -> None:
    server = private_server(ServerOptions())
    did: list[str] = []

    async def handler(ctx: Context) -> None:
        await ctx.step.run("s", lambda: did.append("step"), durability=FSYNCED)

    async with worker_on(server, handler, None, attempts=2) as client:
        handle = await client.emit_workflow("w", 1)
        with pytest.raises(RedflowError, match="durability_unsupported"):
            await handle.result()
    assert did == []


async def test_any_other_value_of_that_name_reaches_the_function(pair: tuple[ServerProcess, ServerProcess]) -> None:
    async def handler(ctx: Context) -> object:
        def echo(durability: str) -> str:
            return durability

        return await ctx.step.run("s", echo, durability="replicated")

    async with worker_on(pair[0], handler, None) as client:
        assert await (await client.emit_workflow("w", 1)).result() == "replicated"
