"""run_inline: overrides, sleeps, and what stands for events, children and emitted runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

import pytest
from pydantic import BaseModel

from redflow.definitions import WorkflowHandlerContext, define_workflow
from redflow.errors import InputValidationError, LimitExceededError, RedflowError, TimeoutError
from redflow.registry import WorkflowRegistry
from redflow.testing import InlineRunResult, InlineStepResult, run_inline

Context = WorkflowHandlerContext[object]
REGISTRY = WorkflowRegistry()
HOUR_MS = 3_600_000


class Order(BaseModel):
    number: int


async def receive(ctx: WorkflowHandlerContext[Order]) -> None: ...


CHILD = define_workflow("child", handler=receive, input_schema=Order, registry=REGISTRY)


async def run(
    call: Callable[[Context], Awaitable[object]],
    overrides: dict[str, object] | None = None,
    *,
    skip_time: bool = False,
) -> tuple[InlineRunResult[None], list[object]]:
    """A run whose handler makes one call; its result, and what the call gave."""

    async def handler(ctx: Context) -> None:
        given.append(await call(ctx))

    given: list[object] = []
    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    return await run_inline(flow, step_overrides=overrides, skip_time=skip_time), given


def assert_refused(result: InlineRunResult[None], name: str, *words: str) -> None:
    """The step `name` failed with a RedflowError that says `words`."""
    assert type(result.error) is RedflowError
    assert all(word in str(result.error) for word in (name, *words))
    assert result.steps == [InlineStepResult(name, "failed", error=result.error)]


# -- step.run -----------------------------------------------------------------------------------------------------


async def test_an_override_is_given_back_as_it_is_and_nothing_is_called() -> None:
    called = AsyncMock()
    value = {object()}
    result, given = await run(lambda ctx: ctx.step.run("charge", called), {"charge": value, "unknown": 1})
    assert result.succeeded
    assert given[0] is value
    assert result.steps == [InlineStepResult("charge", "succeeded", value)]
    called.assert_not_called()


async def test_an_override_of_none_is_one() -> None:
    called = AsyncMock()
    result, given = await run(lambda ctx: ctx.step.run("charge", called), {"charge": None})
    assert given == [None]
    assert result.steps == [InlineStepResult("charge", "succeeded")]
    called.assert_not_called()


async def test_a_mock_is_a_function() -> None:
    called = AsyncMock(return_value=[1])
    result, given = await run(lambda ctx: ctx.step.run("charge", called, 7))
    assert result.error is None
    assert given == [[1]]
    assert called.call_args.args == (7,)


# -- step.wait_for ------------------------------------------------------------------------------------------------


async def test_wait_for_really_sleeps() -> None:
    began = time.monotonic()
    result, _ = await run(lambda ctx: ctx.step.wait_for("nap", 60))
    assert time.monotonic() - began >= 0.055
    assert result.steps == [InlineStepResult("nap", "succeeded")]


@pytest.mark.parametrize("target", [0, "0s", datetime(2020, 1, 1, tzinfo=UTC)])
async def test_a_time_that_is_over_passes_at_once(target: int | str | datetime) -> None:
    result, _ = await run(lambda ctx: ctx.step.wait_for("nap", target))
    assert result.steps == [InlineStepResult("nap", "succeeded")]


@pytest.mark.parametrize("target", ["soon", -1, True, float("nan"), None])
@pytest.mark.parametrize("overrides", [{}, {"nap": None}])
async def test_what_is_no_time(target: object, overrides: dict[str, object]) -> None:
    result, _ = await run(lambda ctx: ctx.step.wait_for("nap", target), overrides)  # type: ignore[arg-type]
    assert type(result.error) is RedflowError
    assert "nap" in str(result.error)
    assert result.steps == []


async def test_a_wait_that_is_longer_than_its_timeout() -> None:
    began = time.monotonic()
    result, _ = await run(lambda ctx: ctx.step.wait_for("nap", "1h", timeout_ms=60))
    assert time.monotonic() - began >= 0.055
    assert type(result.error) is TimeoutError
    assert result.steps == [InlineStepResult("nap", "failed", error=result.error)]


async def test_a_wait_that_is_shorter_than_its_timeout() -> None:
    result, _ = await run(lambda ctx: ctx.step.wait_for("nap", 1, timeout_ms=HOUR_MS))
    assert result.succeeded


async def test_an_override_of_none_skips_the_sleep() -> None:
    result, given = await run(lambda ctx: ctx.step.wait_for("nap", "1h", timeout_ms=1), {"nap": None})
    assert given == [None]
    assert result.steps == [InlineStepResult("nap", "succeeded")]


async def test_skip_time_skips_every_sleep() -> None:
    async def call(ctx: Context) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await asyncio.gather(*(ctx.step.wait_for(f"nap {number}", "1h") for number in range(3)))
        await ctx.step.wait_for("until", tomorrow)

    result, _ = await run(call, skip_time=True)
    assert result.error is None
    assert [step.status for step in result.steps] == ["succeeded"] * 4


async def test_skip_time_keeps_the_timeout_of_a_wait() -> None:
    result, _ = await run(lambda ctx: ctx.step.wait_for("nap", "1h", timeout_ms=HOUR_MS - 1), skip_time=True)
    assert type(result.error) is TimeoutError
    assert result.steps == [InlineStepResult("nap", "failed", error=result.error)]


async def test_skip_time_skips_no_other_work() -> None:
    async def call(ctx: Context) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            done.append("work")

        await asyncio.gather(ctx.step.run("work", work), ctx.step.wait_for("nap", "1h"))

    done: list[str] = []
    result, _ = await run(call, skip_time=True)
    assert result.succeeded
    assert done == ["work"]


# -- step.wait_for_event ------------------------------------------------------------------------------------------


async def test_wait_for_event_makes_an_event_up() -> None:
    before = time.time_ns() // 1_000_000
    result, given = await run(lambda ctx: ctx.step.wait_for_event("paid", "payment", "order-7", "1h"))
    (event,) = given
    assert isinstance(event, dict)
    assert before <= event.pop("ts") <= time.time_ns() // 1_000_000
    assert event == {
        "id": "test-event-payment-paid",
        "name": "payment",
        "data": {"correlation_key": "order-7"},
    }
    assert [(step.name, step.status) for step in result.steps] == [("paid", "succeeded")]


@pytest.mark.parametrize("override", [None, {"id": "evt-1", "name": "payment", "data": None, "ts": 1}, {}])
async def test_an_override_of_wait_for_event(override: object) -> None:
    result, given = await run(
        lambda ctx: ctx.step.wait_for_event("paid", "payment", "order-7", "1h"), {"paid": override}
    )
    assert given[0] is override
    assert result.steps == [InlineStepResult("paid", "succeeded", override)]


@pytest.mark.parametrize("override", ["event", 1, [], False])
async def test_an_override_that_is_no_event(override: object) -> None:
    result, _ = await run(lambda ctx: ctx.step.wait_for_event("paid", "payment", "order-7", "1h"), {"paid": override})
    assert_refused(result, "paid", "dict or None", type(override).__name__)


@pytest.mark.parametrize(
    ("event", "key", "timeout", "error"),
    [
        (" ", "order-7", "1h", ValueError),
        ("payment", "", "1h", ValueError),
        ("payment", "order-7", "soon", RedflowError),
        ("payment", "order-7", "4000d", RedflowError),
    ],
)
async def test_bad_arguments_of_wait_for_event(event: str, key: str, timeout: str, error: type[Exception]) -> None:
    result, _ = await run(lambda ctx: ctx.step.wait_for_event("paid", event, key, timeout), {"paid": None})
    assert isinstance(result.error, error)
    assert not isinstance(result.error, LimitExceededError)
    assert "paid" in str(result.error)


# -- children -----------------------------------------------------------------------------------------------------


async def test_emit_workflow_makes_an_id_up() -> None:
    result, given = await run(lambda ctx: ctx.step.emit_workflow("start", "child", {"number": 1}))
    assert given == ["test-child-child-start"]
    assert result.steps == [InlineStepResult("start", "succeeded", "test-child-child-start")]

    result, given = await run(lambda ctx: ctx.step.emit_workflow("start", CHILD, Order(number=1)))
    assert given == ["test-child-child-start"]


async def test_overrides_of_emit_workflow() -> None:
    result, given = await run(lambda ctx: ctx.step.emit_workflow("start", "child", {}), {"start": "run-7"})
    assert given == ["run-7"]
    assert result.steps == [InlineStepResult("start", "succeeded", "run-7")]
    result, _ = await run(lambda ctx: ctx.step.emit_workflow("start", "child", {}), {"start": 7})
    assert_refused(result, "start", "a str", "int")


async def test_run_workflow_needs_an_override() -> None:
    result, _ = await run(lambda ctx: ctx.step.run_workflow("ship", "shipping", {}))
    assert_refused(result, "ship", "shipping")
    result, _ = await run(lambda ctx: ctx.step.run_workflow("ship", CHILD, {"number": 1}))
    assert_refused(result, "ship", "child")


@pytest.mark.parametrize("override", [None, 1, {object()}])
async def test_an_override_of_run_workflow_may_be_anything(override: object) -> None:
    result, given = await run(lambda ctx: ctx.step.run_workflow("ship", "shipping", {}), {"ship": override})
    assert given[0] is override
    assert result.steps == [InlineStepResult("ship", "succeeded", override)]


async def test_a_child_that_no_worker_would_start() -> None:
    overrides: dict[str, object] = {"start": "run-7"}
    result, _ = await run(lambda ctx: ctx.step.emit_workflow("start", CHILD, {"number": "many"}), overrides)
    assert isinstance(result.error, InputValidationError)
    result, _ = await run(lambda ctx: ctx.step.run_workflow("start", "child", object()), overrides)
    assert isinstance(result.error, TypeError)
    result, _ = await run(lambda ctx: ctx.step.emit_workflow("start", " ", {}), overrides)
    assert isinstance(result.error, ValueError)


# -- step.emit_event ----------------------------------------------------------------------------------------------


async def test_emit_event_makes_an_id_up() -> None:
    result, given = await run(lambda ctx: ctx.step.emit_event("tell", "shipped", {"number": 1}))
    assert given == [["test-event-shipped-tell"]]
    assert result.steps == [InlineStepResult("tell", "succeeded", ["test-event-shipped-tell"])]


@pytest.mark.parametrize("override", [[], ["run-1", "run-2"]])
async def test_an_override_of_emit_event(override: list[str]) -> None:
    result, given = await run(lambda ctx: ctx.step.emit_event("tell", "shipped", {}), {"tell": override})
    assert given[0] is override
    assert result.steps == [InlineStepResult("tell", "succeeded", override)]


@pytest.mark.parametrize("override", [None, "run-1", ("run-1",), [1]])
async def test_an_override_that_is_no_list_of_ids(override: object) -> None:
    result, _ = await run(lambda ctx: ctx.step.emit_event("tell", "shipped", {}), {"tell": override})
    assert_refused(result, "tell", "list of str")


async def test_bad_arguments_of_emit_event() -> None:
    overrides: dict[str, object] = {"tell": ["run-1"]}
    result, _ = await run(lambda ctx: ctx.step.emit_event("tell", " ", {}), overrides)
    assert isinstance(result.error, ValueError)
    result, _ = await run(lambda ctx: ctx.step.emit_event("tell", "shipped", {}, correlation_key=""), overrides)
    assert isinstance(result.error, ValueError)
    result, _ = await run(lambda ctx: ctx.step.emit_event("tell", "shipped", object()), overrides)
    assert isinstance(result.error, TypeError)
