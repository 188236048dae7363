"""StepRetry: a step that is tried again in place, and `step.map`: one step for each item."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest

from redflow import NonRetriableError, StepRetry, define_workflow, run_inline, workflow
from redflow.errors import RetryAfterError
from redflow.registry import WorkflowRegistry
from redflow.types import CancelSignal, JsonData, StepState
from tests.support.world import BlockingContext, Context, World, soon

AT_ONCE = StepRetry(max_attempts=3, delay=0)


def failing(
    world: World, times: int, error: Callable[[], Exception] = lambda: ValueError("not yet")
) -> Callable[[], str]:
    """A function that fails so many times and then answers; it notes its calls."""

    def function() -> str:
        world.did.append("call")
        if len(world.did) <= times:
            raise error()
        return "done"

    return function


def as_it_is(error: Exception) -> Exception:
    return error


async def steps_of(world: World) -> list[StepState]:
    [run] = await world.client.list_runs()
    return await world.client.get_run_steps(run["id"])


async def test_a_step_is_tried_again_within_its_attempt(world: World) -> None:
    async def handler(ctx: Context) -> object:
        return [ctx.run.attempt, await ctx.step.run("a", failing(world, 2), retry=AT_ONCE)]

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == [1, "done"]
    assert world.did == ["call"] * 3
    [step] = await steps_of(world)
    assert (step["status"], step["attempt"], step["seq"]) == ("succeeded", 1, 1)
    [run] = await world.client.list_runs()
    assert len(await world.client.get_run_attempts(run["id"])) == 1


async def test_the_last_error_reaches_the_handler_and_the_next_attempt_begins_anew(world: World) -> None:
    async def handler(ctx: Context) -> object:
        try:
            return await ctx.step.run("a", failing(world, 4), retry=AT_ONCE)
        except ValueError:
            world.did.append("caught")
            raise

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == "done"
    assert world.did == ["call", "call", "call", "caught", "call"], "the note counts as one of the five"


@pytest.mark.parametrize("error", [NonRetriableError("no")])
async def test_a_final_error_is_not_tried_again(world: World, error: Exception) -> None:
    async def handler(ctx: Context) -> object:
        return await ctx.step.run("a", failing(world, 9, lambda: error), retry=AT_ONCE)

    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    assert await world.ended(await world.start()) == "failed"
    assert world.did == ["call"]


async def test_the_pause_between_tries(world: World) -> None:
    async def handler(ctx: Context) -> list[float]:
        spent: list[float] = []
        retries = [StepRetry(2, "120ms"), StepRetry(2, 120), StepRetry(2), StepRetry(2, "1h")]
        errors = [ValueError("x"), ValueError("x"), ValueError("x"), RetryAfterError("x", 120)]
        for index, (retry, error) in enumerate(zip(retries, errors, strict=True)):
            world.did.clear()
            began = time.monotonic()
            await ctx.step.run(str(index), failing(world, 1, partial(as_it_is, error)), retry=retry)
            spent.append(time.monotonic() - began)
        return spent

    define_workflow("w", handler=handler, registry=world.registry)
    fixed, number, standard, told = await world.run()
    assert min(fixed, number, told) >= 0.12
    assert standard >= 0.25
    assert told < 60, "the error's own delay beats the policy's"


async def test_each_try_has_its_own_time_limit_and_signal(world: World) -> None:
    signals: list[CancelSignal] = []

    async def slow(signal: CancelSignal) -> str:
        signals.append(signal)
        assert not signal.is_set()
        if len(signals) < 3:
            await asyncio.sleep(30)
        return "done"

    async def handler(ctx: Context) -> object:
        return await ctx.step.run("a", slow, timeout_ms=50, retry=AT_ONCE)

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == "done"
    assert [signal.is_set() for signal in signals] == [True, True, False]


async def test_a_cancel_ends_the_pause(world: World) -> None:
    async def handler(ctx: Context) -> object:
        return await ctx.step.run("a", failing(world, 9), retry=StepRetry(3, "1h"))

    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    handle = await world.start()
    await world.reaches(handle, "running")
    await soon(lambda: bool(world.did), "the first try")
    await world.client.cancel_run(handle.id)
    assert await world.ended(handle) == "canceled"
    [step] = await steps_of(world)
    assert step["status"] == "canceled"


async def test_any_other_value_of_that_name_reaches_the_function(world: World) -> None:
    async def handler(ctx: Context) -> object:
        def plain(retry: JsonData) -> JsonData:
            return retry

        return [await ctx.step.run("a", plain, retry=3), await ctx.step.run("b", plain, retry={"max_attempts": 2})]

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == [3, {"max_attempts": 2}]


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", None])
def test_a_senseless_number_of_tries_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"StepRetry\.max_attempts must be a whole number of at least 1"):
        StepRetry(value)


async def test_a_senseless_delay_is_refused_before_the_first_try(world: World) -> None:
    async def handler(ctx: Context) -> object:
        return await ctx.step.run("a", failing(world, 0), retry=StepRetry(2, "soon"))

    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    handle = await world.start()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert "retry delay of step 'a'" in state["error"]["message"]
    assert world.did == []


async def test_inline_runs_retry_in_place_too(world: World) -> None:
    @workflow("w", registry=WorkflowRegistry())
    async def inline(ctx: Context) -> str:
        return await ctx.step.run("a", failing(world, 2), retry=StepRetry(3, "1h"))

    result = await run_inline(inline, skip_time=True)
    assert (result.output, [step.status for step in result.steps]) == ("done", ["succeeded"])


# -- map -------------------------------------------------------------------------------------------------------------


async def test_map_runs_one_step_for_each_item(world: World) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0.01 * (5 - number))
        return number * 2

    async def handler(ctx: Context) -> object:
        nothing: list[int] = []
        return [await ctx.step.map("double", double, range(5)), await ctx.step.map("none", double, nothing)]

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == [[0, 2, 4, 6, 8], []]
    assert [(step["name"], step["output"]) for step in await steps_of(world)] == [
        (f"double[{number}]", number * 2) for number in range(5)
    ]


async def test_map_keeps_to_its_concurrency(world: World) -> None:
    under_way, most = 0, 0

    async def work(_: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    async def handler(ctx: Context) -> None:
        await ctx.step.map("work", work, range(12), concurrency=3)

    define_workflow("w", handler=handler, registry=world.registry)
    await world.run()
    assert most == 3


async def test_after_a_failure_the_next_attempt_does_the_rest_only(world: World) -> None:
    async def work(item: str) -> str:
        world.did.append(item)
        if item == "b" and world.did.count("b") == 1:
            raise ValueError("not yet")
        return item.upper()

    async def handler(ctx: Context) -> object:
        return await ctx.step.map("work", work, ["a", "b", "c", "d"], concurrency=1)

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == ["A", "B", "C", "D"]
    assert world.did == ["a", "b", "b", "c", "d"]


async def test_map_passes_retry_and_time_limit_on_and_raises_the_first_item_s_error(world: World) -> None:
    async def work(item: int) -> None:
        world.did.append(str(item))
        if item != 1:
            raise ValueError(str(item))

    async def handler(ctx: Context) -> object:
        try:
            await ctx.step.map("work", work, [0, 1, 2], timeout_ms=5_000, retry=StepRetry(2, 0))
        except ValueError as exc:
            return str(exc)
        return "no error"

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == "0"
    assert sorted(world.did) == ["0", "0", "1", "2", "2"]


async def test_plain_handlers_map_as_well(world: World) -> None:
    def square(number: int) -> int:
        return number * number

    def handler(ctx: BlockingContext) -> object:
        return ctx.step.map("square", square, [1, 2, 3], retry=StepRetry(2))

    define_workflow("w", handler=handler, registry=world.registry)
    assert await world.run() == [1, 4, 9]


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5, "2"])
async def test_a_senseless_concurrency_is_refused(world: World, concurrency: int) -> None:
    async def handler(ctx: Context) -> object:
        return await ctx.step.map("a", failing(world, 0), [1], concurrency=concurrency)  # type: ignore[arg-type]

    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    handle = await world.start()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert "concurrency must be a whole number of at least 1" in state["error"]["message"]


async def test_map_of_an_inline_run(world: World) -> None:
    @workflow("w", registry=WorkflowRegistry())
    async def inline(ctx: Context) -> list[str]:
        return await ctx.step.map("text", str, [1, 2])

    result = await run_inline(inline, step_overrides={"text[1]": "given"})
    assert (result.output, [step.name for step in result.steps]) == (["1", "given"], ["text[0]", "text[1]"])
