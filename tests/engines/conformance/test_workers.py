"""Workers: options, stop under load, handed-back runs, runs of unknown workflows (spec 6, 6.1)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from redflow import RunHandle, StartWorkerOptions, WorkflowRegistry, define_workflow, start_worker, workflow
from redflow.domain.run import stored_run_id
from redflow.engines.redis.loops.cleaner import fail_unknown
from redflow.engines.redis.runs import RunScripts
from redflow.types import JsonData
from tests.support.world import BlockingContext, Context, World, eventually, soon


async def handler(ctx: Context) -> object:
    return ctx.input


def test_the_options_of_the_contract_and_their_defaults() -> None:
    assert StartWorkerOptions(app="a") == StartWorkerOptions(
        app="a", redis=None, url=None, prefix=None, registry=None, queues=None, concurrency=1, lease_ms=5000,
        blmove_timeout_sec=1, reaper_interval_ms=500, reaper_batch_size=100, watchdog_enabled=True,
        watchdog_interval_ms=1000, watchdog_stalled_for_ms=15000, run_history_cleanup_interval_ms=60000,
        registry_recovery_interval_ms=5000, grace_ms=1000, loop_stall_limit_ms=60000,
    )  # fmt: skip


@pytest.mark.parametrize("app", ["", "  ", None])
async def test_a_blank_app_is_refused(world: World, app: str) -> None:
    with pytest.raises(ValueError, match=r"start_worker requires a non-empty options\.app"):
        await start_worker(replace(world.options(), app=app))


async def test_options_out_of_range_are_moved_into_it(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    odd = replace(
        world.options(), concurrency=0, lease_ms=1, blmove_timeout_sec=-1, reaper_interval_ms=0, reaper_batch_size=-5,
        watchdog_interval_ms=0, watchdog_stalled_for_ms=0, run_history_cleanup_interval_ms=0,
        registry_recovery_interval_ms=0, grace_ms=-1, loop_stall_limit_ms=-1,
    )  # fmt: skip
    nonsense = replace(world.options(), concurrency=True, lease_ms=float("nan"), blmove_timeout_sec="x")  # type: ignore[arg-type]
    for options, lease_ms in ((odd, 100), (nonsense, 5000)):
        worker = await world.worker(options)
        assert (worker._concurrency, worker._lease_ms) == (1, lease_ms)
        assert await (await world.start(1)).result() == 1
        await worker.stop()


async def test_a_registry_error_surfaces_at_start_and_leaves_nothing_running(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    before = len(asyncio.all_tasks())
    with pytest.raises(ValueError, match="live app 'app'"):
        await start_worker(replace(world.options(), app="another"))
    assert len(asyncio.all_tasks()) == before
    meta = await world.client.get_workflow_meta("w")
    assert meta is not None
    assert meta["app"] == "app"


async def test_an_empty_registry_is_used_and_not_replaced_by_the_default(world: World) -> None:
    worker = await world.worker(replace(world.options(), registry=WorkflowRegistry()))
    assert worker.queues == []
    assert await world.client.list_workflows() == []


async def test_stop_returns_quickly_when_idle_and_twice_is_fine(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    worker = await world.worker()
    started = time.monotonic()
    await asyncio.gather(worker.stop(), worker.stop())
    await worker.stop()
    assert time.monotonic() - started < 1


async def test_stop_interrupts_and_hands_back_to_the_front_of_the_line(world: World) -> None:
    started = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.run("first", world.did.append, f"{ctx.input} first")
        if ctx.input == "a" and not started.is_set():
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                world.did.append(f"interrupted signal={ctx.signal.is_set()}")
        world.did.append(f"{ctx.input} ends")
        return ctx.run.attempt

    first = await world.small_worker(1)
    a = await world.start("a")
    await started.wait()
    b = await world.start("b")
    began = time.monotonic()
    await first.stop()
    assert time.monotonic() - began < 1
    state = await a.get_state()
    assert state is not None
    assert (state["status"], state["attempt"]) == ("running", 1), "handed back: same attempt"
    assert await world.client.get_run_attempts(a.id) == []
    await world.small_worker(1)
    assert await a.result() == 1
    assert await b.result() == 1
    assert world.did == ["a first", "interrupted signal=True", "a ends", "b first", "b ends"]
    assert time.monotonic() - began < 3, "without waiting for the lease of 5 s"


async def test_stop_under_load_loses_nothing_and_runs_no_finished_step_again(world: World) -> None:
    """Workers come and go while runs with steps, sleeps and retries pass through."""

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        for n in range(4):
            await ctx.step.run(f"s{n}", work, ctx.input, n)
        await ctx.step.wait_for("nap", 20)
        await ctx.step.run("last", work, ctx.input, "last")
        return [ctx.run.attempt, ctx.input]

    @workflow("plain", registry=world.registry)
    def plain(ctx: BlockingContext) -> object:
        for n in range(3):
            ctx.step.run(f"s{n}", work, ctx.input, n)
        return [ctx.run.attempt, ctx.input]

    async def work(run: int, n: object) -> None:
        await asyncio.sleep(0.004)
        world.did.append(f"{run}.{n}")

    async def feed() -> None:
        for n in range(400):
            handles.append(await world.start(n, name="plain" if n % 4 == 0 else "w"))
            await soon(lambda n=n: len(world.did) >= 3 * (n - 20), "progress")  # type: ignore[misc]

    handles: list[RunHandle[JsonData]] = []
    workers = [await world.small_worker(5), await world.small_worker(5)]
    feeding = asyncio.ensure_future(feed())
    stops = 0
    while not feeding.done():
        done = len(world.did)
        await soon(lambda done=done: len(world.did) >= done + 40 or feeding.done(), "progress")  # type: ignore[misc]
        workers.append(await world.small_worker(5))
        await workers.pop(0).stop()
        stops += 1
    await feeding
    assert stops >= 3, "less than that is no coming and going"
    assert [await handle.result() for handle in handles] == [[1, n] for n in range(400)]
    # A body may have been cut off after its note and before its record: at most once for each stop and slot.
    again = len(world.did) - len(set(world.did))
    assert again <= stops * 5
    assert len(set(world.did)) == 300 * 5 + 100 * 3


async def test_stubborn_handlers_are_abandoned_and_their_runs_handed_back(world: World) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        if started.is_set():
            return "second worker"
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "first worker"

    first = await world.worker(replace(world.options(), grace_ms=200))
    handle = await world.start()
    await started.wait()
    began = time.monotonic()
    await first.stop()
    assert time.monotonic() - began < 2
    await world.worker()
    assert await handle.result() == "second worker"
    release.set()


async def test_stop_with_drain_lets_handlers_finish(world: World) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        started.set()
        await release.wait()
        return "finished"

    worker = await world.worker(replace(world.options(), grace_ms=10_000))
    handle = await world.start()
    await started.wait()
    other = await world.start()
    await world.reaches(other, "running")
    stopping = asyncio.ensure_future(worker.stop(drain=True))
    release.set()
    await stopping
    assert [await world.status(handle), await world.status(other)] == ["succeeded", "succeeded"]


async def test_stop_waits_for_outcomes_that_are_on_their_way(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No task of the run lives any more; its slot is held until Redis has confirmed the outcome."""
    sent, answer = asyncio.Event(), asyncio.Event()
    settle = RunScripts.settle

    async def late(scripts: RunScripts, *args: Any, **kwargs: Any) -> Any:
        reply = settle(scripts, *args, **kwargs)
        sent.set()
        await answer.wait()
        return await reply

    monkeypatch.setattr(RunScripts, "settle", late)
    define_workflow("w", handler=handler, registry=world.registry)
    worker = await world.worker(replace(world.options(), grace_ms=10_000))
    handle = await world.start("in")
    await sent.wait()
    [held] = worker._executor.held.values()
    await soon(lambda: held.attempt.task is None or held.attempt.task.done(), "the end of the run's task")
    stopping = asyncio.ensure_future(worker.stop())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not stopping.done()
    answer.set()
    await stopping
    assert not worker._executor.held
    assert await world.status(handle) == "succeeded"
    assert "abandoned" not in caplog.text


