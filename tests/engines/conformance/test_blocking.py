"""Handlers that are plain functions: the same steps, blocking their thread (spec 6.1, 9)."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from redflow import CanceledError, TimeoutError, workflow
from redflow.types import CancelSignal, WorkflowRetryPolicy
from tests.support.world import BlockingContext, World, soon

NOW = WorkflowRetryPolicy(delay=1)


async def double(n: int) -> int:
    return 2 * n


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_steps_of_both_sorts_even_with_one_slot(world: World, concurrency: int) -> None:
    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        assert threading.current_thread() is not threading.main_thread()
        a = ctx.step.run("async", double, ctx.input)
        b = ctx.step.run("plain", lambda n: n + 1, a)
        return ctx.step.run("signal", lambda n, signal: [n, type(signal).__name__], b)

    await world.small_worker(concurrency)
    handles = [await world.start(n) for n in range(6)]
    assert [await h.result() for h in handles] == [[2 * n + 1, "CancelSignal"] for n in range(6)]


async def test_retries_replay_by_name(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    def w(ctx: BlockingContext) -> object:
        value = ctx.step.run("s", world.did.append, "once")
        if ctx.run.attempt < 3:
            raise ValueError("again")
        return [value, ctx.run.attempt]

    assert await world.run() == [None, 3]
    assert world.did == ["once"]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_wait_frees_slot_and_thread(world: World, concurrency: int, caplog: pytest.LogCaptureFixture) -> None:
    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        try:
            world.did.append("pass")
            ctx.step.wait_for("nap", 300)
        except Exception as exc:
            world.did.append(f"caught {exc!r}")
        finally:
            world.did.append(f"finally {ctx.suspending}")
        return "rested"

    @workflow("quick", registry=world.registry)
    def quick(ctx: BlockingContext) -> object:
        return ctx.step.run("s", lambda: "quick")

    worker = await world.small_worker(concurrency)
    handle = await world.start()
    await world.reaches(handle, "scheduled")
    started = time.monotonic()
    assert await (await world.start(name="quick")).result() == "quick"
    assert time.monotonic() - started < 0.9, "the slow check must not be what finds the free slot"
    assert await handle.result() == "rested"
    assert world.did == ["pass", "finally True", "pass", "finally False"]
    assert "hang" not in caplog.text
    assert not worker.exhausted


async def test_wait_timeouts_and_step_errors_reach_the_handler(world: World) -> None:
    def fails() -> None:
        raise KeyError("inside")

    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        seen = []
        try:
            ctx.step.run("s", fails)
        except KeyError as exc:
            seen.append(exc.args[0])
        try:
            ctx.step.wait_for("nap", "1h", timeout_ms=50)
        except TimeoutError as exc:
            seen.append(str(exc))
        return seen

    assert await world.run() == ["inside", "Step timed out: nap"]


async def test_cancel_sets_the_signal_for_the_thread(world: World) -> None:
    started = threading.Event()

    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        started.set()
        world.did.append(f"signal {ctx.signal.wait_blocking(10)}")
        with pytest.raises(CanceledError):
            ctx.step.run("s", world.did.append, "never")
        return "too late"

    handle = await world.begin()
    await soon(started.is_set, "the handler's start")
    assert await world.client.cancel_run(handle.id)
    with pytest.raises(CanceledError):
        await handle.result()
    await soon(lambda: bool(world.did), "the thread's end")
    assert world.did == ["signal True"]
    assert await world.status(handle) == "canceled"


async def test_cancel_interrupts_a_step_the_thread_waits_for(world: World) -> None:
    started = threading.Event()

    async def hang(signal: CancelSignal) -> None:
        started.set()
        await asyncio.Event().wait()

    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        try:
            ctx.step.run("s", hang)
        except BaseException as exc:
            world.did.append(type(exc).__name__)
            raise
        return "no error"

    handle = await world.begin()
    await soon(started.is_set, "the step's start")
    assert await world.client.cancel_run(handle.id)
    assert await world.ended(handle) == "canceled"
    await soon(lambda: bool(world.did), "the thread's end")
    assert world.did == ["CanceledError"]
    [step] = await world.client.get_run_steps(handle.id)
    assert (step["status"], step["error"]["kind"]) == ("canceled", "canceled")


async def test_stop_hands_a_blocking_run_back(world: World) -> None:
    started = threading.Event()

    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        ctx.step.run("first", world.did.append, "first")
        if not started.is_set():
            started.set()
            ctx.signal.wait_blocking(10)
            ctx.step.run("never", world.did.append, "never")
        return ctx.run.attempt

    worker = await world.worker()
    handle = await world.start()
    await soon(started.is_set, "the handler's start")
    await worker.stop()
    await world.worker()
    assert await handle.result() == 1
    assert world.did == ["first"]


async def test_steps_called_from_threads_of_the_handlers_own(world: World) -> None:
    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda n: ctx.step.run(f"s{n}", double, n), range(8)))

    assert await world.run() == [2 * n for n in range(8)]


async def test_a_step_inside_a_step_of_a_thread_is_refused(world: World) -> None:
    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        return ctx.step.run("outer", lambda: ctx.step.run("inner", lambda: 1))

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert "'inner'" in state["error"]["message"]
    assert "'outer'" in state["error"]["message"]


async def test_a_handler_that_exits_fails_its_run_only(world: World) -> None:
    @workflow("w", registry=world.registry, max_attempts=1)
    def w(ctx: BlockingContext) -> object:
        if ctx.input == "fine":
            return "fine"
        raise SystemExit(3)

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    assert await world.run("fine") == "fine"
