"""Encrypted payloads on a real server: what it gets to see, what is refused, and how keys are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import pytest
from redis.asyncio import Redis

from redflow import CanceledError, CronTrigger, EventTrigger, RedflowError, RunHandle, SearchRunsParams, define_workflow
from redflow.codec import AesGcmCodec
from redflow.domain.run import stored_run_id
from redflow.engines.redis import executor
from redflow.errors import NonRetriableError, PayloadDecodeError, PayloadKeyMissingError
from redflow.types import JsonData, WorkflowDebounceOptions, WorkflowRateLimitOptions, WorkflowRetryPolicy
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, eventually, judged

CANARY = "canary-c4f7"
OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}
LOOKUP = b"l" * 32


def codec(*, require: bool = False) -> AesGcmCodec:
    return AesGcmCodec(keys=OLD, current="old", lookup_key=LOOKUP, require_encrypted=require)


@pytest.fixture
async def world(server: ServerProcess, prefix: str) -> AsyncIterator[World]:
    """A world whose clients and workers encrypt."""
    async with judged(World(server.url, prefix, codec=codec())) as world:
        yield world


# -- what the server gets to see ------------------------------------------------------------------------------------


class Tap:
    """Everything that a server is sent, by clients and inside of scripts."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, encoding_errors="replace")
        self.lines: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Tap:
        began = asyncio.Event()

        async def listen() -> None:
            async with self._redis.monitor() as monitor:
                began.set()
                async for command in monitor.listen():
                    self.lines.append(command["command"])

        self._task = asyncio.get_running_loop().create_task(listen())
        await began.wait()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._redis.aclose()

    async def seen_all(self, redis: Redis) -> list[str]:
        """What was sent until now."""
        await redis.echo("the end of the tap")
        await eventually(self._ended, "the tap")
        return self.lines

    async def _ended(self) -> bool:
        return any("the end of the tap" in line for line in self.lines)


async def everything_stored(redis: Redis, prefix: str) -> dict[str, list[bytes]]:
    """What stands under a prefix, by key: its own name, fields, members and values, and what is compressed in them."""
    found: dict[str, list[bytes]] = {}
    async for key in redis.scan_iter(match=f"{prefix}*", count=1000):
        kind, fields = as_bytes(await redis.type(key)), dict[bytes, bytes]()
        parts = [as_bytes(key)]
        if kind == b"hash":
            fields = await fields_of(redis, key)
            parts += [*fields, *fields.values(), packed_text(fields)]
        elif kind == b"string":
            parts.append(as_bytes(await redis.get(key) or b""))
        elif kind == b"set":
            parts += map(as_bytes, await redis.smembers(key))
        elif kind == b"zset":
            parts += map(as_bytes, await redis.zrange(key, 0, -1))
        elif kind == b"list":
            parts += map(as_bytes, await redis.lrange(key, 0, -1))
        elif kind == b"none":
            continue  # it has gone meanwhile
        else:
            raise AssertionError(f"{key!r} is a {kind!r}")
        found[parts[0].decode(errors="replace")] = parts + [text for part in parts for text in _expanded(part)]
    return found


def as_bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


async def fields_of(redis: Redis, key: str | bytes) -> dict[bytes, bytes]:
    """A hash."""
    return {as_bytes(name): as_bytes(value) for name, value in (await redis.hgetall(key)).items()}


def packed_text(record: dict[bytes, bytes]) -> bytes:
    """The pieces of a packed record, joined as its readers join them."""
    return b"".join(record[name] for name in sorted(filter(bytes.isdigit, record), key=int))


def _expanded(part: bytes) -> list[bytes]:
    """What is compressed in a value, wherever it begins."""
    texts = []
    at = part.find(b"zx")
    while at >= 0:
        with contextlib.suppress(zlib.error):
            texts.append(zlib.decompressobj().decompress(part[at + 1 :]))
        at = part.find(b"zx", at + 1)
    return texts