async def test_a_run_of_an_unknown_workflow_goes_to_a_worker_that_knows_it(world: World) -> None:
    old, new = WorkflowRegistry(), WorkflowRegistry()
    define_workflow("old", handler=handler, registry=old)
    define_workflow("old", handler=handler, registry=new)
    define_workflow("new", handler=handler, registry=new)
    await world.worker(replace(world.options(), registry=old))
    await world.client.sync_registry(new, app="app")
    handles = [await world.start(n, name="new") for n in range(3)]
    assert await world.run("x", name="old") == "x", "the strange runs don't block the queue"
    assert [await world.status(handle) for handle in handles] == ["queued"] * 3
    await world.worker(replace(world.options(), registry=new))
    assert [await handle.result() for handle in handles] == [0, 1, 2]
    state = await handles[0].get_state()
    assert state is not None
    assert state["attempt"] == 1


async def test_a_run_that_nobody_knows_fails_only_after_ten_minutes(world: World) -> None:
    known, gone = WorkflowRegistry(), WorkflowRegistry()
    define_workflow("known", handler=handler, registry=known)
    define_workflow("gone", handler=handler, registry=gone)
    await world.client.sync_registry(gone, app="app")
    handle = await world.start(name="gone")
    worker = await world.worker(replace(world.options(), registry=known))
    strays = world.keys.strays

    async def stray_lines() -> int:
        return int(await world.redis.zcard(strays))

    await eventually(stray_lines, "the run to be set aside")
    scripts = RunScripts(worker.client.connection, world.keys, 60_000)
    await world.client.sync_registry(WorkflowRegistry(), app="app")  # its definition is not registered any more
    assert await fail_unknown(scripts, 600_000) == 0
    assert await world.status(handle) == "queued"
    later = RunScripts(worker.client.connection, world.keys, 60_000, now=int(time.time() * 1000) + 700_000)
    assert await fail_unknown(later, 600_000) == 1
    state = await handle.get_state()
    assert state is not None
    assert (state["status"], state["attempt"]) == ("failed", 1)
    assert (state["error"]["kind"], state["error"]["message"]) == ("unknown_workflow", "Unknown workflow: gone")
    [attempt] = await world.client.get_run_attempts(handle.id)
    assert attempt["status"] == "failed"


