"""step.wait_for: durable sleep (spec 9)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from redflow import RedflowError, TimeoutError, workflow
from redflow.types import StepState, WorkflowRetryPolicy
from tests.support.world import Context, World, soon

NOW = WorkflowRetryPolicy(delay=1)


async def step_of(world: World, run_id: str, name: str) -> StepState:
    [step] = [step for step in await world.client.get_run_steps(run_id) if step["name"] == name]
    return step


@pytest.mark.parametrize("target", [120, 120.9, "120ms", "0.12s", "date"])
async def test_targets(world: World, target: object) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append(f"pass {ctx.run.attempt}")
        until = datetime.now(UTC) + timedelta(milliseconds=120) if target == "date" else target
        return await ctx.step.wait_for("nap", until)  # type: ignore[func-returns-value, arg-type]

    handle = await world.begin()
    assert await handle.result() is None
    assert world.did == ["pass 1", "pass 1"], "sleep and resume stay within one attempt"
    step = await step_of(world, handle.id, "nap")
    assert (step["status"], step["output"], step["attempt"]) == ("succeeded", None, 1)
    assert step["finished_at"] - step["started_at"] >= 119
    [attempt] = await world.client.get_run_attempts(handle.id)
    assert [s["name"] for s in attempt["steps"]] == ["nap"]


async def test_a_past_or_zero_target_passes_at_once(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        await ctx.step.wait_for("past", datetime.now(UTC) - timedelta(days=1))
        await ctx.step.wait_for("zero", 0)
        await ctx.step.wait_for("0s", "0s")
        return "through"

    assert await world.run() == "through"
    assert world.did == ["pass"]


@pytest.mark.parametrize("target", [True, -1, float("nan"), float("inf"), "soon", "-5s", "1h30m", None, [], "1e9d"])
async def test_a_target_that_is_none_is_an_error(world: World, target: object) -> None:
    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.wait_for("nap", target)  # type: ignore[arg-type]
        except RedflowError as exc:
            return str(exc)
        return "no error"

    assert "nap" in await world.run()


async def test_the_due_time_is_fixed_at_the_first_execution(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append("pass")
        await ctx.step.wait_for("nap", 150 if len(world.did) == 1 else "1h")

    started = time.monotonic()
    await world.run()
    assert 0.14 < time.monotonic() - started < 10
    assert world.did == ["pass", "pass"]


async def test_the_due_time_is_kept_over_a_retry(world: World) -> None:
    """A sibling fails the attempt while the run waits: the wait goes on from its first start."""
    dues: list[int] = []

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=100, max_attempts=2))
    async def w(ctx: Context) -> None:
        async def sibling() -> None:
            if ctx.run.attempt == 1:
                await asyncio.sleep(0.1)
                raise ValueError("again")

        await asyncio.gather(ctx.step.wait_for("nap", 600), ctx.step.run("sibling", sibling))

    handle = await world.begin()
    await handle.result()
    first, second = await world.client.get_run_attempts(handle.id)
    naps = [step for attempt in (first, second) for step in attempt["steps"] if step["name"] == "nap"]
    assert [nap["status"] for nap in naps] == ["canceled", "succeeded"]
    assert [nap["seq"] for nap in naps] == [1, 1]
    due = naps[0]["started_at"] + 600
    assert due <= naps[1]["finished_at"] < due + 90, "600 ms after the first start, not after the second"
    assert dues == []


async def test_timeout_ms_shorter_than_the_wait_fails_it_retryably(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        world.did.append(f"pass {ctx.run.attempt}")
        try:
            await ctx.step.wait_for("nap", "1h" if ctx.run.attempt == 1 else 1, timeout_ms=100)
        except TimeoutError as exc:
            world.did.append(str(exc))
            raise
        return "rested"

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    assert await handle.result() == "rested"
    assert world.did[:3] == ["pass 1", "pass 1", "Step timed out: nap"]
    [nap] = (await world.client.get_run_attempts(handle.id))[0]["steps"]
    assert (nap["status"], nap["error"]["kind"]) == ("failed", "timeout")
    assert nap["finished_at"] - nap["started_at"] >= 99


async def test_waits_that_time_out_one_after_the_other_do_so_once_in_an_attempt(world: World) -> None:
    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> list[str]:
        world.did.append("pass")
        waits = [ctx.step.wait_for(f"nap {ms}", "1h", timeout_ms=ms) for ms in (20, 120)]
        errors = await asyncio.gather(*waits, return_exceptions=True)
        await ctx.step.wait_for("rest", 20)
        return [f"{type(error).__name__}: {error}" for error in errors]

    await world.worker()
    handle = await world.start()
    assert await handle.result() == [f"TimeoutError: Step timed out: nap {ms}" for ms in (20, 120)]
    assert len(world.did) <= 4, "begin, two time-outs, the rest"


async def test_timeout_ms_longer_than_the_wait_does_nothing(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.wait_for("nap", 50, timeout_ms=60_000)
        return "rested"

    assert await world.run() == "rested"


async def test_a_sleeping_run_holds_no_slot(world: World) -> None:
    @workflow("w", registry=world.registry, max_concurrency=1)
    async def w(ctx: Context) -> object:
        if ctx.input == "sleeper":
            await ctx.step.wait_for("nap", 400)
        world.did.append(str(ctx.input))
        return ctx.input

    await world.small_worker(1)
    sleeper = await world.start("sleeper")
    await world.reaches(sleeper, "scheduled")
    assert await (await world.start("awake")).result() == "awake"
    assert await sleeper.result() == "sleeper"
    assert world.did == ["awake", "sleeper"]


async def test_steps_around_a_wait_run_once(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        await ctx.step.run("before", world.did.append, "before")
        await ctx.step.wait_for("nap", 50)
        await ctx.step.run("between", world.did.append, "between")
        await ctx.step.wait_for("nap again", 50)
        return await ctx.step.run("after", world.did.append, "after")

    await world.run()
    assert world.did == ["pass", "before", "pass", "between", "pass", "after"]


async def test_except_exception_and_finally_do_not_break_a_wait(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.wait_for("nap", 60)
        except Exception as exc:
            world.did.append(f"caught {exc!r}")
        finally:
            world.did.append(f"finally suspending={ctx.suspending} signal={ctx.signal.is_set()}")
        return "rested"

    assert await world.run() == "rested"
    assert world.did == ["finally suspending=True signal=False", "finally suspending=False signal=False"]


async def test_a_handler_that_swallows_the_cancellation_cannot_change_the_outcome(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.wait_for("nap", 60)
        except asyncio.CancelledError:
            world.did.append("swallowed")
            with pytest.raises(asyncio.CancelledError):
                await ctx.step.run("inside", world.did.append, "never")
            with pytest.raises(asyncio.CancelledError):
                await ctx.step.wait_for("another", 1)
            if ctx.input == "raise":
                raise ValueError("dropped") from None
            return "dropped"
        return "rested"

    for value in ("return", "raise"):
        handle = await world.begin(value)
        assert await handle.result() == "rested"
        assert [s["name"] for s in await world.client.get_run_steps(handle.id)] == ["nap"]
    assert world.did == ["swallowed"] * 2


async def test_a_handler_that_does_not_unwind_is_abandoned(world: World, caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        if len(world.did) > 1:
            return "second pass"
        try:
            await ctx.step.wait_for("nap", 60)
        finally:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            world.did.append("unwound")
        return "first pass"

    assert await world.run() == "second pass"
    assert "abandoned" in caplog.text
    release.set()
    await soon(lambda: "unwound" in world.did, "the handler's end")


async def test_gather_of_waits_sleeps_until_the_first_and_ends_with_the_last(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        await asyncio.gather(ctx.step.wait_for("long", 200), ctx.step.wait_for("short", 80))
        return "rested"

    handle = await world.begin()
    assert await handle.result() == "rested"
    long, short = [await step_of(world, handle.id, name) for name in ("long", "short")]
    assert long["finished_at"] - long["started_at"] >= 199
    assert 79 <= short["finished_at"] - short["started_at"] < 199
    assert world.did == ["pass"] * 3


@pytest.mark.parametrize("how", ["gather", "group", "wait", "wait_for", "shield", "nested"])
async def test_a_run_falls_asleep_once_all_it_awaits_is_a_wait(world: World, how: str) -> None:
    """With a step beside the wait: asleep as soon as the step has ended, by whatever asyncio combines them."""

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")

        async def step() -> None:
            await ctx.step.run("step", world.did.append, "step")

        async def nap() -> None:
            await ctx.step.wait_for("nap", 150)

        if how == "gather":
            await asyncio.gather(step(), nap())
        elif how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(step())
                group.create_task(nap())
        elif how == "wait":
            await asyncio.wait({asyncio.ensure_future(step()), asyncio.ensure_future(nap())})
        elif how == "wait_for":
            await step()
            await asyncio.wait_for(nap(), 60)
        elif how == "shield":
            await step()
            await asyncio.shield(nap())
        else:
            await asyncio.gather(asyncio.gather(step(), asyncio.shield(nap())), ctx.step.wait_for("second", 100))
        return "rested"

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    assert await handle.result() == "rested"
    assert world.did.count("step") == 1
    assert world.did.count("pass") >= 2


async def test_a_foreign_awaitable_keeps_the_run_awake_and_the_wait_still_ends(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        await asyncio.gather(ctx.step.wait_for("nap", 80), go.wait())
        return "both"

    handle = await world.begin()
    result = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0.15)  # the wait's time passes while the event keeps the run in its slot
    assert await world.status(handle) == "running"
    go.set()
    assert await result == "both"
    assert world.did == ["pass"]


async def test_a_run_falls_asleep_when_the_foreign_awaitable_has_ended(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append("pass")
        await asyncio.gather(ctx.step.wait_for("nap", 400), asyncio.sleep(0.05))
        return "both"

    handle = await world.begin()
    await world.reaches(handle, "running")
    await world.reaches(handle, "scheduled")
    assert await handle.result() == "both"


async def test_tasks_that_the_handler_does_not_await_are_not_looked_at(world: World) -> None:
    background: list[asyncio.Task[bool]] = []

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        background.append(asyncio.ensure_future(asyncio.Event().wait()))
        await ctx.step.wait_for("nap", 60)
        return "rested"

    handle = await world.begin()
    assert await handle.result() == "rested"
    assert len(background) == 2
    assert not any(task.done() for task in background)
    for task in background:
        task.cancel()


async def test_a_wait_survives_its_worker(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append(f"pass {ctx.run.attempt}")
        await ctx.step.wait_for("nap", 200)
        return "rested"

    first = await world.worker()
    handle = await world.start()
    await world.reaches(handle, "scheduled")
    await first.stop()
    await world.worker()
    assert await handle.result() == "rested"
    assert world.did == ["pass 1"] * 2


async def test_a_wait_never_ends_early_and_an_idle_worker_wakes_it_soon(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.wait_for("nap", 300)
        return None

    await world.worker()
    handles = [await world.start() for _ in range(5)]
    for handle in handles:
        await handle.result()
        state = await handle.get_state()
        nap = await step_of(world, handle.id, "nap")
        assert state is not None
        late = state["finished_at"] - nap["started_at"] - 300
        assert 0 <= late < 1000


async def test_many_sleepers_wake_through_one_slot(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.wait_for("nap", 100)
        return ctx.input

    await world.small_worker(1)
    handles = [await world.start(n) for n in range(30)]
    assert [await handle.result() for handle in handles] == list(range(30))


async def test_a_resumed_run_joins_the_back_of_the_line(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        if ctx.input == "sleeper":
            await ctx.step.wait_for("nap", 50)
        world.did.append(str(ctx.input))
        if ctx.input == "holder":
            await go.wait()

    await world.small_worker(1)
    sleeper = await world.start("sleeper")
    await world.reaches(sleeper, "scheduled")
    handles = [await world.start(name) for name in ("holder", "second", "third")]
    await world.reaches(sleeper, "queued")
    go.set()
    for handle in (sleeper, *handles):
        await handle.result()
    assert world.did == ["holder", "second", "third", "sleeper"]
