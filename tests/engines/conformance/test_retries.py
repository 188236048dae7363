"""Retries: which errors, how often, after how long, and what a policy may say (spec 6.2, 6.3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from redflow import (
    CanceledError,
    InputValidationError,
    NonRetriableError,
    OutputSerializationError,
    RedflowError,
    TimeoutError,
    UnknownWorkflowError,
    workflow,
)
from redflow.errors import RateLimitExceededError, RetryAfterError, SerializedError
from redflow.types import RetryPolicyContext, WorkflowRetryPolicy
from tests.support.world import Context, World

NOW = WorkflowRetryPolicy(delay=1)

EARLY_MS = 40
"""A delay counts from the decision; the attempt's end is stamped when that is written, moments later."""


async def error_of(world: World, run_id: str) -> SerializedError:
    state = await world.client.get_run(run_id)
    assert state is not None
    return state["error"]


async def delays(world: World, run_id: str) -> list[int]:
    """Time between the end of each attempt and the start of the next, ms."""
    attempts = await world.client.get_run_attempts(run_id)
    return [b["started_at"] - a["finished_at"] for a, b in itertools.pairwise(attempts)]


@pytest.mark.parametrize(
    ("make", "attempts"),
    [
        (lambda: ValueError("x"), 3),
        (lambda: RedflowError("x"), 3),
        (lambda: TimeoutError("x"), 3),
        (lambda: RetryAfterError("x", 1), 3),
        (lambda: NonRetriableError("x"), 1),
        (lambda: InputValidationError("x"), 1),
        (lambda: UnknownWorkflowError("x"), 1),
        (lambda: OutputSerializationError("x"), 1),
        (lambda: RateLimitExceededError("x", 1), 1),
        (lambda: type("Own", (NonRetriableError,), {})("x"), 1),
        (lambda: SystemExit(3), 1),
        (lambda: KeyboardInterrupt(), 1),
        (lambda: type("Odd", (BaseException,), {})("x"), 1),
    ],
)
async def test_which_errors_are_retried(world: World, make: Callable[[], BaseException], attempts: int) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        world.did.append("attempt")
        raise make()

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    assert len(world.did) == attempts
    traces = await world.client.get_run_attempts(handle.id)
    assert [trace["attempt"] for trace in traces] == list(range(1, attempts + 1))
    assert (await error_of(world, handle.id))["name"] == type(make()).__name__


async def test_a_handler_that_raises_canceled_ends_canceled(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        raise CanceledError()

    handle = await world.begin()
    assert await world.ended(handle) == "canceled"


async def test_the_context_tells_the_attempt_and_max_attempts_is_fixed_at_enqueue(world: World) -> None:
    @workflow("w", registry=world.registry, max_attempts=2, retries=NOW)
    async def w(ctx: Context) -> None:
        world.did.append(f"{ctx.run.attempt}/{ctx.run.max_attempts}")
        raise ValueError("no")

    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start()
    workflow("w", registry=world.registry, max_attempts=9, retries=NOW)(w.handler)
    await world.worker()
    assert await world.ended(handle) == "failed"
    assert world.did == ["1/2", "2/2"]


async def test_the_default_delay_backs_off(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        raise ValueError("no")

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    first, second = await delays(world, handle.id)
    assert first >= 250 - EARLY_MS
    assert second >= 500 - EARLY_MS


async def slow_down(ctx: RetryPolicyContext) -> str:
    return "0.15s"


@pytest.mark.parametrize(
    "delay",
    [
        150,
        150.9,
        "150ms",
        "0.15s",
        lambda ctx: 150,
        slow_down,
        lambda ctx: datetime.now(UTC) + timedelta(milliseconds=200),
    ],
)
async def test_a_policys_delay(world: World, delay: int) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=delay, max_attempts=2))
    async def w(ctx: Context) -> None:
        raise ValueError("no")

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    [waited] = await delays(world, handle.id)
    assert 150 - EARLY_MS <= waited < 2000