async def test_a_registry_that_loses_a_workflow_while_the_worker_lives(world: World) -> None:
    """The worker told Redis that it knows `w`: a run it can't execute must neither be lost nor hold a slot."""
    define_workflow("w", handler=handler, registry=world.registry)
    define_workflow("other", handler=handler, registry=world.registry)
    await world.worker(replace(world.options(), concurrency=1, registry_recovery_interval_ms=250))
    definitions = world.registry.list()
    world.registry.clear()
    define_workflow("other", handler=handler, registry=world.registry)
    handle = await world.start("x")
    assert await world.run("y", name="other") == "y"
    for definition in definitions:
        world.registry.register(definition)
    assert await handle.result() == "x"


async def test_a_workflow_added_while_the_worker_lives_is_registered(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker(replace(world.options(), registry_recovery_interval_ms=250))
    define_workflow("late", handler=handler, registry=world.registry)
    await eventually(world.client.list_workflows, "registration", until=lambda names: "late" in names)
    assert await world.run("x", name="late") == "x"


async def test_lost_metadata_is_written_again(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker(replace(world.options(), registry_recovery_interval_ms=250))
    await world.client.reset_state()
    await eventually(world.client.list_workflows, "registration", until=lambda names: names == ["w"])
    assert await world.run(1) == 1


async def test_a_reset_under_load_leaves_a_worker_that_works(world: World) -> None:
    started = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        if ctx.input == "hang":
            started.set()
            await ctx.step.run("s", asyncio.sleep, 0.05)
            await ctx.step.run("t", world.did.append, "after the reset")
        return ctx.input

    await world.worker(replace(world.options(), lease_ms=300))
    lost = await world.start("hang")
    await started.wait()
    await world.client.reset_runs()
    assert await world.run("fine") == "fine"
    assert await lost.get_state() is None
    assert world.did == []


async def test_a_finished_run_that_reappears_in_a_queue_is_dropped(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        world.did.append(str(ctx.input))
        return ctx.input

    handle = await world.begin("once")
    assert await handle.result() == "once"
    before = await handle.get_state()
    await world.redis.zadd(f"{world.keys.base}ready:app:default", {stored_run_id(handle.id) or "": 0})
    await world.redis.zadd(f"{world.keys.base}due", {stored_run_id(handle.id) or "": 0})
    assert await world.run("next") == "next"
    assert world.did == ["once", "next"]
    assert await handle.get_state() == before


async def test_the_watchdog_restarts_a_claimer_that_fell_asleep(world: World, caplog: pytest.LogCaptureFixture) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    worker = await world.worker(replace(world.options(), watchdog_interval_ms=250, watchdog_stalled_for_ms=500))
    worker._loops["claimer"].cancel()
    assert await world.run("awake") == "awake"
    assert "restarting its claimer" in caplog.text
