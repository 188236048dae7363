"""A small world for one test: a prefix, a registry, a client, workers, and a note of what really happened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias, TypeVar

from redis.asyncio import Redis

from redflow import RedflowClient, StartWorkerOptions, WorkerHandle, create_client, start_worker
from redflow.codec import PayloadCodec
from redflow.definitions import BlockingWorkflowHandlerContext, WorkflowHandlerContext
from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import as_int, as_list, as_text
from redflow.engines.redis.sources import AnyRedis
from redflow.handle import RunHandle
from redflow.registry import WorkflowRegistry
from redflow.types import JsonData
from tests.support.clusters import node_url
from tests.support.invariants import check_invariants

T = TypeVar("T")

Context: TypeAlias = WorkflowHandlerContext[JsonData]
"""What a test's `async def` handler gets."""

BlockingContext: TypeAlias = BlockingWorkflowHandlerContext[JsonData]
"""What a test's plain handler gets."""

SHARDS = int(os.environ.get("REDFLOW_TEST_SHARDS") or 1)
"""Over how many shards worlds are spread, unless a test says otherwise; the contract is the same."""

DEADLINE_S = 15.0
"""How long a test waits for something that takes milliseconds on an idle machine."""


async def eventually(
    look: Callable[[], Awaitable[T]], what: str, *, until: Callable[[T], bool] = bool, timeout_s: float = DEADLINE_S
) -> T:
    """Look until what is seen is right; raises AssertionError with the last sight after `timeout_s` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        seen = await look()
        if until(seen):
            return seen
        if loop.time() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s; last seen: {seen!r}")
        await asyncio.sleep(0.01)


async def soon(condition: Callable[[], bool], what: str, *, timeout_s: float = DEADLINE_S) -> None:
    """Wait until a condition of this process holds."""

    async def look() -> bool:
        return condition()

    await eventually(look, what, timeout_s=timeout_s)


def impatient(client: RedflowClient) -> RedflowClient:
    """A client that gives up at once what it can't reach; by itself it tries for three seconds."""
    client.connection._patience_s = 0.1
    return client


