"""Repairing runs: retry from the failed step, run again, bulk jobs; counts, failure groups, history, export."""

from __future__ import annotations

import asyncio
import json

import pytest

from redflow import define_workflow
from redflow.errors import LimitExceededError, NotFoundError, NotSupportedError, RedflowError, RunStateError
from redflow.types import (
    ExportedRun,
    ListRunsParams,
    RunStatus,
    SearchRunsParams,
    WorkflowRetryPolicy,
)
from tests.support.world import Context, World, eventually

NOBODY = "run_00000000-0000-7000-8000-000000000000"
LONG = "x" * 300


def broken_workflow(world: World, name: str = "w", *, max_attempts: int = 2) -> dict[str, bool]:
    """A workflow of three steps; the second fails as long as the returned switch says so."""
    broken = {"on": True}

    async def handler(ctx: Context) -> object:
        async def one() -> str:
            world.did.append("one")
            return LONG

        async def two() -> str:
            world.did.append(f"two {ctx.run.attempt}")
            if broken["on"]:
                raise KeyError("no such card")
            return "paid"

        first = await ctx.step.run("one", one)
        return [len(first), await ctx.step.run("two", two), ctx.input]

    retries = WorkflowRetryPolicy(delay=0)
    define_workflow(name, handler=handler, registry=world.registry, max_attempts=max_attempts, retries=retries)
    return broken


async def failed(world: World, input: object = None, *, name: str = "w") -> str:
    handle = await world.begin(input, name=name)
    with pytest.raises(RedflowError):
        await handle.result(timeout_ms=15_000)
    return handle.id


# -- retry -------------------------------------------------------------------------------------------------------------


async def test_a_retry_goes_on_at_the_failed_step_with_a_new_budget(world: World) -> None:
    broken = broken_workflow(world)
    run_id = await failed(world, {"order": 17})
    assert world.did == ["one", "two 1", "two 2"]
    again = await world.client.operate.retry_run(run_id)
    assert again.id == run_id
    with pytest.raises(RedflowError, match="no such card"):
        await again.result(timeout_ms=15_000)
    assert world.did == ["one", "two 1", "two 2", "two 3", "two 4"]
    state = await world.client.get_run(run_id)
    assert state is not None
    assert (state["status"], state["attempt"], state["max_attempts"]) == ("failed", 4, 4)
    broken["on"] = False
    assert await (await world.client.operate.retry_run(run_id)).result(timeout_ms=15_000) == [
        300,
        "paid",
        {"order": 17},
    ]
    state = await world.client.get_run(run_id)
    assert state is not None
    assert "error" not in state
    assert (state["attempt"], state["max_attempts"]) == (5, 6)
    traces = await world.client.get_run_attempts(run_id)
    assert [(trace["attempt"], trace["status"]) for trace in traces] == [
        *[(number, "failed") for number in (1, 2, 3, 4)],
        (5, "succeeded"),
    ]
    assert [step["name"] for step in traces[1]["steps"]] == ["two"]
    assert traces[1]["error"]["name"] == "KeyError"
    steps = await world.client.get_run_steps(run_id)
    assert [(step["name"], step["seq"], step["status"]) for step in steps] == [
        ("one", 1, "succeeded"),
        ("two", 2, "succeeded"),
    ]


async def test_a_retried_run_is_purged_once_with_its_new_end(world: World) -> None:
    broken = broken_workflow(world, max_attempts=1)
    run_id = await failed(world)
    await world.client.operate.retry_run(run_id)
    with pytest.raises(RedflowError):
        await world.client.wait_for_result(run_id, timeout_ms=15_000)
    broken["on"] = False
    await (await world.client.operate.retry_run(run_id)).result(timeout_ms=15_000)
    state = await world.client.get_run(run_id)
    assert state is not None
    retention, end = world.client.run_history_retention_ms, state["finished_at"]
    assert await world.client.cleanup_expired_runs_now(reference_time_ms=end + retention - 1) == 0
    assert await world.client.get_run(run_id) is not None
    assert await world.client.cleanup_expired_runs_now(reference_time_ms=end + retention) == 1
    assert await world.client.get_run(run_id) is None


