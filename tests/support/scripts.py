"""A workbench for the Lua verbs: one prefix on a real server, with the time as a value."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from redflow.domain.run import RunOrder
from redflow.domain.shards import on_shard
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.definitions import REGISTER, REMOVE
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.loops.registrar import REGISTER_WORKER, UNREGISTER_WORKER
from redflow.engines.redis.packing import read_record
from redflow.engines.redis.replies import Reply, as_int, as_list, as_text
from redflow.engines.redis.retention import Resets
from redflow.engines.redis.runs import ClaimReply, Lease, RunScripts, Settlement, StepWrite
from redflow.engines.redis.scripts import Script
from tests.support.invariants import check_invariants
from tests.support.keyspace import Snapshot, Value, connection_to, read_snapshot

T0: Final = 1_700_000_000_000
"""When the tests of scripts begin, epoch ms."""
RETENTION_MS: Final = 1_000_000
LEASE_MS: Final = 5_000
ALIVE_MS: Final = 3_600_000
BIG: Final = b'"' + random.Random(0).randbytes(40_000).hex().encode() + b'"'
"""A payload that is stored apart, compressed or not."""
ERROR: Final = b'{"message":"no"}'
WORKER: Final = "w1"
STEP: Final = 2**45
"""By how much a step of priority lowers the score in a ready line."""
FRONT: Final = -101 * STEP
"""Scores below this one are those of interrupted runs."""
QUEUE: Final = "app:q"
"""The queue of workflows that the bench registers, as it is stored."""


def run_id(number: int) -> str:
    """The id of the number-th run of a test."""
    return f"{number:032x}"


class Bench:
    """The scripts of one prefix, or of one shard of it.

    Args:
        url: of the server.
        prefix: of all keys.
        shard: which one.
        shards: of how many.

    Attributes:
        connection: to the server.
        keys: of the prefix.
        scripts: the verbs; their time is `now`.
        lowered: workflows whose limit a test lowered, for the invariants.
    """

    def __init__(self, url: str, prefix: str, shard: int = 0, shards: int = 1) -> None:
        self.prefix = prefix
        self.shard, self.shards = shard, shards
        self.connection: Connection = connection_to(url)
        self.keys = Keys.of(prefix, shard, shards)
        self.scripts = RunScripts(self.connection, self.keys, RETENTION_MS, now=T0)
        self.lowered: set[str] = set()
        self._redis = Redis.from_url(url)
        self._now = T0
        self._made = 0

    # -- time ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """What the scripts take for the server's time, epoch ms."""
        return self._now

    @now.setter
    def now(self, at_ms: int) -> None:
        self._now = at_ms
        self.scripts.now = at_ms

    # -- workers and workflows ----------------------------------------------------------------------------------

    async def register_workflow(
        self,
        name: str = "w",
        *,
        app: str = "app",
        queue: str = "q",
        max_concurrency: int | None = None,
        max_attempts: int = 3,
        version: int | None = None,
        meta: str = "{}",
        priority: int = 0,
        run_timeout: int | None = None,
        on_failure: bool = False,
    ) -> list[str]:
        """Write a workflow's metadata; the script's reply."""
        args: list[Argument] = [self.now, name, app, queue, "" if max_concurrency is None else max_concurrency]
        args += (max_attempts, "" if version is None else version, meta, priority or "")
        args += ("" if run_timeout is None else run_timeout, "1" if on_failure else "")
        return [as_text(part) for part in as_list(await self.connection.call(REGISTER, self.keys.base, args))]

    async def remove_workflows(self, *kept: str, app: str = "app", quiet_ms: int = 30_000) -> list[str]:
        """Drop what the app's registry no longer has; the names."""
        reply = await self.connection.call(REMOVE, self.keys.base, (self.now, app, quiet_ms, *kept))
        return [as_text(name) for name in as_list(reply)]

    async def register_worker(
        self, *workflows: str, worker: str = WORKER, app: str = "app", alive_ms: int = ALIVE_MS, drain: str = ""
    ) -> tuple[int, int]:
        """Make a worker known that can run these workflows; (now, epoch)."""
        args: list[Argument] = [self.now, worker, alive_ms, app, "{}", drain, *workflows]
        now, epoch = as_list(await self.connection.call(REGISTER_WORKER, self.keys.base, args))
        return as_int(now), as_int(epoch)

    async def unregister_worker(self, *queues: str, worker: str = WORKER, quiet_ms: int = 30_000) -> str:
        """A worker says goodbye."""
        args: list[Argument] = [self.now, worker, quiet_ms, *queues]
        return as_text(await self.connection.call(UNREGISTER_WORKER, self.keys.base, args))

    async def serve(self, *workflows: str, max_concurrency: int | None = None, on_failure: bool = False) -> None:
        """Register workflows, `w` if none is named, and a worker that can run them."""
        names = workflows or ("w",)
        for name in names:
            await self.register_workflow(name, max_concurrency=max_concurrency, on_failure=on_failure)
        await self.register_worker(*names)

    # -- runs ---------------------------------------------------------------------------------------------------

    def order(self, workflow: str = "w", *, number: int | None = None, input_json: bytes = b"{}") -> RunOrder:
        """An order with an id of its own; change it with `dataclasses.replace`."""
        if number is None:
            self._made += 1
            number = self._made
        return RunOrder(on_shard(run_id(number), self.shard), workflow, input_json)

    async def create(
        self,
        workflow: str = "w",
        *,
        run_at_ms: int | None = None,
        queue: str | None = None,
        priority: int | None = None,
        run_timeout_ms: int | None = None,
    ) -> str:
        """Create a run; its id."""
        order = replace(self.order(workflow), run_at_ms=run_at_ms, queue=queue, priority=priority)
        order.run_timeout_ms = run_timeout_ms
        assert await self.scripts.create([order], None) == [("created", order.run_id)]
        return order.run_id

    async def claim(
        self, want: int = 100, *, worker: str = WORKER, queues: tuple[str, ...] = (QUEUE,), token: str | None = None
    ) -> ClaimReply:
        """Claim as a registered worker does."""
        self._made += 1
        reply = await self.scripts.claim(worker, token or f"{worker}.{self._made:x}", LEASE_MS, want, list(queues))
        assert reply is not None
        return reply

    async def running(self, workflow: str = "w") -> Lease:
        """A run that was just created and claimed; its lease."""
        created = await self.create(workflow)
        return await self.claimed(created)

    async def claimed(self, wanted: str) -> Lease:
        """Claim whatever is ready; the lease of the run that is wanted."""
        leases = {run.lease.run_id: run.lease for run in (await self.claim()).runs}
        return leases[wanted]

    async def settle(
        self,
        lease: Lease,
        outcome: str = "succeeded",
        payload: bytes = b"1",
        *,
        due: int | None = None,
        attempt: int = 1,
        steps: tuple[StepWrite, ...] = (),
    ) -> dict[int, str]:
        """End one attempt; the reasons of the reply."""
        item = settlement(lease, outcome, payload, due=due, attempt=attempt, steps=steps)
        _, reasons = await self.scripts.settle([item], WORKER, [QUEUE], idle=False)
        return reasons

    async def refused_leases(self) -> dict[str, Lease]:
        """Leases that give no right to write any more, by the reason that a verb gives."""
        over, settled, old, released = [await self.running() for _ in range(4)]
        await self.settle(over)
        self.now += RETENTION_MS
        assert await self.scripts.purge(None, 10) == 1
        await self.settle(settled)
        await self.scripts.release([old, released])
        assert [run.lease.run_id for run in (await self.claim(1)).runs] == [released.run_id]
        newer = await self.claimed(old.run_id)
        return {
            "gone": over,
            "settled": settled,
            "stale": old,
            "stale (token)": replace(newer, token="w1.guessed"),
            "stale (fence)": replace(newer, fence=newer.fence + 1),
            "stale (released)": released,
        }

    # -- looking ------------------------------------------------------------------------------------------------

    async def call(self, script: Script, *args: Argument) -> Reply:
        """Run a verb with the bench's time as its first argument, if it takes one."""
        timed = "\n-- args: now" in script.source
        return await self.connection.call(script, self.keys.base, (self.now, *args) if timed else args)

    async def read(self, *command: Argument) -> Reply:
        """A plain command; `@name` stands for the key of that name."""
        base = self.keys.base
        args = [base + arg[1:] if isinstance(arg, str) and arg.startswith("@") else arg for arg in command]
        return await self.connection.read(*args)

    async def delete(self, name: str) -> None:
        """Remove a key."""
        await self.read("DEL", "@" + name)

    async def snapshot(self) -> Snapshot:
        """Everything under the prefix."""
        return await read_snapshot(self.connection, self.prefix, self.shard, self.shards)

    async def values(self) -> dict[str, Value]:
        """All keys and their values."""
        return (await self.snapshot()).values()

    async def record(self, run: str) -> dict[str, str]:
        """The record of a run; empty if it is gone."""
        whole = await read_record(self.connection, self.keys, run)
        return {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in whole.items()}

    async def field(self, run: str, name: str) -> str | None:
        """One field of a run's record."""
        return (await self.record(run)).get(name)

    async def ids(self, zset: str) -> list[str]:
        """The members of a sorted set, in order."""
        return [as_text(member) for member in as_list(await self.read("ZRANGE", f"@{zset}", 0, -1))]

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[Ear]:
        """Listen to channels, given by their names below the base."""
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(*[self.keys.base + channel for channel in channels])
            for _ in channels:
                await pubsub.get_message(timeout=10)
            yield Ear(self, pubsub, channels[0])

    async def close(self, *, check: bool = True) -> None:
        """Check the invariants, if that is asked for, remove the keys and close the connection."""
        try:
            if check:
                which = {"shard": self.shard, "shards": self.shards}
                await check_invariants(self.connection, self.prefix, lowered=self.lowered, **which)
        finally:
            await Resets(self.connection, self.keys).everything()
            await self.connection.close()
            await self._redis.aclose()