class World:
    """One prefix on a server.

    Args:
        url: of the server.
        prefix: of all keys.
        redis: makes the client that is given to redflow in place of the URL.
        direct: URL for the test's own look at the keys, where redis-py can't use `url` as it is; in a cluster that of
            the node which has the prefix at first.
        shards: over how many the prefix is spread.
        codec: of its clients and workers, unless a test says otherwise.

    Attributes:
        did: what handlers and steps noted, in order; the witness that stands outside of Redis.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        *,
        redis: Callable[[], AnyRedis] | None = None,
        direct: str | None = None,
        shards: int = SHARDS,
        codec: PayloadCodec | None = None,
    ) -> None:
        self.url = url
        self._given = redis
        self.prefix = prefix
        self.shards = shards
        self.codec = codec
        self.registry = WorkflowRegistry()
        self.client = self.new_client()
        if direct is None and url.startswith("redis+cluster://"):
            direct = node_url(url, prefix)
        self.redis: Redis = Redis.from_url(direct or url)
        self.keys = Keys.of(prefix, 0, shards)
        self.did: list[str] = []
        self._workers: list[WorkerHandle] = []
        self._clients: list[RedflowClient] = []

    def new_client(self, *, app: str | None = None, codec: PayloadCodec | None = None) -> RedflowClient:
        """Another client of this world, closed at its end."""
        redis = self._given() if self._given is not None else None
        client = create_client(
            url=self.url, redis=redis, prefix=self.prefix, app=app, shards=self.shards, codec=codec or self.codec
        )
        if hasattr(self, "_clients"):
            self._clients.append(client)
        return client

    async def worker(self, options: StartWorkerOptions | None = None) -> WorkerHandle:
        """Start a worker of app `app` with ten slots, or with other options; stopped at the end."""
        options = options or self.options()
        worker = await start_worker(options)
        self._workers.append(worker)
        return worker

    def options(self) -> StartWorkerOptions:
        """The usual options of a worker, to be changed by `dataclasses.replace`."""
        return StartWorkerOptions(
            app="app",
            redis=self.client.redis if self._given is not None else None,
            url=self.url,
            prefix=self.prefix,
            registry=self.registry,
            concurrency=10,
            shards=self.shards,
            codec=self.codec,
        )

    async def small_worker(self, concurrency: int = 1) -> WorkerHandle:
        """A worker with few slots."""
        return await self.worker(replace(self.options(), concurrency=concurrency))

    async def start(self, input: object = None, *, name: str = "w") -> RunHandle[JsonData]:
        """Start a run of the workflow `w`, or of another."""
        return await self.client.emit_workflow(name, input)

    async def begin(self, input: object = None, *, name: str = "w") -> RunHandle[JsonData]:
        """Start a worker if there is none, and a run."""
        if not self._workers:
            await self.worker()
        return await self.start(input, name=name)

    async def run(self, input: object = None, *, name: str = "w") -> JsonData:
        """Start a worker if there is none, start a run and wait for its output."""
        handle = await self.begin(input, name=name)
        return await handle.result(timeout_ms=DEADLINE_S * 1000)

    async def status(self, handle: RunHandle[JsonData]) -> str:
        """The status of a run."""
        state = await handle.get_state()
        return "gone" if state is None else state["status"]

    async def reaches(self, handle: RunHandle[JsonData], status: str) -> None:
        """Wait until a run has a status."""
        await eventually(lambda: self.status(handle), f"{handle} {status}", until=status.__eq__)

    async def ended(self, handle: RunHandle[JsonData]) -> str:
        """Wait until a run has ended, however it does; its status."""
        return await eventually(
            lambda: self.status(handle), f"the end of {handle}", until=("succeeded", "failed", "canceled").__contains__
        )

    async def waited_for(self, handle: RunHandle[JsonData], *, by: int = 1) -> None:
        """Wait until that many clients have asked to hear the end of a run."""
        stored = handle.id.removeprefix("run_").replace("-", "")
        shard = shard_of_run(stored) if self.shards > 1 else 0
        key = Keys.of(self.prefix, shard, self.shards).waiters(stored)

        async def count() -> int:
            return as_int(await self.connections[shard].read("SCARD", key))

        await eventually(count, f"{by} clients that wait for {handle}", until=by.__eq__)

    async def check(self) -> None:
        """Judge the keys of all shards.

        Raises:
            AssertionError: naming each rule that is broken.
        """
        for shard, connection in enumerate(self.connections):
            await check_invariants(connection, self.prefix, shard=shard, shards=self.shards)

    async def mutex_line(self, key: str) -> int:
        """How many runs stand in line for a mutex."""
        shard = shard_of_name(key, self.shards)
        line = f"{Keys.of(self.prefix, shard, self.shards).base}{'lockline' if self.shards > 1 else 'mutexline'}:{key}"
        return as_int(await self.connections[shard].read("ZCARD", line))

    async def mutex_blocked(self, key: str) -> int:
        """How many of these have left their slots: over shards that is written one trip after they stand in line."""
        if self.shards == 1:
            return await self.mutex_line(key)
        shard = shard_of_name(key, self.shards)
        line = f"{Keys.of(self.prefix, shard, self.shards).base}lockline:{key}"
        blocked = 0
        for run_id in map(as_text, as_list(await self.connections[shard].read("ZRANGE", line, 0, -1))):
            its = shard_of_run(run_id)
            record = Keys.of(self.prefix, its, self.shards).run(run_id)
            blocked += await self.connections[its].read("HMGET", record, "s", "mk") == [b"queued", key.encode()]
        return blocked

    async def mutex_owner(self, key: str) -> str | None:
        """The run that holds a mutex, or to which it was granted; as it is stored."""
        shard = shard_of_name(key, self.shards)
        base = Keys.of(self.prefix, shard, self.shards).base
        command = ("HGET", f"{base}lock:{key}", "o") if self.shards > 1 else ("GET", f"{base}mutex:{key}")
        owner = await self.connections[shard].read(*command)
        return owner.decode() if isinstance(owner, bytes) else None

    def place_of(self, workflow: str) -> tuple[Connection, Keys]:
        """Where the runs of a workflow live."""
        shard = shard_of_name(workflow, self.shards)
        return self.connections[shard], Keys.of(self.prefix, shard, self.shards)

    @property
    def connections(self) -> list[Connection]:
        """The client's connection to each shard."""
        return self.client._connections

    async def key_count(self) -> int:
        """How many keys there are under this prefix, but that which says over how many shards."""
        keys = [key async for key in self.redis.scan_iter(match=f"{self.prefix}*", count=1000)]
        return len([key for key in keys if key.decode() != Keys.of(self.prefix).shards])

    async def stop_workers(self) -> None:
        """Stop all workers."""
        workers, self._workers = self._workers, []
        await asyncio.gather(*[worker.stop() for worker in workers])

    async def close(self) -> None:
        """Stop and close everything."""
        await self.stop_workers()
        for client in [self.client, *self._clients]:
            await client.close()
        await self.redis.aclose()


@asynccontextmanager
async def judged(world: World) -> AsyncIterator[World]:
    """A world for one test: at the end its workers stop, its keys are judged, and it is closed."""
    yield world
    try:
        await world.stop_workers()
        await world.check()
    finally:
        await world.close()