async def test_a_policy_sees_error_input_and_run(world: World) -> None:
    class Order(BaseModel):
        id: int

    seen: list[RetryPolicyContext] = []

    def delay(ctx: RetryPolicyContext) -> int:
        seen.append(ctx)
        return 0

    async def should_retry(ctx: RetryPolicyContext) -> bool:
        seen.append(ctx)
        return True

    policy = WorkflowRetryPolicy(delay=delay, should_retry=should_retry, max_attempts=2)

    @workflow("w", registry=world.registry, retries=policy, input_schema=Order, queue="q")
    async def w(ctx: Context) -> None:
        raise KeyError(f"attempt {ctx.run.attempt}")

    await world.worker()
    handle = await world.start({"id": 3})
    assert await world.ended(handle) == "failed"
    assert len(seen) == 4, "both are asked on the last attempt too"
    for number, ctx in enumerate(seen):
        attempt = 1 + number // 2
        assert isinstance(ctx.error, KeyError)
        assert ctx.error.args == (f"attempt {attempt}",)
        assert ctx.input == Order(id=3)
        assert (ctx.run.attempt, ctx.run.next_attempt, ctx.run.max_attempts) == (attempt, attempt + 1, 2)
        assert (ctx.run.id, ctx.run.queue, ctx.run.workflow) == (handle.id, "app:q", "w")


async def test_should_retry_false_fails_at_once(world: World) -> None:
    policy = WorkflowRetryPolicy(delay=0, should_retry=lambda ctx: not isinstance(ctx.error, KeyError))

    @workflow("w", registry=world.registry, retries=policy)
    async def w(ctx: Context) -> None:
        world.did.append("attempt")
        raise KeyError("no") if ctx.run.attempt == 2 else ValueError("again")

    await world.worker()
    assert await world.ended(await world.start()) == "failed"
    assert len(world.did) == 2


def broken(ctx: RetryPolicyContext) -> int:
    raise LookupError("broken policy")


async def broken_later(ctx: RetryPolicyContext) -> bool:
    raise LookupError("broken policy")


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (WorkflowRetryPolicy(delay=broken), "LookupError"),
        (WorkflowRetryPolicy(should_retry=broken_later), "LookupError"),
        (WorkflowRetryPolicy(delay=lambda ctx: -1), "ValueError"),
        (WorkflowRetryPolicy(delay=lambda ctx: float("nan")), "ValueError"),
        (WorkflowRetryPolicy(delay=lambda ctx: True), "ValueError"),
        (WorkflowRetryPolicy(delay=lambda ctx: "soon"), "ValueError"),
        (WorkflowRetryPolicy(delay=lambda ctx: "1e9d"), "ValueError"),
        (WorkflowRetryPolicy(delay=lambda ctx: "9999999d"), "LimitExceededError"),
    ],
)
async def test_a_broken_policy_fails_the_run_with_its_own_error(
    world: World, policy: WorkflowRetryPolicy, name: str
) -> None:
    @workflow("w", registry=world.registry, retries=policy)
    async def w(ctx: Context) -> None:
        world.did.append("attempt")
        raise KeyError("the handler's own")

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    assert world.did == ["attempt"]
    assert (await error_of(world, handle.id))["name"] == name


async def test_a_broken_policy_on_the_last_attempt_is_recorded_too(world: World) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=broken, max_attempts=1))
    async def w(ctx: Context) -> None:
        raise KeyError("the handler's own")

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    assert (await error_of(world, handle.id))["message"] == "broken policy"


async def test_retry_after_beats_the_policys_delay(world: World) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=60_000))
    async def w(ctx: Context) -> object:
        if ctx.run.attempt == 1:
            raise RetryAfterError("busy", 120)
        return ctx.run.attempt

    handle = await world.begin()
    assert await handle.result() == 2
    [waited] = await delays(world, handle.id)
    assert 120 - EARLY_MS <= waited < 2000


async def test_an_input_that_does_not_fit_fails_without_retry(world: World) -> None:
    class Order(BaseModel):
        id: int

    @workflow("w", registry=world.registry, input_schema=Order, retries=NOW)
    async def w(ctx: Context) -> object:
        return [type(ctx.input).__name__, ctx.input.id]

    assert await world.run({"id": "3"}) == ["Order", 3]
    handle = await world.start({"id": "x"})
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["kind"], state["attempt"], state["input"]) == ("validation", 1, {"id": "x"})


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), float("nan"), float("inf"), 2**64, {"a": {"b": b"x"}}])
async def test_an_output_that_is_not_json_fails_without_retry(world: World, value: object) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        world.did.append("attempt")
        return value

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    error = await error_of(world, handle.id)
    assert (error["kind"], error["message"]) == ("serialization", "Workflow output is not JSON-serializable")
    assert world.did == ["attempt"]


async def test_a_failing_attempt_keeps_the_finished_steps(world: World) -> None:
    def first() -> str:
        world.did.append("first")
        return "kept"

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        kept = await ctx.step.run("first", first)
        if ctx.run.attempt < 3:
            raise ValueError("again")
        return kept

    assert await world.run() == "kept"
    assert world.did == ["first"]