class Ear:
    """What was said on some channels since the last time it was asked."""

    def __init__(self, bench: Bench, pubsub: PubSub, channel: str) -> None:
        self._bench = bench
        self._pubsub = pubsub
        self._channel = channel

    async def heard(self) -> list[tuple[str, str]]:
        """(channel, message) of everything said so far; a word of our own marks the end."""
        base = self._bench.keys.base
        await self._bench.read("PUBLISH", base + self._channel, "(end)")
        said: list[tuple[str, str]] = []
        while True:
            message = await self._pubsub.get_message(timeout=10)
            assert message is not None, "the server said nothing for 10 s"
            channel, text = message["channel"].decode(), message["data"].decode()
            if text == "(end)":
                return said
            said.append((channel[len(base) :], text))


def settlement(
    lease: Lease,
    outcome: str = "succeeded",
    payload: bytes = b"1",
    *,
    due: int | None = None,
    attempt: int = 1,
    steps: tuple[StepWrite, ...] = (),
) -> Settlement:
    """The end of an attempt."""
    trace = (f"a:{attempt}", b"[]") if outcome == "retry" else ("", b"")
    return Settlement(lease, outcome, payload, due, *trace, steps)


def step(lease: Lease, name: str = "one", payload: bytes = b"1", *, seq: int = 1, status: str = "S") -> StepWrite:
    """A step of the first attempt that began with the run and took 5 ms."""
    return StepWrite(lease, f"s:{name}", f"{seq} {status}r 1 0 5 ", payload)


def changes(before: Mapping[str, Value], after: Mapping[str, Value]) -> dict[str, Value | None]:
    """What became of the keys that are not what they were; None: the key is gone."""
    names = sorted(before.keys() | after.keys())
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}
