"""When a run sleeps and when it stays awake, and what becomes of steps that are open at the end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from redflow.definitions import WorkflowHandlerContext
from redflow.domain.outcome import Canceled, Retry, Succeeded, Suspended
from tests.support.attempts import Running, run_attempt

Context = WorkflowHandlerContext[object]


async def a_moment() -> str:
    await asyncio.sleep(0.01)
    return "done"


async def fail() -> None:
    raise LookupError("failed")


async def test_a_run_that_only_waits_sleeps() -> None:
    unwound: list[bool] = []

    async def handler(ctx: Context) -> None:
        try:
            await ctx.step.wait_for("nap", "1h")
        finally:
            unwound.append(ctx.suspending)

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Suspended)
    assert ran.outcome.due_at == int(ran.journal.steps["nap"].payload)
    assert unwound == [True]
    assert not ran.attempt.signal.is_set()


async def test_a_wait_that_is_over_is_no_sleep() -> None:
    async def handler(ctx: Context) -> str:
        await ctx.step.wait_for("nap", 0)
        return "awake"

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Succeeded)


async def test_the_run_sleeps_when_the_step_beside_the_wait_has_ended() -> None:
    async def handler(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.wait_for("nap", "1h"))
            group.create_task(ctx.step.run("work", a_moment))

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Suspended)
    assert ran.journal.statuses() == {"nap": "running", "work": "succeeded"}


async def test_a_step_that_fails_beside_a_wait_is_not_slept_over() -> None:
    async def handler(ctx: Context) -> None:
        await asyncio.gather(ctx.step.wait_for("nap", "1h"), ctx.step.run("work", fail))

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Retry)
    assert ran.journal.statuses() == {"nap": "canceled", "work": "failed"}


async def test_a_handler_that_goes_on_after_the_first_of_two_is_not_put_to_sleep() -> None:
    async def handler(ctx: Context) -> str:
        tasks = [
            asyncio.create_task(ctx.step.wait_for("nap", "1h")),
            asyncio.create_task(ctx.step.run("work", a_moment)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return "first"

    ran = await run_attempt(handler)
    assert ran.outcome == Succeeded(b'"first"')


async def test_open_steps_are_canceled_and_recorded_before_the_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    background: list[asyncio.Task[object]] = []

    async def handler(ctx: Context) -> str:
        background.append(asyncio.create_task(ctx.step.wait_for("nap", "1h")))
        background.append(asyncio.create_task(ctx.step.run("work", asyncio.Event().wait)))
        await ctx.step.run("brief", a_moment)
        return "over"

    with caplog.at_level(logging.WARNING, "redflow"):
        ran = await run_attempt(handler)
    assert ran.outcome == Succeeded(b'"over"')
    assert ran.journal.statuses() == {"nap": "canceled", "work": "canceled", "brief": "succeeded"}
    (warning,) = caplog.messages
    assert "nap, work" in warning
    assert all(task.cancelled() for task in background)


async def test_a_lock_keeps_the_run_awake() -> None:
    entered = asyncio.Event()
    lock = asyncio.Lock()

    async def locked(ctx: Context) -> None:
        entered.set()
        async with lock:
            await ctx.step.run("inside", a_moment)

    async def handler(ctx: Context) -> None:
        await asyncio.gather(ctx.step.wait_for("nap", "1h"), locked(ctx))

    await lock.acquire()
    running = Running(handler)
    await entered.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.ended

    lock.release()
    ran = await running.end()
    assert isinstance(ran.outcome, Suspended)
    assert ran.journal.statuses() == {"nap": "running", "inside": "succeeded"}


async def test_a_step_call_after_the_run_fell_asleep_calls_nothing() -> None:
    called: list[str] = []
    ended: list[BaseException] = []

    async def handler(ctx: Context) -> None:
        try:
            await ctx.step.wait_for("nap", "1h")
        except asyncio.CancelledError:
            try:
                await ctx.step.run("late", called.append, "late")
            except asyncio.CancelledError as exc:
                ended.append(exc)
            raise RuntimeError("dropped") from None

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Suspended)
    assert called == []
    assert len(ended) == 1
    assert ran.journal.statuses() == {"nap": "running"}


async def test_a_canceled_attempt_records_its_open_steps_as_canceled() -> None:
    working = asyncio.Event()

    async def work() -> None:
        working.set()
        await asyncio.Event().wait()

    async def handler(ctx: Context) -> None:
        await asyncio.gather(ctx.step.wait_for("nap", "1h"), ctx.step.run("work", work))

    running = Running(handler)
    await working.wait()
    running.attempt.interrupt("canceled")
    ran = await running.end()
    assert isinstance(ran.outcome, Canceled)
    assert ran.journal.statuses() == {"nap": "canceled", "work": "canceled"}
    assert ran.attempt.signal.is_set()


async def test_a_step_does_not_begin_once_the_lease_may_have_run_out() -> None:
    called: list[str] = []

    async def handler(ctx: Context) -> None:
        await ctx.step.run("one", called.append, "one")
        running.journal.lease_holds = False
        await ctx.step.run("two", called.append, "two")

    running = Running(handler)
    ran = await running.end()
    assert called == ["one"]
    assert ran.outcome is None
    assert ran.attempt.state == "lost"
