"""cancel_run in each state of a single run (spec 10)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import pytest

from redflow import CanceledError, NonRetriableError, RunHandle, workflow
from redflow.types import CancelSignal, JsonData, WorkflowRetryPolicy
from tests.support.world import Context, World, eventually, soon

Handle = RunHandle[JsonData]


async def assert_canceled(world: World, handle: Handle, reason: str | None) -> None:
    """A canceled run: what its record and its result say, now and for good."""
    assert await world.ended(handle) == "canceled"
    state = await handle.get_state()
    assert state is not None
    assert "output" not in state
    assert "error" not in state
    assert state.get("cancel_reason") == reason
    assert state["created_at"] <= state["cancel_requested_at"] <= state["finished_at"]
    with pytest.raises(CanceledError):
        await handle.result()
    assert await world.client.cancel_run(handle.id, reason="again") is False
    assert (await handle.get_state()) == state


async def test_unknown_and_finished_runs_are_not_canceled(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        if ctx.input == "fail":
            raise NonRetriableError("no")
        return None

    await world.worker()
    assert await world.client.cancel_run("run_00000000-0000-7000-8000-000000000000") is False
    for value, status in (("ok", "succeeded"), ("fail", "failed")):
        handle = await world.start(value)
        assert await world.ended(handle) == status
        before = await handle.get_state()
        assert await world.client.cancel_run(handle.id, reason="late") is False
        assert await handle.get_state() == before


async def test_queued_and_scheduled_runs_are_canceled_at_once_and_never_start(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append(str(ctx.input))

    await world.client.sync_registry(world.registry, app="app")
    queued = await world.start("queued")
    scheduled = await world.client.emit_workflow(
        "w", "scheduled", run_at=datetime.now(UTC) + timedelta(milliseconds=100)
    )
    parked = await world.client.run_by_name("later", "parked", queue_override="q")
    for handle in (queued, scheduled, parked):
        assert await world.client.cancel_run(handle.id, reason="changed my mind")
        assert await world.status(handle) == "canceled", "immediately"
    await world.worker()
    assert await world.run("last") is None
    for handle in (queued, scheduled, parked):
        await assert_canceled(world, handle, "changed my mind")
        state = await handle.get_state()
        assert state is not None
        assert (state["attempt"], "started_at" in state) == (0, False)
    assert world.did == ["last"]


async def test_a_run_in_line_is_canceled_at_once(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry, max_concurrency=1)
    async def w(ctx: Context) -> None:
        world.did.append(str(ctx.input))
        await go.wait()

    await world.worker()
    first, second, third = [await world.start(n) for n in range(3)]
    await world.reaches(first, "running")
    assert await world.client.cancel_run(second.id)
    assert await world.status(second) == "canceled"
    go.set()
    await third.result()
    assert world.did == ["0", "2"]


async def test_asleep_and_in_retry_delay_are_canceled_at_once(world: World) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay="1h"))
    async def w(ctx: Context) -> None:
        if ctx.input == "sleep":
            await ctx.step.wait_for("nap", "1h")
        raise ValueError("again")

    await world.worker()
    for value, attempts in (("sleep", ["canceled"]), ("retry", ["failed"])):
        handle = await world.start(value)
        await world.reaches(handle, "scheduled")
        assert await world.client.cancel_run(handle.id)
        assert await world.status(handle) == "canceled"
        await assert_canceled(world, handle, None)
        traces = await world.client.get_run_attempts(handle.id)
        assert [trace["status"] for trace in traces] == attempts


async def test_a_running_run_is_interrupted_within_moments(world: World) -> None:
    started = asyncio.Event()
    noticed: list[float] = []

    async def hang(signal: CancelSignal) -> None:
        started.set()
        try:
            await signal.wait()
        finally:
            noticed.append(time.monotonic())

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        try:
            await ctx.step.run("s", hang)
        finally:
            world.did.append(f"signal={ctx.signal.is_set()} suspending={ctx.suspending}")
            with pytest.raises(CanceledError):
                await ctx.step.run("cleanup", world.did.append, "never")

    handle = await world.begin()
    await started.wait()
    asked = time.monotonic()
    assert await world.client.cancel_run(handle.id, reason="stop it") is True
    await assert_canceled(world, handle, "stop it")
    assert noticed[0] - asked < 0.5, "by notification: 100 ms are promised, the lease renewal comes after 2.5 s"
    assert world.did == ["signal=True suspending=False"]
    [step] = await world.client.get_run_steps(handle.id)
    assert (step["status"], step["error"]["kind"]) == ("canceled", "canceled")
    [attempt] = await world.client.get_run_attempts(handle.id)
    assert attempt["status"] == "canceled"
    assert [s["status"] for s in attempt["steps"]] == ["canceled"]
    assert "output" not in attempt
    assert "error" not in attempt


async def test_a_lost_notification_rides_on_the_next_renewal(world: World) -> None:
    started = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        started.set()
        await asyncio.Event().wait()

    options = world.options()
    options.lease_ms = 400
    worker = await world.worker(options)
    await worker._signals.close()  # deaf from here on
    handle = await world.start()
    await started.wait()
    assert await world.client.cancel_run(handle.id)
    await assert_canceled(world, handle, None)


@pytest.mark.parametrize("ending", ["return", "raise", "step"])
async def test_a_handler_that_ignores_the_request_still_ends_canceled(world: World, ending: str) -> None:
    started = asyncio.Event()

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        world.did.append("attempt")
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if ending == "raise":
            raise ValueError("instead")
        if ending == "step":
            await ctx.step.run("s", world.did.append, "never")
        return "instead"

    handle = await world.begin()
    await started.wait()
    assert await world.client.cancel_run(handle.id)
    await assert_canceled(world, handle, None)
    assert world.did == ["attempt"]


async def test_a_handler_that_never_ends_is_abandoned_after_half_a_second(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        world.did.append("ended")
        return "late"

    await world.small_worker(1)
    handle = await world.start()
    await started.wait()
    asked = time.monotonic()
    assert await world.client.cancel_run(handle.id)
    await assert_canceled(world, handle, None)
    assert 0.5 <= time.monotonic() - asked < 3
    assert "abandoned" in caplog.text
    release.set()
    await soon(lambda: world.did == ["ended"], "the stubborn handler's end")
    assert await world.status(handle) == "canceled"


async def test_a_cleanup_that_raises_makes_no_noise(world: World) -> None:
    """The shared fixture fails on 'exception was never retrieved'."""
    started = asyncio.Event()

    async def dirty() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("while unwinding")

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        await asyncio.gather(
            ctx.step.run("a", dirty), ctx.step.run("b", dirty, timeout_ms=60_000), ctx.step.wait_for("nap", "1h")
        )

    handle = await world.begin()
    await started.wait()
    assert await world.client.cancel_run(handle.id)
    await assert_canceled(world, handle, None)


async def test_a_retry_or_sleep_about_to_be_scheduled_becomes_canceled(world: World) -> None:
    """The request comes while the worker is deaf, just before the attempt ends by itself."""
    started, go = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay="1h"))
    async def w(ctx: Context) -> object:
        started.set()
        await go.wait()
        if ctx.input == "sleep":
            await ctx.step.wait_for("nap", "1h")
        if ctx.input == "retry":
            raise ValueError("again")
        if ctx.input == "fail":
            raise NonRetriableError("no")
        return "done"

    for value in ("sleep", "retry", "fail", "succeed"):
        started.clear()
        go.clear()
        worker = await world.worker()
        handle = await world.start(value)
        await started.wait()
        await worker._signals.close()
        assert await world.client.cancel_run(handle.id, reason=value) is True
        assert await world.status(handle) == "running"
        go.set()
        await assert_canceled(world, handle, value)
        await worker.stop()


async def test_the_first_reason_stays(world: World) -> None:
    started = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = await world.worker()
    handle = await world.start()
    await started.wait()
    await worker._signals.close()
    assert await world.client.cancel_run(handle.id, reason="first")
    first = await handle.get_state()
    await world.client.cancel_run(handle.id, reason="second")
    second = await handle.get_state()
    assert first is not None
    assert second is not None
    assert second["cancel_reason"] == "first"
    assert second["cancel_requested_at"] == first["cancel_requested_at"]


async def test_cancel_races_the_end_of_the_run(world: World) -> None:
    """Whatever comes first, one terminal state, and it agrees with what cancel_run answered."""

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=0, max_attempts=2))
    async def w(ctx: Context) -> object:
        await ctx.step.run("s", asyncio.sleep, 0)
        if ctx.run.attempt == 1:
            raise ValueError("again")
        await ctx.step.wait_for("nap", 1)
        return "done"

    await world.worker()
    outcomes = set()

    async def one(n: int, after_s: float) -> None:
        handle = await world.start(n)
        await asyncio.sleep(after_s)
        canceled = await world.client.cancel_run(handle.id)
        status = await world.ended(handle)
        outcomes.add(status)
        assert (status == "canceled") == canceled, (n, status, canceled)

    after_s = 0.0
    while "succeeded" not in outcomes or after_s < 0.02:
        await asyncio.gather(*(one(n, after_s) for n in range(8)))
        after_s = after_s * 1.2 + 0.0005
    assert outcomes == {"succeeded", "canceled"}


@pytest.mark.parametrize("reason", ["ü 'quoted' {\"a\": 1}", "x" * 255, "@"])
async def test_reasons_are_kept_as_they_are(world: World, reason: str) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None: ...

    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start()
    assert await world.client.cancel_run(handle.id, reason=reason)
    with pytest.raises(CanceledError) as caught:
        await handle.result()
    assert str(caught.value) == f"Run canceled: {reason}"


async def test_a_blank_reason_counts_as_none(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None: ...

    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start()
    assert await world.client.cancel_run(handle.id, reason="  ")
    await assert_canceled(world, handle, None)


async def test_cancel_of_a_run_whose_worker_died(world: World) -> None:
    """Running, but nobody holds it: the request is done by whoever recovers the run."""
    started = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append("pass")
        started.set()
        await asyncio.Event().wait()

    options = world.options()
    options.lease_ms = 300
    worker = await world.worker(options)
    handle = await world.start()
    await started.wait()
    worker._leases._stop.set()  # the lease is no longer renewed, and the worker hears nothing
    await worker._signals.close()
    assert await world.client.cancel_run(handle.id)
    await world.worker(options)
    await eventually(lambda: world.status(handle), "the end", until="canceled".__eq__)
    assert world.did == ["pass"]
