"""run_inline: what the handler gets, how its end is told, and the steps that run for real."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import logging
import math
import threading
import time

import pytest
from pydantic import BaseModel

import redflow
from redflow.codec import BlindedKind, PayloadCodec, PayloadContext
from redflow.definitions import BlockingWorkflowHandlerContext, WorkflowHandlerContext, define_workflow
from redflow.errors import (
    CanceledError,
    InputValidationError,
    NonRetriableError,
    OutputSerializationError,
    RedflowError,
    TimeoutError,
)
from redflow.registry import WorkflowRegistry
from redflow.testing import InlineRunResult, InlineStepResult, run_inline
from redflow.types import OnFailureContext, RunContext, WorkflowRetryPolicy

Context = WorkflowHandlerContext[object]
REGISTRY = WorkflowRegistry()


class Order(BaseModel):
    number: int


async def fail() -> None:
    raise LookupError("no such order")


# -- the result ---------------------------------------------------------------------------------------------------


def test_the_results_can_be_made() -> None:
    result: InlineRunResult[int] = InlineRunResult(output=None, error=None, steps=[])
    assert result.succeeded
    assert result == InlineRunResult()
    error = LookupError()
    assert not InlineRunResult(error=error).succeeded
    step = InlineStepResult("charge", "failed", error=error)
    assert (step.name, step.status, step.output, step.error) == ("charge", "failed", None, error)
    assert redflow.run_inline is run_inline
    assert redflow.InlineRunResult is InlineRunResult


async def test_a_run_with_two_steps() -> None:
    async def double(number: int) -> int:
        return 2 * number

    async def handler(ctx: WorkflowHandlerContext[dict[str, int]]) -> int:
        doubled = await ctx.step.run("double", double, ctx.input["number"])
        return await ctx.step.run("again", double, number=doubled)

    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    result: InlineRunResult[int] = await run_inline(flow, {"number": 2})
    assert result == InlineRunResult(
        8, None, [InlineStepResult("double", "succeeded", 4), InlineStepResult("again", "succeeded", 8)]
    )


async def test_what_the_handler_is_told_of_its_run() -> None:
    async def handler(ctx: Context) -> None:
        seen.append(ctx.run)
        assert ctx.input is None
        assert not ctx.signal.is_set()

    seen: list[RunContext] = []
    flow = define_workflow("w", handler=handler, queue="mail", registry=REGISTRY)
    assert (await run_inline(flow)).succeeded
    assert (await run_inline(flow, run_id="run-7", attempt=2, max_attempts=5)).succeeded
    assert seen == [RunContext("test-run-1", "w", "mail", 1, 3), RunContext("run-7", "w", "mail", 2, 5)]


async def test_input_and_output_pass_through_json() -> None:
    async def handler(ctx: Context) -> object:
        assert ctx.input == {"pair": [1, 2], "3": "three"}
        return (1, {2: None})

    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    assert (await run_inline(flow, {"pair": (1, 2), 3: "three"})).output == [1, {"2": None}]


async def test_what_can_not_be_an_input() -> None:
    async def handler(ctx: Context) -> None: ...

    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    with pytest.raises(TypeError, match=r"\$\.when"):
        await run_inline(flow, {"when": object()})
    with pytest.raises(ValueError, match=r"\$\.share"):
        await run_inline(flow, {"share": math.nan})
    with pytest.raises(TypeError, match="WorkflowDefinition"):
        await run_inline(handler)  # type: ignore[arg-type]


async def test_input_schema() -> None:
    async def handler(ctx: WorkflowHandlerContext[Order]) -> int:
        called.append(ctx.input)
        return ctx.input.number

    called: list[Order] = []
    flow = define_workflow("w", handler=handler, input_schema=Order, registry=REGISTRY)
    assert (await run_inline(flow, {"number": 1})).output == 1
    assert (await run_inline(flow, Order(number=2))).output == 2
    assert called == [Order(number=1), Order(number=2)]

    result = await run_inline(flow, {"number": "many"})
    with pytest.raises(ValueError, match="valid integer") as caught:
        Order.model_validate({"number": "many"})
    assert isinstance(result.error, InputValidationError)
    assert str(result.error) == str(caught.value)
    assert result.output is None
    assert result.steps == []
    assert len(called) == 2


# -- errors -------------------------------------------------------------------------------------------------------


async def test_errors_are_the_very_objects() -> None:
    async def handler(ctx: Context) -> None:
        try:
            await ctx.step.run("find", fail)
        except LookupError as exc:
            caught.append(exc)
            raise error from exc

    caught: list[BaseException] = []
    error = ValueError("bad order")
    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert result.error is error
    assert not result.succeeded
    assert result.steps == [InlineStepResult("find", "failed", error=caught[0])]


async def test_one_attempt_without_policies_and_hooks() -> None:
    def hook(context: OnFailureContext) -> None:
        calls.append("on_failure")

    def should_retry(context: object) -> bool:
        calls.append("should_retry")
        return True

    async def handler(ctx: Context) -> None:
        calls.append("handler")
        raise LookupError

    calls: list[str] = []
    flow = define_workflow(
        "w",
        handler=handler,
        on_failure=hook,
        retries=WorkflowRetryPolicy(should_retry=should_retry),
        mutex=lambda input: calls.append("mutex") or "key",  # type: ignore[func-returns-value]
        registry=REGISTRY,
    )
    assert isinstance((await run_inline(flow)).error, LookupError)
    assert calls == ["handler"]


@pytest.mark.parametrize("raised", [CanceledError("stop"), SystemExit(3), NonRetriableError("no")])
async def test_every_error_is_in_the_result(raised: BaseException) -> None:
    async def handler(ctx: Context) -> None:
        raise raised

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert result.error is raised


async def test_a_handler_that_cancels_itself() -> None:
    async def handler(ctx: Context) -> None:
        raise asyncio.CancelledError

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert isinstance(result.error, RuntimeError)
    assert isinstance(result.error.__cause__, asyncio.CancelledError)


async def test_an_output_that_is_no_json() -> None:
    async def handler(ctx: Context) -> object:
        return {1, 2}

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert isinstance(result.error, OutputSerializationError)
    assert isinstance(result.error.cause_error, TypeError)
    assert result.output is None


async def test_the_whole_run_times_out() -> None:
    async def handler(ctx: Context) -> None:
        try:
            await ctx.step.run("hang", asyncio.Event().wait)
        finally:
            unwound.append(ctx.signal.is_set())

    unwound: list[bool] = []
    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY), timeout_s=0.01)
    assert type(result.error) is builtins.TimeoutError
    assert "0.01 s" in str(result.error)
    assert unwound == [True]
    (step,) = result.steps
    assert (step.name, step.status, type(step.error)) == ("hang", "failed", CanceledError)


async def test_a_handler_that_does_not_unwind_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await released.wait()

    released = asyncio.Event()
    with caplog.at_level(logging.WARNING, "redflow"):
        result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY), timeout_s=0.01)
    assert type(result.error) is builtins.TimeoutError
    assert "did not end" in caplog.text
    released.set()


async def test_the_caller_is_cancelled() -> None:
    async def handler(ctx: Context) -> None:
        try:
            started.set()
            await ctx.step.wait_for("nap", "1h")
        finally:
            unwound.set()

    started, unwound = asyncio.Event(), asyncio.Event()
    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    running = asyncio.create_task(run_inline(flow))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert unwound.is_set()


# -- steps --------------------------------------------------------------------------------------------------------


async def test_values_of_steps_pass_through_json() -> None:
    async def pair() -> tuple[int, int]:
        return (1, 2)

    async def order() -> Order:
        return Order(number=1)

    async def handler(ctx: Context) -> None:
        assert isinstance(await ctx.step.run("pair", pair), list)
        assert await ctx.step.run("order", order) == Order(number=1)

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert result.error is None
    assert [step.output for step in result.steps] == [[1, 2], Order(number=1)]


async def test_a_step_whose_output_is_no_json() -> None:
    async def handler(ctx: Context) -> None:
        await ctx.step.run("set", lambda: {1})

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert isinstance(result.error, OutputSerializationError)
    assert str(result.error) == "Step output is not JSON-serializable: set"
    assert result.steps == [InlineStepResult("set", "failed", error=result.error)]


async def test_a_step_that_times_out() -> None:
    async def hang(signal: asyncio.Event) -> None:
        signals.append(signal)
        await asyncio.Event().wait()

    async def handler(ctx: Context) -> None:
        await ctx.step.run("hang", hang, timeout_ms=10)

    signals: list[asyncio.Event] = []
    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert type(result.error) is TimeoutError
    assert str(result.error) == "Step timed out: hang"
    assert result.steps == [InlineStepResult("hang", "failed", error=result.error)]
    assert signals[0].is_set()


@pytest.mark.parametrize("timeout_ms", [-1, True, math.nan, "1s"])
async def test_what_is_no_timeout(timeout_ms: float) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.step.run("step", fail, timeout_ms=timeout_ms)

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert isinstance(result.error, NonRetriableError)
    assert "timeout_ms" in str(result.error)


async def test_a_signal_is_injected_unless_it_is_given() -> None:
    async def take(*, signal: object) -> bool:
        return isinstance(signal, asyncio.Event)

    async def handler(ctx: Context) -> list[bool]:
        return [await ctx.step.run("ours", take), await ctx.step.run("theirs", take, signal="given")]

    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert result.output == [True, False]


async def test_a_name_may_be_used_once() -> None:
    async def handler(ctx: Context) -> None:
        await ctx.step.run("same", lambda: 1)
        await ctx.step.wait_for("same", 0)

    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    for overrides in ({}, {"same": 1}):
        result = await run_inline(flow, step_overrides=overrides)
        assert type(result.error) is RedflowError
        assert "Duplicate step name" in str(result.error)
        assert [step.name for step in result.steps] == ["same"]


async def test_steps_stand_in_the_order_of_their_beginning() -> None:
    async def quick() -> None:
        await late.wait()

    async def slow() -> None:
        late.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def handler(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("quick", quick), ctx.step.run("slow", slow))

    late = asyncio.Event()
    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert [step.name for step in result.steps] == ["quick", "slow"]


async def test_steps_that_are_open_at_the_end_failed() -> None:
    async def handler(ctx: Context) -> str:
        open_steps.append(asyncio.create_task(ctx.step.wait_for("nap", "1h")))
        await ctx.step.run("work", lambda: None)
        return "over"

    open_steps: list[asyncio.Task[None]] = []
    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))
    assert result.output == "over"
    assert [(step.name, step.status) for step in result.steps] == [("work", "succeeded"), ("nap", "failed")]
    assert isinstance(result.steps[1].error, CanceledError)


async def test_plain_handlers() -> None:
    def handler(ctx: BlockingWorkflowHandlerContext[dict[str, int]]) -> list[int]:
        assert threading.current_thread() is not threading.main_thread()
        assert variable.get() == "of the test"
        number = ctx.step.run("add", lambda a, b: int(a) + int(b), ctx.input["number"], 1)
        ctx.step.wait_for("nap", 1)
        event = ctx.step.wait_for_event("event", "paid", "7", "1h")
        return [number, 0 if event is None else 1]

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("of the test")
    flow = define_workflow("w", handler=handler, registry=REGISTRY)
    result = await run_inline(flow, {"number": 1}, step_overrides={"event": None})
    assert result.error is None
    assert result.output == [2, 0]
    assert [step.name for step in result.steps] == ["add", "nap", "event"]

    def raising(ctx: BlockingWorkflowHandlerContext[object]) -> None:
        ctx.step.run("find", fail)

    result_2 = await run_inline(define_workflow("w", handler=raising, registry=REGISTRY))
    assert isinstance(result_2.error, LookupError)
    assert result_2.steps == [InlineStepResult("find", "failed", error=result_2.error)]


async def test_a_plain_handler_times_out() -> None:
    def handler(ctx: BlockingWorkflowHandlerContext[object]) -> None:
        try:
            ctx.signal.wait_blocking(20)
        finally:
            ended.set()

    ended = threading.Event()
    result = await run_inline(define_workflow("w", handler=handler, registry=REGISTRY), timeout_s=0.01)
    assert type(result.error) is builtins.TimeoutError
    assert await asyncio.to_thread(ended.wait, 20)


async def test_no_threads_are_left() -> None:
    async def handler(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step.run(f"s{number}", time.time) for number in range(5)))

    def serving() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "redflow-step"}

    before = serving()
    assert (await run_inline(define_workflow("w", handler=handler, registry=REGISTRY))).succeeded
    for thread in serving() - before:
        await asyncio.to_thread(thread.join, 20)
    assert serving() <= before


# -- encryption -----------------------------------------------------------------------------------------------------


class Spy:
    """A codec that notes what it sees."""

    require_encrypted = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []

    def encode(self, data: bytes, context: PayloadContext) -> tuple[str, bytes]:
        self.seen.append((context.kind, context.name, data))
        return "k", data[::-1]

    def decode(self, key_id: str, data: bytes, context: PayloadContext) -> bytes:
        assert key_id == "k"
        return data[::-1]

    def blind(self, kind: BlindedKind, text: str, prefix: str) -> str:
        return text[::-1]


async def test_what_would_be_stored_passes_through_the_codec() -> None:
    async def handler(ctx: Context) -> object:
        first = await ctx.step.run("first", lambda: {"a": (1, 2)})
        await ctx.step.wait_for("nap", 1)
        with pytest.raises(LookupError):
            await ctx.step.run("bad", fail)
        return [first, ctx.input]

    spy = Spy()
    codec: PayloadCodec = spy
    result = await run_inline(define_workflow("coded", handler=handler, registry=REGISTRY), "in", codec=codec)
    assert result.error is None
    assert result.output == [{"a": [1, 2]}, "in"]
    assert [(kind, name) for kind, name, _ in spy.seen] == [
        ("input", ""), ("step_output", "first"), ("step_error", "bad"), ("output", ""),
    ]  # fmt: skip
    assert b"no such order" in spy.seen[2][2]
