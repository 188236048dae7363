"""Bad input: a typed error that names the field, nothing written, at once; no run takes another down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from redflow import RedflowError, define_workflow, workflow
from redflow.domain.run import stored_run_id
from redflow.errors import LimitExceededError
from redflow.types import JsonData, WorkflowRetryPolicy
from tests.support.exceptions import Cyclic, Unprintable
from tests.support.world import Context, World, eventually

DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]
CYCLE: list[object] = []
CYCLE.append(CYCLE)


async def handler(ctx: Context) -> object:
    return ctx.input


@pytest.fixture
async def registered(world: World) -> AsyncIterator[World]:
    """`w` is known; whatever the test tries, no key is written."""
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    before = await world.key_count()
    yield world
    assert await world.key_count() == before


BAD_NAMES = ["", "  ", "x" * 1001, "é" * 128, "a\0b", "a\nb", "\x9b31m", "a\u202eb", "\ud800", None, 5, b"w", ["w"]]


@pytest.mark.parametrize("value", BAD_NAMES)
@pytest.mark.parametrize("field", ["workflow name", "queue", "idempotency_key", "parent_run_id"])
async def test_names_and_keys_that_are_none(registered: World, field: str, value: JsonData) -> None:
    if (value is None and field != "workflow name") or (field == "queue" and value in ("", "  ")):
        return  # None means "not given"; of blank queues tells test_creation
    given: dict[str, JsonData] = {"workflow name": "w"} | {field: value}
    started = time.monotonic()
    with pytest.raises(ValueError, match=field.split()[0]):
        await registered.client.run_by_name(
            given["workflow name"],
            {},
            queue_override=given.get("queue"),
            idempotency_key=given.get("idempotency_key"),
            parent_run_id=given.get("parent_run_id"),
        )
    assert time.monotonic() - started < 0.1


BAD_INPUTS: list[tuple[object, str]] = [
    ({"a": {"b": b"x"}}, r"\$\.a\.b"),
    ({"a": [1, datetime.now(UTC)]}, r"\$\.a\[1\]"),
    ({"a": date(2024, 1, 1)}, r"\$\.a"),
    ([Decimal("1.5")], r"\$\[0\]"),
    ({"a": float("nan")}, r"\$\.a"),
    ({"a": float("-inf")}, r"\$\.a"),
    ({"a": {1, 2}}, r"\$\.a"),
    ({"a": object()}, r"\$\.a"),
    ({"a": 2**64}, r"\$\.a"),
    ({"a": -(2**63) - 1}, r"\$\.a"),
    ({"a": 10**5000}, r"\$\.a"),
    ({1: "a", "1": "b"}, r"\$"),
    ({(1, 2): "a"}, r"\$"),
    ({"a": "\ud800"}, r"\$\.a"),
    ({"\udfff": 1}, r"\$"),
    (DEEP, "200"),
    (CYCLE, "200"),
    (lambda: None, r"\$"),
]


@pytest.mark.parametrize(("value", "said"), BAD_INPUTS, ids=[said + str(n) for n, (_, said) in enumerate(BAD_INPUTS)])
async def test_inputs_that_are_not_json(registered: World, value: object, said: str) -> None:
    started = time.monotonic()
    with pytest.raises((TypeError, ValueError, LimitExceededError), match=said):
        await registered.client.emit_workflow("w", value)
    assert time.monotonic() - started < 0.1


@pytest.mark.parametrize(
    "run_at",
    [5, "2024-01-01", date(2024, 1, 1), datetime.max.replace(tzinfo=UTC), True, float("nan"),
     datetime.now(UTC) + timedelta(days=3660)],
)  # fmt: skip
async def test_times_that_are_none(registered: World, run_at: datetime) -> None:
    with pytest.raises(ValueError, match="Invalid runAt date"):
        await registered.client.emit_workflow("w", 1, run_at=run_at)


async def test_the_distant_past_is_the_past(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    for at in (datetime(1, 1, 2, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC)):
        handle = await world.client.emit_workflow("w", 1, run_at=at)
        assert await world.status(handle) == "queued"


@pytest.mark.parametrize("run_id", ["x", "", "run_", "a:b", "{x}", "run_*", "\0", "\ud800", "x" * 10_000, None, 5])
async def test_ids_that_are_none_of_ours(registered: World, run_id: str) -> None:
    client = registered.client
    assert await client.get_run(run_id) is None
    assert await client.get_run_steps(run_id) == []
    assert await client.get_run_attempts(run_id) == []
    assert await client.cancel_run(run_id) is False


@pytest.mark.parametrize("reason", [5, b"x", "x" * 256, "a\0b", "\ud800"])
async def test_reasons_that_are_none(registered: World, reason: str) -> None:
    with pytest.raises(ValueError, match="reason"):
        await registered.client.cancel_run("run_00000000-0000-7000-8000-000000000000", reason=reason)


async def test_names_that_only_look_odd_work_and_stay_apart(world: World) -> None:
    names = ["a:b", "{x}", "a*b?[c]", "é", "e\u0301", "a b", "__proto__", "running:w", "w:", "😀" * 63, "n" * 255]
    for name in names:

        @workflow(name, registry=world.registry, queue=name)
        async def w(ctx: Context) -> object:
            return [ctx.run.workflow, ctx.input]

    await world.worker()
    handles = [await world.client.emit_workflow(n, n, idempotency_key=n) for n in names]
    assert [await handle.result() for handle in handles] == [[n, n] for n in names]
    assert (await world.client.get_stats())["total"] == len(names)
    assert sorted(await world.client.list_workflows()) == sorted(names)


@pytest.mark.parametrize(
    "make", [Unprintable, Cyclic, lambda: ValueError("\ud800"), lambda: ValueError("\x1b[31m<script>\0"), BaseException]
)
async def test_odd_exceptions_are_stored_and_the_worker_lives(world: World, make: Callable[[], BaseException]) -> None:
    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        if ctx.input == "fine":
            return "fine"
        raise make()

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert state["error"]["name"] == type(make()).__name__
    assert await world.run("fine") == "fine"


async def test_more_steps_than_allowed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redflow.execution.steps.MAX_STEPS", 5)

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> None:
        for n in range(10):
            await ctx.step.run(f"s{n}", world.did.append, "step")

    handle = await world.begin()
    with pytest.raises(RedflowError, match="limit_exceeded"):
        await handle.result()
    assert len(world.did) == 5


BROKEN_FIELDS = [
    ("m", "abc"),
    ("i", "{half"),
    ("i", "z broken zlib"),
    ("i", "@"),
    ("a", "abc"),
    ("n", "abc"),
    ("c", "x"),
]


@pytest.mark.parametrize(("field", "value"), BROKEN_FIELDS)
async def test_a_record_with_a_broken_field_takes_no_other_run_down(world: World, field: str, value: str) -> None:
    define_workflow("w", handler=handler, registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    await world.client.sync_registry(world.registry, app="app")
    handles = [await world.start(n) for n in range(7)]
    broken = stored_run_id(handles[3].id)
    await world.redis.hset(f"{world.keys.base}run:{broken}", field, value)
    worker = await world.worker()
    try:
        results = [await handle.result(timeout_ms=5000) for n, handle in enumerate(handles) if n != 3]
        assert results == [0, 1, 2, 4, 5, 6]
        assert await world.run("next") == "next"
    finally:
        await worker.stop()
        await world.client.reset_runs()


async def test_a_key_of_the_wrong_type_takes_no_other_run_down(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handles = [await world.start(n) for n in range(7)]
    key = f"{world.keys.base}run:{stored_run_id(handles[3].id)}"
    await world.redis.delete(key)
    await world.redis.set(key, "not a hash")
    worker = await world.worker()
    try:
        results = [await handle.result(timeout_ms=5000) for n, handle in enumerate(handles) if n != 3]
        assert results == [0, 1, 2, 4, 5, 6]
        assert await world.run("next") == "next"
    finally:
        await worker.stop()
        await world.client.reset_runs()


async def test_a_key_of_the_wrong_type_blocks_neither_promotion_nor_purge(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    soon = datetime.now(UTC) + timedelta(milliseconds=150)
    due = [await world.client.emit_workflow("w", n, run_at=soon) for n in range(3)]
    ended = [await world.start(n) for n in range(3)]
    for handle in ended:
        await world.client.cancel_run(handle.id)
    for handle in (due[0], ended[0]):
        key = f"{world.keys.base}run:{stored_run_id(handle.id)}"
        await world.redis.delete(key)
        await world.redis.set(key, "not a hash")
    worker = await world.worker()
    try:
        assert [await handle.result() for handle in due[1:]] == [1, 2]
        later = int(time.time() * 1000) + 31 * 86_400_000
        assert await world.client.cleanup_expired_runs_now(reference_time_ms=later) == 4
    finally:
        await worker.stop()
        await world.client.reset_runs()


async def test_a_broken_step_record_fails_or_reruns_its_own_run_only(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        if ctx.input == "broken":
            await ctx.step.run("s", lambda: 1)
            await ctx.step.wait_for("nap", 100)
        await go.wait()
        return ctx.input

    await world.worker()
    broken, fine = await world.start("broken"), await world.start("fine")
    await world.reaches(broken, "scheduled")
    key = f"{world.keys.base}run:{stored_run_id(broken.id)}"
    await world.redis.hset(key, "s:s", "nonsense")
    go.set()
    assert await fine.result() == "fine"
    await eventually(lambda: world.status(broken), "an end", until=("succeeded", "failed").__contains__)