@pytest.mark.parametrize("size", [10, 3_000, 60_000])
async def test_payloads_of_any_size_survive_a_retry(world: World, size: int) -> None:
    switch = {"on": True}
    text = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(size))

    async def handler(ctx: Context) -> object:
        kept = await ctx.step.run("kept", lambda: text)
        if switch["on"]:
            raise ValueError(text)
        return [kept == text, ctx.input == text]

    define_workflow("w", handler=handler, registry=world.registry, max_attempts=1)
    run_id = await failed(world, text)
    switch["on"] = False
    assert await (await world.client.operate.retry_run(run_id)).result(timeout_ms=15_000) == [True, True]
    traces = await world.client.get_run_attempts(run_id)
    assert [trace["status"] for trace in traces] == ["failed", "succeeded"]
    assert traces[0]["error"]["message"][:10] == text[:10]


async def test_a_retried_parent_starts_its_failed_child_anew(world: World) -> None:
    switch = {"on": True}

    async def child(ctx: Context) -> object:
        if switch["on"]:
            raise ValueError("no")
        return "grown"

    async def handler(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", None)

    define_workflow("child", handler=child, registry=world.registry, max_attempts=1)
    define_workflow("w", handler=handler, registry=world.registry, max_attempts=1)
    run_id = await failed(world)
    first = (await world.client.get_run_steps(run_id))[0]["child_run_id"]
    switch["on"] = False
    assert await (await world.client.operate.retry_run(run_id)).result(timeout_ms=15_000) == "grown"
    assert (await world.client.get_run_steps(run_id))[0]["child_run_id"] != first


async def test_a_timed_out_run_gets_a_new_time(world: World) -> None:
    async def handler(ctx: Context) -> object:
        await ctx.step.wait_for_event("w", "never", "k", "5s" if world.did else "1d")
        return "over"

    define_workflow("w", handler=handler, registry=world.registry, timeout_ms=300)
    run_id = await failed(world)
    before = await world.client.get_run(run_id)
    assert before is not None
    assert before["error"]["kind"] == "timeout"
    await world.client.operate.retry_run(run_id)
    with pytest.raises(RedflowError, match="timed out"):
        await world.client.wait_for_result(run_id, timeout_ms=15_000)
    after = await world.client.get_run(run_id)
    assert after is not None
    assert after["timeout_at"] > before["timeout_at"]


async def test_only_failed_runs_are_retried(world: World) -> None:
    async def handler(ctx: Context) -> object:
        return 1

    define_workflow("w", handler=handler, registry=world.registry)
    handle = await world.begin()
    await handle.result()
    with pytest.raises(RunStateError, match="succeeded") as refused:
        await world.client.operate.retry_run(handle.id)
    assert refused.value.status == "succeeded"
    for unknown in (NOBODY, "x", ""):
        with pytest.raises(NotFoundError, match="there is no run"):
            await world.client.operate.retry_run(unknown)


# -- run again ---------------------------------------------------------------------------------------------------------


async def test_a_rerun_is_a_new_run_that_names_the_old_one(world: World) -> None:
    async def handler(ctx: Context) -> object:
        return ctx.input

    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    old = await world.client.run_by_name(
        "w", {"a": LONG}, idempotency_key="k", max_attempts_override=7, priority=3, run_timeout_ms=60_000
    )
    assert await old.result() == {"a": LONG}
    again = await world.client.operate.rerun(old.id)
    assert again.id != old.id
    assert await again.result() == {"a": LONG}
    other = await world.client.operate.rerun(old.id, input=None)
    assert await other.result() is None
    for handle in (again, other):
        state = await handle.get_state()
        assert state is not None
        assert (state["rerun_of"], state["max_attempts"], state["priority"]) == (old.id, 7, 3)
        assert state["timeout_at"]
        assert "parent_run_id" not in state
    assert (await world.client.run_by_name("w", 1, idempotency_key="k")).id == old.id
    with pytest.raises(NotFoundError):
        await world.client.operate.rerun(NOBODY)
    with pytest.raises(TypeError, match=r"\$"):
        await world.client.operate.rerun(old.id, input=b"no JSON")


async def test_a_rerun_of_a_waiting_run_of_an_unknown_workflow(world: World) -> None:
    old = await world.client.run_by_name("nobody", [1], queue_override="q")
    again = await world.client.operate.rerun(old.id)
    state = await again.get_state()
    assert state is not None
    assert (state["input"], state["queue"], state["status"], state["rerun_of"]) == ([1], "q", "queued", old.id)


# -- many --------------------------------------------------------------------------------------------------------------


async def test_a_bulk_cancel_with_preview_and_progress(world: World) -> None:
    gate = asyncio.Event()

    async def handler(ctx: Context) -> object:
        await gate.wait()
        return 1

    async def sleeper(ctx: Context) -> object:
        await ctx.step.wait_for("s", "1h")
        return 1

    define_workflow("w", handler=handler, registry=world.registry)
    define_workflow("s", handler=sleeper, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    await world.start(name="s")
    handles = [await world.start(n) for n in range(130)]
    await world.small_worker(3)
    await eventually(lambda: running(world), "three are running", until=lambda n: n == 3)
    job = world.client.operate.cancel_all(SearchRunsParams(workflow="w"), reason="wrong prices")
    assert await job.preview() == {"count": 130, "exact": True}
    seen = [progress async for progress in job]
    assert (seen[0]["total"], seen[0]["seen"], seen[0]["done"]) == (130, 0, False)
    assert [progress["seen"] for progress in seen] == [0, 50, 100, 130]
    assert seen[-1] == job.progress
    assert (seen[-1]["changed"], seen[-1]["skipped"], seen[-1]["done"]) == (130, 0, True)
    states = [await eventually(handle.get_state, "canceled", until=is_canceled) for handle in handles]
    assert {state["cancel_reason"] for state in states if state is not None} == {"wrong prices"}
    other = await world.client.list_runs(ListRunsParams(workflow="s"))
    assert other[0]["status"] in ("scheduled", "queued", "running")
    assert (await world.client.operate.cancel_all(SearchRunsParams(workflow="w")).run())["seen"] == 0


async def running(world: World) -> int:
    return (await world.client.get_stats())["by_status"]["running"]


def is_canceled(state: object) -> bool:
    return isinstance(state, dict) and state["status"] == "canceled"


async def test_a_bulk_retry_by_error_and_a_job_that_goes_on_at_a_cursor(world: World) -> None:
    broken = broken_workflow(world, max_attempts=1)
    ids = [await failed(world, n) for n in range(4)]

    async def other(ctx: Context) -> object:
        raise OSError("disk")

    define_workflow("o", handler=other, registry=world.registry, max_attempts=1)
    await world.client.sync_registry(world.registry, app="app")
    broken["on"] = False
    params = SearchRunsParams(error="KeyError")
    assert await world.client.operate.retry_all(params).preview() == {"count": 4, "exact": True}
    job = world.client.operate.retry_all(SearchRunsParams(error="KeyError", limit=2))
    async for progress in job:
        if progress["seen"] == 2:
            break
    assert job.progress is not None
    cursor = job.progress["cursor"]
    last = await world.client.operate.retry_all(SearchRunsParams(error="KeyError", cursor=cursor)).run()
    assert (last["seen"], last["changed"]) == (2, 2)
    for run_id in ids:
        assert (await world.client.wait_for_result(run_id))[1] == "paid"


async def test_a_job_goes_on_though_the_run_at_its_cursor_is_gone(world: World) -> None:
    for number in range(3):
        await world.client.run_by_name("nobody", number, queue_override="q")
    never = 4_000_000_000_000
    job = world.client.operate.cancel_all(SearchRunsParams(workflow="nobody", limit=1))
    seen = 0
    async for progress in job:
        assert await world.client.cleanup_expired_runs_now(reference_time_ms=never) == progress["seen"] - seen
        seen = progress["seen"]
    assert job.progress is not None
    assert (job.progress["changed"], job.progress["done"]) == (3, True)


async def test_what_a_job_refuses(world: World) -> None:
    operate = world.client.operate
    with pytest.raises(ValueError, match="retry is for runs that are failed, not running"):
        operate.retry_all(SearchRunsParams(status="running"))
    with pytest.raises(ValueError, match="cancel is for runs"):
        operate.cancel_all(SearchRunsParams(status="failed"))
    with pytest.raises(ValueError, match="reason"):
        operate.cancel_all(SearchRunsParams(), reason="a\x00b")
    with pytest.raises(LimitExceededError, match="1,000"):
        await operate.cancel_runs(["x"] * 1_001)
    with pytest.raises(LimitExceededError, match="a text"):
        await operate.retry_runs(NOBODY)


async def test_many_by_id_are_answered_in_order(world: World) -> None:
    broken_workflow(world, max_attempts=1)
    gone = await failed(world)
    waiting = await world.client.run_by_name("nobody", None, queue_override="q")
    answers = await world.client.operate.cancel_runs([waiting.id, "x", gone, NOBODY, waiting.id], reason="all")
    assert answers == ["canceled", "unknown", "finished", "unknown", "canceled"]
    assert await world.client.operate.retry_runs(["x", waiting.id, gone]) == ["unknown", "canceled", "retried"]


async def test_a_bulk_cancel_reaches_children(world: World) -> None:
    async def child(ctx: Context) -> object:
        await ctx.step.wait_for("s", "1h")
        return 1

    async def handler(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", None)

    define_workflow("child", handler=child, registry=world.registry)
    define_workflow("w", handler=handler, registry=world.registry)
    handle = await world.begin()
    children = await eventually(
        lambda: world.client.list_runs(ListRunsParams(workflow="child", status="scheduled")), "the child sleeps"
    )
    await world.client.operate.cancel_all(SearchRunsParams(workflow="w")).run()
    state = await eventually(
        lambda: world.client.get_run(children[0]["id"]), "the child is canceled", until=is_canceled
    )
    assert state is not None
    assert state["cancel_reason"] == f"parent run {handle.id} canceled"


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_counts_groups_and_history_agree_with_the_runs(world: World) -> None:
    broken_workflow(world, max_attempts=1)

    async def fine(ctx: Context) -> object:
        if ctx.input == "bad":
            raise OSError("disk full: " + LONG)
        return 1

    define_workflow("fine", handler=fine, registry=world.registry, max_attempts=1)
    ids = [await failed(world, n) for n in range(3)]
    last = await failed(world, "bad", name="fine")
    await (await world.start(name="fine")).result()
    operate = world.client.operate
    wanted: list[tuple[SearchRunsParams, int]] = [
        (SearchRunsParams(), 5),
        (SearchRunsParams(status="failed"), 4),
        (SearchRunsParams(workflow="fine"), 2),
        (SearchRunsParams(error="KeyError"), 3),
        (SearchRunsParams(queue="app:default", status="succeeded"), 1),
        (SearchRunsParams(query="DISK FULL"), 1),
        (SearchRunsParams(workflow="none"), 0),
        (SearchRunsParams(created_after=2**45), 0),
    ]
    for params, count in wanted:
        assert await operate.count_runs(params) == {"count": count, "exact": True}, params
    found = await operate.failure_groups()
    assert (found["scanned"], found["truncated"]) == (4, False)
    assert [(group["workflow"], group["error"], group["count"]) for group in found["groups"]] == [
        ("w", "KeyError", 3),
        ("fine", "OSError", 1),
    ]
    assert found["groups"][0]["last_run_id"] == ids[-1]
    assert found["groups"][1]["last_run_id"] == last
    assert len(found["groups"][1]["message"]) == 300
    assert (await operate.failure_groups(scan=1))["truncated"]
    runs = await world.client.list_runs()
    start, end = min(run["created_at"] for run in runs), max(run["created_at"] for run in runs) + 1
    parts = await operate.history(start, end, buckets=3)
    assert (parts[0]["start"], parts[-1]["end"]) == (start, end)
    for part in parts:
        for status, count in part["by_status"].items():
            assert count == recount(runs, status, part["start"], part["end"])
    for bad in ((5, 5, 1), (5, 4, 1), (0, 9, 0), (0, 9, 501)):
        with pytest.raises(ValueError, match=r"end must|buckets must"):
            await operate.history(bad[0], bad[1], buckets=bad[2])
    for scan in (0, 10_001, True):
        with pytest.raises(ValueError, match="scan"):
            await operate.failure_groups(scan=scan)


def recount(runs: object, status: RunStatus, start: int, end: int) -> int:
    assert isinstance(runs, list)
    return sum(run["status"] == status and start <= run["created_at"] < end for run in runs)


async def test_an_export_has_all_of_each_run(world: World) -> None:
    broken_workflow(world, max_attempts=1)
    ids = [await failed(world, n) for n in range(3)]
    big = await world.client.run_by_name("nobody", "é" * 60_000, queue_override="q")
    exported: list[ExportedRun] = [run async for run in world.client.operate.export_runs(SearchRunsParams(sort="asc"))]
    assert [run["id"] for run in exported] == [*ids, big.id]
    for run in exported:
        json.dumps(run)
        state = await world.client.get_run(run["id"])
        assert state is not None
        assert {key: value for key, value in run.items() if key not in ("steps", "attempts")} == state
        assert run["steps"] == await world.client.get_run_steps(run["id"])
        assert run["attempts"] == await world.client.get_run_attempts(run["id"])
    some = [run async for run in world.client.operate.export_runs(SearchRunsParams(query="no such card", workflow="w"))]
    assert len(some) == 3


async def test_an_engine_without_operators_methods_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.client.engine, "operations", None)
    with pytest.raises(NotSupportedError, match="has nothing for operators"):
        await world.client.operate.retry_run(NOBODY)
    with pytest.raises(NotSupportedError):
        world.client.operate.retry_all(SearchRunsParams())
    with pytest.raises(NotSupportedError):
        await world.client.queues.list()
