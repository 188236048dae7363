"""What get_run, get_run_steps, get_run_attempts, get_stats and the metadata say: exact keys (spec 2, 7)."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from redflow import NonRetriableError, RunStatus, WorkflowRegistry, define_workflow, workflow
from redflow.types import WorkflowRetryPolicy
from tests.support.world import BlockingContext, Context, World, eventually

RUN_KEYS = {"id", "workflow", "queue", "status", "input", "attempt", "max_attempts", "created_at"}
STEP_KEYS = {"name", "status", "seq", "attempt", "started_at"}
TRACE_KEYS = {"name", "seq", "status", "attempt", "started_at", "finished_at"}
ATTEMPT_KEYS = {"attempt", "status", "started_at", "finished_at", "steps"}


async def test_a_run_record_through_its_life(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry, max_attempts=2, retries=WorkflowRetryPolicy(delay=60_000))
    async def w(ctx: Context) -> object:
        await go.wait()
        raise ValueError("first")

    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start({"a": 1})
    state = await handle.get_state()
    assert state is not None
    assert (set(state), state["status"], state["attempt"]) == (RUN_KEYS, "queued", 0)
    await world.worker()
    await world.reaches(handle, "running")
    state = await handle.get_state()
    assert state is not None
    assert (set(state), state["attempt"]) == (RUN_KEYS | {"started_at"}, 1)
    assert state["started_at"] >= state["created_at"]
    go.set()
    await world.reaches(handle, "scheduled")
    state = await handle.get_state()
    assert state is not None
    assert set(state) == RUN_KEYS | {"started_at", "available_at", "error"}
    assert (state["attempt"], state["error"]["message"]) == (1, "first")
    assert await world.client.cancel_run(handle.id, reason="enough")
    state = await handle.get_state()
    assert state is not None
    assert set(state) == RUN_KEYS | {"started_at", "finished_at", "cancel_requested_at", "cancel_reason"}
    assert (state["status"], state["cancel_reason"], state["attempt"]) == ("canceled", "enough", 1)


async def test_an_error_is_removed_on_success_and_started_at_is_the_first(world: World) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        if ctx.run.attempt == 1:
            raise ValueError("first")
        return None

    handle = await world.begin()
    await handle.result()
    state = await handle.get_state()
    assert state is not None
    assert set(state) == RUN_KEYS | {"started_at", "finished_at", "output"}
    assert (state["output"], state["attempt"]) == (None, 2)
    first, second = await world.client.get_run_attempts(handle.id)
    assert state["started_at"] == first["started_at"] <= first["finished_at"] <= second["started_at"]
    assert second["finished_at"] == state["finished_at"]


async def test_a_failed_run_has_an_error_and_no_output(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        raise NonRetriableError("no")

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert set(state) == RUN_KEYS | {"started_at", "finished_at", "error"}
    assert set(state["error"]) == {"name", "message", "kind", "stack"}
    assert state["error"]["stack"].rstrip().endswith("redflow.errors.NonRetriableError: no")


async def test_step_records_and_traces_over_two_attempts(world: World) -> None:
    async def flaky(attempt: int) -> int:
        if attempt == 1:
            raise ValueError("flaky")
        return attempt

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        await ctx.step.run("one", lambda: None)
        await ctx.step.run("two", flaky, ctx.run.attempt)
        await ctx.step.wait_for("three", 1)
        return "out"

    handle = await world.begin()
    assert await handle.result() == "out"
    steps = await world.client.get_run_steps(handle.id)
    assert [(s["name"], s["status"], s["seq"], s["attempt"]) for s in steps] == [
        ("one", "succeeded", 1, 1),
        ("two", "succeeded", 2, 2),
        ("three", "succeeded", 3, 2),
    ]
    assert all(set(s) == STEP_KEYS | {"finished_at", "output"} for s in steps)
    assert [s["output"] for s in steps] == [None, 2, None]
    assert all(s["started_at"] <= s["finished_at"] for s in steps)

    first, second = await world.client.get_run_attempts(handle.id)
    assert set(first) == ATTEMPT_KEYS | {"error"}
    assert set(second) == ATTEMPT_KEYS | {"output"}
    assert (first["attempt"], first["status"], first["error"]["message"]) == (1, "failed", "flaky")
    assert (second["attempt"], second["status"], second["output"]) == (2, "succeeded", "out")
    one, failed = first["steps"]
    assert (set(one), one["output"]) == (TRACE_KEYS | {"output"}, None)
    assert (set(failed), failed["status"], failed["attempt"]) == (TRACE_KEYS | {"error"}, "failed", 1)
    assert failed["error"]["message"] == "flaky"
    assert [s["name"] for s in second["steps"]] == ["two", "three"], "a cached step is not repeated"


async def test_no_attempt_is_listed_before_it_is_finished(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        await ctx.step.wait_for("nap", "1h")

    handle = await world.begin()
    await world.reaches(handle, "scheduled")
    assert await world.client.get_run_attempts(handle.id) == []
    [step] = await world.client.get_run_steps(handle.id)
    assert set(step) == STEP_KEYS | {"wait_until_at"}
    assert (step["status"], step["wait_until_at"] - step["started_at"]) == ("running", 3_600_000)
    state = await handle.get_state()
    assert state is not None
    assert state["available_at"] == step["wait_until_at"]
    assert set(state) == RUN_KEYS | {"started_at", "available_at"}


async def test_a_step_that_lasts_is_seen_running(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        await ctx.step.run("quick", lambda: 1)
        await ctx.step.run("slow", go.wait)

    handle = await world.begin()
    steps = await eventually(
        lambda: world.client.get_run_steps(handle.id), "two steps", until=lambda steps: len(steps) == 2
    )
    assert (set(steps[1]), steps[1]["status"], steps[1]["seq"]) == (STEP_KEYS, "running", 2)
    go.set()
    await handle.result()
    steps = await world.client.get_run_steps(handle.id)
    assert [s["status"] for s in steps] == ["succeeded"] * 2


async def test_a_parallel_step_keeps_its_seq_over_attempts(world: World) -> None:
    async def work(name: str, attempt: int) -> str:
        if name == "b" and attempt == 1:
            raise ValueError("b")
        return name

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        names = ("a", "b", "c") if ctx.run.attempt == 1 else ("c", "b", "new", "a")
        results = await asyncio.gather(
            *(ctx.step.run(n, work, n, ctx.run.attempt) for n in names), return_exceptions=True
        )
        if ctx.run.attempt == 1:
            raise ValueError("again")
        return results

    handle = await world.begin()
    assert await handle.result() == ["c", "b", "new", "a"]
    steps = await world.client.get_run_steps(handle.id)
    assert [(s["name"], s["seq"], s["attempt"]) for s in steps] == [
        ("a", 1, 1),
        ("b", 2, 2),
        ("c", 3, 1),
        ("new", 4, 2),
    ]


async def test_stats_count_every_status(world: World) -> None:
    go = asyncio.Event()

    @workflow("w", registry=world.registry, max_concurrency=1)
    async def w(ctx: Context) -> object:
        if ctx.input == "wait":
            await go.wait()
        if ctx.input == "fail":
            raise NonRetriableError("no")
        return None

    await world.worker()
    for value in ("ok", "ok", "fail"):
        await world.ended(await world.start(value))
    running = await world.start("wait")
    await world.reaches(running, "running")
    in_line = await world.start("later")
    canceled = await world.start("never")
    await world.client.cancel_run(canceled.id)
    by_status: dict[RunStatus, int] = {
        "scheduled": 0,
        "queued": 1,
        "running": 1,
        "succeeded": 2,
        "failed": 1,
        "canceled": 1,
    }
    assert await world.client.get_stats() == {"total": 6, "by_status": by_status}
    go.set()
    await in_line.result()


async def test_workflow_metadata(world: World) -> None:
    class Order(BaseModel):
        id: int

    async def handler(ctx: Context) -> None: ...

    def plain(ctx: BlockingContext) -> None: ...

    define_workflow("a", handler=handler, queue="q", max_attempts=4, max_concurrency=2, registry=world.registry)
    define_workflow("b", handler=plain, input_schema=Order, registry=world.registry)
    await world.client.sync_registry(world.registry, app="shop")
    assert sorted(await world.client.list_workflows()) == ["a", "b"]
    a, b = await world.client.list_workflows_meta()
    assert a == {
        "name": "a",
        "app": "shop",
        "queue": "shop:q",
        "max_concurrency": 2,
        "max_attempts": 4,
        "updated_at": a["updated_at"],
    }
    assert await world.client.get_workflow_meta("a") == a
    assert b["input_json_schema"] == Order.model_json_schema(mode="validation")
    assert (b["queue"], b["max_concurrency"]) == ("shop:default", None)
    assert set(b) - {"max_attempts"} == {
        "name",
        "app",
        "queue",
        "max_concurrency",
        "updated_at",
        "input_json_schema",
    }
    assert await world.client.get_workflow_meta("c") is None
    await world.client.sync_registry(WorkflowRegistry(), app="shop")
    assert await world.client.list_workflows() == []
    assert await world.client.list_workflows_meta() == []


async def test_kinds_of_steps(world: World) -> None:
    """Also of those that have ended, and of nothing."""

    async def child(ctx: Context) -> None:
        return None

    async def parent(ctx: Context) -> None:
        async def nothing() -> None:
            return None

        await ctx.step.run("work", nothing)
        await ctx.step.wait_for("nap", 1)
        await ctx.step.run_workflow("kid", "child", None)
        await ctx.step.wait_for_event("news", "news", "key", "1ms")

    define_workflow("child", handler=child, registry=world.registry)
    define_workflow("parent", handler=parent, registry=world.registry)
    handle = await world.begin(name="parent")
    await handle.result()
    kinds = await world.client.get_step_kinds(handle.id)
    assert kinds == {"work": "run", "nap": "sleep", "kid": "child", "news": "event"}
    assert await world.client.get_step_kinds("run_0198c2d1-0000-7000-8000-000000000000") == {}
    assert await world.client.get_step_kinds("nothing") == {}
