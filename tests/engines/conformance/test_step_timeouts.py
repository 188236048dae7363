"""timeout_ms of a step: what it ends, what it leaves behind (spec 9)."""

from __future__ import annotations

import asyncio
import builtins
import threading
import time

import pytest

from redflow import RedflowError, TimeoutError, workflow
from redflow.types import CancelSignal, WorkflowRetryPolicy
from tests.support.world import Context, World, soon

NOW = WorkflowRetryPolicy(delay=1)


async def nap() -> str:
    await asyncio.sleep(0.01)
    return "async"


async def hang(signal: CancelSignal) -> None:
    await asyncio.Event().wait()


async def test_a_step_that_takes_too_long_fails_with_our_timeout_error_and_is_retried(world: World) -> None:
    signals: list[CancelSignal] = []

    async def slow(attempt: int, signal: CancelSignal) -> str:
        signals.append(signal)
        if attempt == 1:
            await asyncio.Event().wait()
        return "done"

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        try:
            return await ctx.step.run("s", slow, ctx.run.attempt, timeout_ms=60)
        except TimeoutError as exc:
            world.did.append(str(exc))
            raise

    handle = await world.begin()
    assert await handle.result() == "done"
    assert world.did == ["Step timed out: s"]
    assert [signal.is_set() for signal in signals] == [True, False]
    first = (await world.client.get_run_attempts(handle.id))[0]
    assert first["error"]["kind"] == "timeout"
    [step] = first["steps"]
    assert (step["status"], step["error"]["message"], step["error"]["name"]) == (
        "failed",
        "Step timed out: s",
        "TimeoutError",
    )
    assert step["finished_at"] - step["started_at"] >= 60


async def test_a_builtin_timeout_error_becomes_ours(world: World) -> None:
    async def fn() -> None:
        raise builtins.TimeoutError("socket")

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.run("s", fn)
        except RedflowError as exc:
            return [type(exc) is TimeoutError, str(exc), type(exc.__cause__).__name__]
        return "no error"

    assert await world.run() == [True, "Step timed out: s", "TimeoutError"]


async def test_our_own_timeout_error_passes_as_it_is(world: World) -> None:
    async def fn() -> None:
        raise TimeoutError("mine")

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.run("s", fn)
        except TimeoutError as exc:
            return str(exc)
        return "no error"

    assert await world.run() == "mine"


async def test_a_step_within_its_time_is_untouched(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        a = await ctx.step.run("a", nap, timeout_ms=10_000)
        return [a, await ctx.step.run("b", lambda: "plain", timeout_ms=10_000)]

    assert await world.run() == ["async", "plain"]


async def test_a_plain_function_is_told_and_has_half_a_second_to_end(world: World) -> None:
    def polite(signal: CancelSignal) -> None:
        world.did.append(f"signal {signal.wait_blocking(10)} {signal.is_set()}")

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.run("s", polite, timeout_ms=50)
        except TimeoutError:
            return list(world.did)
        return "no error"

    started = time.monotonic()
    assert await world.run() == ["signal True True"], "it ended before the step did"
    assert time.monotonic() - started < 5


async def test_a_thread_that_goes_on_keeps_its_place_and_its_result_is_dropped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()

    def stubborn() -> str:
        go.wait(20)
        world.did.append("thread ends")
        return "late"

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        if ctx.input == "next":
            return await ctx.step.run("s", lambda: "next")
        try:
            await ctx.step.run("s", stubborn, timeout_ms=30)
        except TimeoutError:
            return "timed out"
        return "no error"

    worker = await world.small_worker(1)

    def exhausted() -> bool:
        return worker.exhausted

    first = await world.start()
    assert await first.result() == "timed out"
    [step] = await world.client.get_run_steps(first.id)
    assert step["status"] == "failed"
    assert exhausted()
    second = await world.start("next")
    await soon(lambda: "claims nothing more" in caplog.text, "the worker to say so")
    assert await world.status(second) == "queued"
    go.set()
    assert await second.result() == "next"
    assert not exhausted()
    assert world.did == ["thread ends"]
    [step] = await world.client.get_run_steps(first.id)
    assert step["status"] == "failed", "the late result is dropped"


async def test_a_step_that_ignores_its_cancellation_is_given_up_after_half_a_second(world: World) -> None:
    go = asyncio.Event()

    async def stubborn() -> str:
        try:
            await go.wait()
        except asyncio.CancelledError:
            world.did.append("ignored")
        await go.wait()
        raise KeyError("late")

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.run("s", stubborn, timeout_ms=30)
        except TimeoutError:
            return "timed out"
        return "no error"

    started = time.monotonic()
    assert await world.run() == "timed out"
    assert time.monotonic() - started >= 0.5
    go.set()
    assert world.did == ["ignored"]


async def test_an_error_while_a_step_unwinds_does_not_replace_the_timeout(world: World) -> None:
    async def dirty() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("while unwinding")

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.run("s", dirty, timeout_ms=30)
        except TimeoutError as exc:
            return str(exc)
        return "no error"

    assert await world.run() == "Step timed out: s"


@pytest.mark.parametrize("timeout_ms", [0, -1, True, "5", float("nan"), float("inf")])
async def test_a_timeout_that_is_none_is_refused(world: World, timeout_ms: float) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        world.did.append("attempt")
        await ctx.step.run("s", world.did.append, "never", timeout_ms=timeout_ms)

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert "timeout_ms" in state["error"]["message"]
    assert world.did == ["attempt"], "not retried"


async def test_parallel_steps_each_with_its_own_time(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        results = await asyncio.gather(
            ctx.step.run("slow", hang, timeout_ms=40),
            ctx.step.run("quick", asyncio.sleep, 0.08, "quick", timeout_ms=10_000),
            return_exceptions=True,
        )
        return [r if isinstance(r, str) else str(r) for r in results]

    assert await world.run() == ["Step timed out: slow", "quick"]
