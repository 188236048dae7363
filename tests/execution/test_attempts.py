"""What an attempt makes only when somebody asks for it: the context's `run` and `signal`; and who watches its steps."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import weakref

import pytest

from redflow.definitions import WorkflowHandlerContext
from redflow.domain.outcome import Succeeded
from redflow.types import CancelSignal, RunContext
from tests.support.attempts import Running, run_attempt
from tests.support.world import soon

Context = WorkflowHandlerContext[object]


async def a_moment() -> str:
    await asyncio.sleep(0)
    return "done"


async def test_the_context_tells_its_run_and_its_signal() -> None:
    seen: list[object] = []

    async def handler(ctx: Context) -> None:
        seen.extend((ctx.run, ctx.run, ctx.signal, ctx.signal, ctx.signal.is_set()))

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Succeeded)
    assert seen[0] is seen[1]
    assert seen[0] == RunContext("run-1", "workflow", "default", 1, 3)
    assert seen[2] is seen[3] is ran.attempt.signal
    assert seen[4] is False


async def test_the_context_can_be_copied_with_another_input() -> None:
    async def handler(ctx: Context) -> object:
        other = dataclasses.replace(ctx, input="other")
        assert (other.run, other.signal, other.step) == (ctx.run, ctx.signal, ctx.step)
        return [ctx.input, other.input, other.suspending, sorted(dataclasses.asdict(other.run))]

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Succeeded)
    assert ran.outcome.output_json == b'[null,"other",false,["attempt","id","max_attempts","queue","workflow"]]'


@pytest.mark.parametrize("looks", ["before", "after"])
async def test_a_signal_is_set_whenever_it_was_first_looked_at(looks: str) -> None:
    seen: list[bool] = []
    started = asyncio.Event()

    async def handler(ctx: Context) -> None:
        signal: CancelSignal | None = ctx.signal if looks == "before" else None
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append((signal or ctx.signal).is_set())

    running = Running(handler)
    await started.wait()
    running.attempt.interrupt("canceled")
    await running.end()
    assert seen == [True]


async def test_a_thread_may_be_the_first_to_look_at_the_signal() -> None:
    def look(ctx: Context) -> bool:
        return ctx.signal.is_set()

    async def handler(ctx: Context) -> object:
        return await ctx.step.run("look", look, ctx)

    ran = await run_attempt(handler)
    assert isinstance(ran.outcome, Succeeded)
    assert ran.outcome.output_json == b"false"


async def test_an_attempt_whose_steps_are_quick_is_let_go_at_once() -> None:
    async def handler(ctx: Context) -> None:
        await ctx.step.run("a", a_moment)
        await asyncio.gather(ctx.step.run("b", a_moment), ctx.step.run("c", a_moment))

    running = Running(handler)
    announcer = running.attempt._announcer
    await running.end()
    running.attempt.release()
    attempt = weakref.ref(running.attempt)
    del running
    gc.collect()
    assert attempt() is None, "the watch over steps that last keeps those of a tenth of a second"
    assert not announcer._watched


async def test_a_step_that_lasts_is_told_to_run_and_one_that_followed_a_quick_one_too() -> None:
    ends = asyncio.Event()

    async def lasts() -> None:
        await ends.wait()

    async def handler(ctx: Context) -> None:
        await ctx.step.run("quick", a_moment)
        await ctx.step.run("lasts", lasts)

    running = Running(handler)
    try:
        await soon(lambda: "lasts" in running.journal.steps, "the record of the step that lasts")
        assert running.journal.statuses() == {"quick": "succeeded", "lasts": "running"}
    finally:
        ends.set()
        await running.end()
    assert running.journal.statuses() == {"quick": "succeeded", "lasts": "succeeded"}