def kinds_with(found: dict[str, list[bytes]], base: str) -> set[str]:
    """The kinds of keys, and of fields of runs, in which the canary stands."""
    kinds = set()
    for key, parts in found.items():
        if any(CANARY.encode() in part for part in parts):
            kinds.add(key.split("}:")[-1].split(":")[0] if "}:" in key else key.removeprefix(base).split(":")[0])
    return kinds


def blob(size: int) -> str:
    """Text with a canary in it that hardly gets shorter when it is compressed."""
    return CANARY + os.urandom(size // 2).hex() + CANARY


def define_everything(world: World) -> None:
    """Workflows that put a canary into all that is a user's."""
    registry = world.registry

    async def everything(ctx: Context) -> object:
        async def secret(n: int) -> object:
            return {"secret": CANARY, "blob": blob(n)}

        def failing() -> None:
            raise ValueError(f"failed with {CANARY}")

        assert CANARY in str(ctx.input)
        for n in (10, 10_000, 80_000):
            value = await ctx.step.run(f"step-{n}", secret, n)
            assert isinstance(value, dict)
            assert value["secret"] == CANARY
        with contextlib.suppress(ValueError):
            await ctx.step.run("failing", failing)
        await ctx.step.wait_for("nap", 50)
        child = await ctx.step.run_workflow("child", "child", {"child": CANARY})
        assert isinstance(child, dict)
        assert child["out"] == CANARY
        with contextlib.suppress(RedflowError):
            await ctx.step.run_workflow("bad child", "child", {"fail": CANARY})
        await ctx.step.emit_workflow("sent", "child", {"child": CANARY}, idempotency_key=f"i-{CANARY}")
        await ctx.step.emit_event("news", "news", {"news": CANARY, "blob": blob(40_000)}, correlation_key=f"c-{CANARY}")
        event = await ctx.step.wait_for_event("ear", "go", f"k-{CANARY}", "30s")
        assert event is not None
        assert CANARY in str(event["data"])
        if ctx.run.attempt == 1:
            raise ValueError(f"again, {CANARY}")
        return {"out": CANARY, "blob": blob(9_000)}

    async def child(ctx: Context) -> object:
        if "fail" in str(ctx.input):
            raise NonRetriableError(f"no {CANARY}")
        return {"out": CANARY, "blob": blob(40_000)}

    async def told(ctx: Context) -> object:
        assert CANARY in str(ctx.input)
        world.did.append(str(ctx.run.workflow))
        return ctx.input

    def key(data: object) -> str:
        return f"key-{CANARY}"

    def failed(ctx: object) -> None:
        world.did.append("on_failure")

    define_workflow(
        "everything", handler=everything, registry=registry, mutex=key,
        throttle=WorkflowRateLimitOptions(key, 100, "1m"), rate_limit=WorkflowRateLimitOptions(key, 100, "1m"),
        retries=WorkflowRetryPolicy(max_attempts=2, delay=1),
    )  # fmt: skip
    define_workflow("child", handler=child, registry=registry, on_failure=failed)
    define_workflow("news", handler=told, registry=registry, event=EventTrigger("news"))
    define_workflow(
        "tick", handler=told, registry=registry, cron=CronTrigger("* * * * * *", "UTC", input={"cron": CANARY}),
    )  # fmt: skip
    define_workflow(
        "burst", handler=told, registry=registry, debounce=WorkflowDebounceOptions(key=key, period="150ms"),
    )  # fmt: skip


async def play_everything(world: World) -> tuple[RunHandle[JsonData], dict[str, list[bytes]]]:
    """Have all of it happen; the run, and what was stored while it waited."""
    define_everything(world)
    await world.worker()
    handle = await world.client.emit_workflow("everything", {"in": CANARY}, idempotency_key=f"idem-{CANARY}")
    for n in range(3):
        await world.client.emit_workflow("burst", {"n": n, "in": CANARY})

    async def waits() -> bool:
        explanation = await world.client.explain_run(handle.id)
        return explanation is not None and "ear" in str(explanation)

    await eventually(waits, "the wait for the event")
    meanwhile = await everything_stored(world.redis, world.prefix)
    await world.client.emit_event("go", {"go": CANARY, "blob": blob(40_000)}, correlation_key=f"k-{CANARY}")
    output = await handle.result()
    assert isinstance(output, dict)
    assert output["out"] == CANARY
    await eventually(lambda: _did(world), "all others")
    return handle, meanwhile


async def _did(world: World) -> bool:
    return {"on_failure", "news", "tick", "burst"} <= set(world.did)


@pytest.mark.parametrize("shards", [1, 3])
async def test_the_server_never_sees_a_users_text(
    private_server: Callable[[ServerOptions], ServerProcess], prefix: str, shards: int
) -> None:
    server = private_server(ServerOptions())
    async with judged(World(server.url, prefix, shards=shards, codec=codec(require=True))) as world:
        async with Tap(server.url) as tap:
            handle, meanwhile = await play_everything(world)
            await world.stop_workers()
            stored = await everything_stored(world.redis, prefix)
            sent = await tap.seen_all(world.redis)
        assert len(sent) > 100
        assert [line[:300] for line in sent if CANARY in line] == []
        assert kinds_with(stored, prefix) | kinds_with(meanwhile, prefix) == set()
        await _all_can_be_read(world, handle)


async def test_without_a_codec_the_same_scene_shows_it_everywhere(server: ServerProcess, prefix: str) -> None:
    """The guard against a scan that finds nothing since it looks at nothing."""
    async with judged(World(server.url, prefix, shards=1)) as world:
        async with Tap(server.url) as tap:
            _, meanwhile = await play_everything(world)
            await world.stop_workers()
            assert len([line for line in await tap.seen_all(world.redis) if CANARY in line]) > 50
        kinds = kinds_with(await everything_stored(world.redis, prefix), prefix) | kinds_with(meanwhile, prefix)
    assert {"run", "big", "event", "cron", "idem", "waiting", "latest"} <= kinds


async def _all_can_be_read(world: World, handle: RunHandle[JsonData]) -> None:
    """Whoever has the keys sees everything."""
    client = world.client
    state = await handle.get_state()
    assert state is not None
    assert state["input"] == {"in": CANARY}
    assert CANARY in str(state["output"])
    steps = {step["name"]: step for step in await client.get_run_steps(handle.id)}
    for name in ("step-10", "step-10000", "step-80000", "child", "ear"):
        assert CANARY in str(steps[name]["output"]), name
    assert CANARY in str(steps["failing"]["error"])
    assert CANARY not in str(steps["ear"]["wait"])
    first, second = await client.get_run_attempts(handle.id)
    assert CANARY in first["error"]["message"]
    assert CANARY in first["error"]["stack"]
    assert CANARY in str(second["output"])
    events = await client.list_events()
    for event in events:
        record = await client.get_event(event["id"])
        assert record is not None
        assert CANARY in str(record["data"])
        assert CANARY not in record.get("correlation_key", "")
    assert len(events) == 2
    found = await client.search_runs(SearchRunsParams(query=CANARY))
    assert {run["workflow"] for run in found["runs"]} == {"everything", "child", "news", "tick", "burst"}
    metas = {meta["name"]: meta for meta in await client.list_workflows_meta()}
    assert metas["tick"]["cron"][0]["input"] == {"cron": CANARY}
    failed = next(run for run in await client.list_runs() if run["status"] == "failed")
    assert CANARY in failed["error"]["message"]
    assert CANARY in str(await client.explain_run(failed["id"]))
    again = await client.emit_workflow("everything", {"in": "another"}, idempotency_key=f"idem-{CANARY}")
    assert again.id == handle.id


# -- what is refused ------------------------------------------------------------------------------------------------


async def echo(ctx: Context) -> object:
    await ctx.step.run("first", lambda: f"value of {ctx.input}")
    await ctx.step.wait_for("nap", 300)
    return ctx.input


def key_of(world: World, handle: RunHandle[JsonData], what: str = "run") -> str:
    return f"{world.keys.base}{what}:{stored_run_id(handle.id)}"


async def field(world: World, handle: RunHandle[JsonData], name: str, what: str = "run") -> bytes:
    value = await world.redis.hget(key_of(world, handle, what), name)
    assert isinstance(value, bytes)
    return value


async def asleep(world: World, *inputs: object) -> list[RunHandle[JsonData]]:
    """Runs that sleep, and nobody to wake them."""
    define_workflow("w", handler=echo, registry=world.registry)
    await world.worker()
    handles = [await world.start(input) for input in inputs]
    for handle in handles:
        await eventually(partial(_sleeps, world, handle), f"{handle} asleep")
    await world.stop_workers()
    return handles


async def _sleeps(world: World, handle: RunHandle[JsonData]) -> bool:
    return await world.redis.hexists(key_of(world, handle), "r")


def flipped(stored: bytes) -> bytes:
    """The same with one bit of its ciphertext changed."""
    head, body = stored.rsplit(b":", 1)
    return head + b":" + (b"B" if body[:1] == b"A" else b"A") + body[1:]


async def quarantined(world: World, handle: RunHandle[JsonData], other: RunHandle[JsonData]) -> str:
    """The run fails with what was wrong with it, and another goes on; the message."""
    await world.worker()
    with pytest.raises(RedflowError, match="payload_decode") as caught:
        await handle.result()
    assert await other.result() == "other"
    state = await handle.get_state()
    assert state is not None
    assert state["status"] == "failed"
    assert state["attempt"] == 1
    assert state["error"]["kind"] == "payload_decode"
    return str(caught.value)


@pytest.mark.parametrize("name", ["i", "s:first"])
async def test_a_flipped_bit_quarantines_its_run_alone(world: World, name: str) -> None:
    handle, other = await asleep(world, "mine", "other")
    await world.redis.hset(key_of(world, handle), name, flipped(await field(world, handle, name)))
    assert "was changed" in await quarantined(world, handle, other)
    state = await handle.get_state()
    assert state is not None
    assert (state["input"] is None) == (name == "i")
    if name == "s:first":
        with pytest.raises(PayloadDecodeError):
            await world.client.get_run_steps(handle.id)


@pytest.mark.parametrize("name", ["i", "s:first"])
async def test_a_ciphertext_of_another_run_quarantines_its_run_alone(world: World, name: str) -> None:
    handle, other = await asleep(world, "mine", "other")
    await world.redis.hset(key_of(world, handle), name, await field(world, other, name))
    assert "moved" in await quarantined(world, handle, other)


async def test_a_ciphertext_of_another_step_quarantines_its_run(world: World) -> None:
    async def two(ctx: Context) -> object:
        await ctx.step.run("a", lambda: "value of a")
        await ctx.step.run("b", lambda: "value of b")
        await ctx.step.wait_for("nap", 300)
        return ctx.input

    define_workflow("two", handler=two, registry=world.registry)
    await asleep(world)
    await world.worker()
    handle, other = await world.start("mine", name="two"), await world.start("other", name="two")
    await eventually(lambda: _sleeps(world, handle), "asleep")
    await world.stop_workers()
    await world.redis.hset(key_of(world, handle), "s:a", await field(world, handle, "s:b"))
    await quarantined(world, handle, other)


async def test_large_inputs_and_values_are_bound_to_their_run_as_well(world: World) -> None:
    async def large(ctx: Context) -> object:
        value = await ctx.step.run("first", lambda: blob(80_000))
        await ctx.step.wait_for("nap", 300)
        return "other" if ctx.input else value

    define_workflow("large", handler=large, registry=world.registry)
    await asleep(world)
    await world.worker()
    handles = [await world.start(blob(80_000), name="large") for _ in range(3)]
    for handle in handles:
        await eventually(partial(_sleeps, world, handle), f"{handle} asleep")
    await world.stop_workers()
    mine, third, other = handles
    for handle, name in ((mine, "i"), (third, "s:first")):
        moved = await field(world, other, name, "big")
        assert moved.startswith(b"rf1:")
        await world.redis.hset(key_of(world, handle, "big"), name, moved)
    await quarantined(world, mine, other)
    with pytest.raises(RedflowError, match="payload_decode"):
        await third.result()


async def test_a_moved_output_is_refused_by_its_reader(world: World) -> None:
    handle, other = await asleep(world, "mine", "other")
    await world.worker()
    assert [await handle.result(), await other.result()] == ["mine", "other"]
    await world.redis.hset(key_of(world, handle), "o", await field(world, other, "o"))
    with pytest.raises(PayloadDecodeError, match="moved"):
        await world.client.make_run_handle(handle.id).result()
    state = await handle.get_state()
    assert state is not None
    assert state["output"] is None
    assert state["input"] == "mine"
    assert len(await world.client.list_runs()) == 2


async def test_another_events_data_is_no_input_of_a_subscribers_run(world: World) -> None:
    async def told(ctx: Context) -> object:
        return ctx.input

    define_workflow("told", handler=told, registry=world.registry, event=EventTrigger("news"))
    await world.client.sync_registry(world.registry, app="app")
    (mine,), (other,) = [await world.client.emit_event("news", text) for text in ("mine", "other")]
    await world.redis.hset(key_of(world, mine), "i", await field(world, other, "i"))
    assert "encrypted for event" in await quarantined(world, mine, other)


async def test_a_plain_payload_is_read_unless_encryption_is_required(server: ServerProcess, prefix: str) -> None:
    plain = World(server.url, prefix, shards=1)
    first, second = await asleep(plain, "first", "other")
    await plain.close()
    async with judged(World(server.url, prefix, shards=1, codec=codec())) as world:
        define_workflow("w", handler=echo, registry=world.registry)
        await world.worker()
        assert await world.client.make_run_handle(first.id).result() == "first"
        assert await world.client.make_run_handle(second.id).result() == "other"
        await world.stop_workers()
        third = await world.start("sealed")
        await world.redis.hset(key_of(world, third), "i", '"forged"')
        await world.worker(replace(world.options(), codec=codec(require=True)))
        await eventually(lambda: world.ended(third), "the end")
        state = await world.new_client(codec=codec(require=True)).get_run(third.id)
        assert state is not None
        assert state["error"]["kind"] == "payload_decode"
        assert "in plain text" in state["error"]["message"]


# -- keys -----------------------------------------------------------------------------------------------------------


async def test_a_reader_without_the_key_is_told_which_and_what_to_do(world: World, server: ServerProcess) -> None:
    handle, failing = await asleep(world, "mine", "other")
    await world.worker()
    await handle.result()
    without = World(server.url, world.prefix, shards=1).client
    other = world.new_client(codec=AesGcmCodec(keys=NEW, current="new"))
    try:
        for client, said in ((without, "no codec"), (other, "it has new")):
            for read in (client.get_run, client.get_run_steps, client.wait_for_result):
                with pytest.raises(PayloadKeyMissingError, match=f"key 'old'.*{said}") as caught:
                    await read(handle.id)
                assert caught.value.key_id == "old"
            assert {run["id"] for run in await client.list_runs()} == {handle.id, failing.id}
    finally:
        await without.close()


async def test_keys_are_rotated_without_a_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old keys, then old ones that know the new one, then new ones; a run passes through the hands of all."""
    both = {**OLD, **NEW}
    stages = [
        codec(),
        AesGcmCodec(keys=both, current="old", lookup_key=LOOKUP),
        AesGcmCodec(keys=both, current="new", lookup_key=LOOKUP),
    ]

    async def stepwise(ctx: Context) -> object:
        values = []
        for n in range(3):
            values.append(await ctx.step.run(f"s{n}", partial("{} {}".format, CANARY, n)))
            await ctx.step.wait_for_event(f"e{n}", "go", f"{ctx.run.id} {n}", "30s")
        return values

    define_workflow("w", handler=stepwise, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start("in")
    for n, stage in enumerate(stages):
        await world.worker(replace(world.options(), codec=stage))
        await eventually(partial(world.redis.hexists, key_of(world, handle), f"s:e{n}"), f"wait {n}")
        emitter = world.new_client(codec=stage)
        if n < 2:
            await world.stop_workers()
        await emitter.emit_event("go", {"n": n}, correlation_key=f"{handle.id} {n}")
    assert await world.new_client(codec=stages[1]).wait_for_result(handle.id) == [f"{CANARY} {n}" for n in range(3)]
    record = await fields_of(world.redis, key_of(world, handle))
    text = b" ".join(record.values()) + packed_text(record)
    assert b":old:" in text
    assert b":new:" in text


async def test_a_run_waits_for_a_worker_that_has_its_key(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(executor, "KEY_PAUSE_MS", 100)
    define_workflow("w", handler=echo, registry=world.registry)
    await world.worker(replace(world.options(), codec=AesGcmCodec(keys=NEW, current="new", lookup_key=LOOKUP)))
    with caplog.at_level(logging.ERROR, "redflow"):
        handle = await world.start("mine")

        async def said() -> bool:
            return "waits 0 s for a worker that has the key" in caplog.text

        await eventually(said, "the log line")
    state = await handle.get_state()
    assert state is not None
    assert state["attempt"] == 1
    await world.stop_workers()
    await world.worker()
    assert await handle.result() == "mine"
    state = await handle.get_state()
    assert state is not None
    assert state["attempt"] == 1


async def test_a_decided_failure_without_its_key_ends(world: World) -> None:
    def failed(ctx: object) -> None:
        world.did.append("on_failure")

    define_workflow("w", handler=echo, registry=world.registry, on_failure=failed)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start("mine")
    error = '{"name":"PoisonError","message":"its workers died","kind":"poison"}'
    await world.redis.hset(key_of(world, handle), mapping={"z": error, "r": "1", "a": "1", "t": "1"})
    await world.worker(replace(world.options(), codec=AesGcmCodec(keys=NEW, current="new", lookup_key=LOOKUP)))
    await world.reaches(handle, "failed")
    assert world.did == []


async def test_blinded_keys_do_what_plain_ones_do(world: World) -> None:
    define_workflow("w", handler=echo, registry=world.registry)
    await world.worker()
    first = await world.client.emit_workflow("w", 1, idempotency_key="k")
    again = await world.client.emit_workflow("w", 2, idempotency_key="k")
    other = await world.client.emit_workflow("w", 3, idempotency_key="l")
    assert first.id == again.id != other.id
    assert [await first.result(), await other.result()] == [1, 3]
    for _ in range(2):
        assert await world.client.emit_event("e", {"a": 1}, event_id="e1") == []
    with pytest.raises(ValueError, match="different event data"):
        await world.client.emit_event("e", {"a": 2}, event_id="e1")


async def test_a_cancel_and_a_time_out_leave_readable_records(world: World) -> None:
    async def slow(ctx: Context) -> object:
        await ctx.step.run("s", lambda: CANARY)
        await ctx.step.wait_for("nap", "1h")
        return None

    define_workflow("slow", handler=slow, registry=world.registry)
    await world.worker()
    canceled = await world.start(CANARY, name="slow")
    late = await world.client.emit_workflow("slow", CANARY, run_timeout_ms=300)
    await eventually(lambda: _sleeps(world, canceled), "asleep")
    await world.client.cancel_run(canceled.id)
    with pytest.raises(CanceledError):
        await canceled.result()
    with pytest.raises(RedflowError, match="timed out"):
        await late.result()
    for handle in (canceled, late):
        steps = await world.client.get_run_steps(handle.id)
        assert [step.get("output", step["status"]) for step in steps] == [CANARY, "canceled"]
        assert len(await world.client.get_run_attempts(handle.id)) == 1
