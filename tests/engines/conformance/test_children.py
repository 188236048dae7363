"""step.run_workflow and step.emit_workflow (spec 9), and cancels that go down the tree (spec 10)."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from redflow import (
    CanceledError,
    InputValidationError,
    ListRunsParams,
    NonRetriableError,
    RedflowError,
    RunHandle,
    workflow,
)
from redflow.errors import TimeoutError
from redflow.types import JsonData, StepState, WorkflowRetryPolicy
from tests.support.world import Context, World, eventually, soon

Handle = RunHandle[JsonData]
FAST = WorkflowRetryPolicy(delay=10)


async def child_ids(world: World, handle: Handle) -> list[str]:
    """The children that a run's steps name, by seq."""
    return [step["child_run_id"] for step in await world.client.get_run_steps(handle.id) if "child_run_id" in step]


async def only_step(world: World, handle: Handle) -> StepState:
    [step] = await world.client.get_run_steps(handle.id)
    return step


async def test_a_child_gives_its_output_and_names_its_parent(world: World) -> None:
    @workflow("child", queue="elsewhere", registry=world.registry)
    async def child(ctx: Context) -> object:
        return {"got": ctx.input}

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", [1, (2, 3)])

    await world.worker()
    handle = await world.start()
    assert await handle.result() == {"got": [1, [2, 3]]}
    step = await only_step(world, handle)
    assert (step["status"], step["output"]) == ("succeeded", {"got": [1, [2, 3]]})
    state = await world.client.get_run(step["child_run_id"])
    assert state is not None
    assert (state["parent_run_id"], state["queue"], state["status"]) == (handle.id, "app:elsewhere", "succeeded")


async def test_a_waiting_parent_holds_no_slot_ten_levels_deep_on_one_slot(world: World) -> None:
    @workflow("w", max_concurrency=100, registry=world.registry)
    async def w(ctx: Context) -> int:
        if ctx.input == 0:
            return 0
        deeper: int = await ctx.step.run_workflow("down", "w", ctx.input - 1)
        return 1 + deeper

    await world.small_worker(1)
    handle = await world.start(10)
    assert await handle.result() == 10
    attempts = await world.client.get_run_attempts(handle.id)
    assert [attempt["attempt"] for attempt in attempts] == [1]


async def test_children_run_side_by_side_and_their_parent_sleeps(world: World) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> object:
        await gate.wait()
        return ctx.input

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await asyncio.gather(*[ctx.step.run_workflow(f"c{i}", child, i) for i in range(5)])

    await world.worker()
    handle = await world.start()
    await world.reaches(handle, "scheduled")
    state = await handle.get_state()
    assert state is not None
    assert "available_at" not in state
    assert state["attempt"] == 1
    gate.set()
    assert await handle.result() == [0, 1, 2, 3, 4]


async def test_a_definition_brings_schema_queue_and_attempts(world: World) -> None:
    class Order(BaseModel):
        number: int

    @workflow("child", queue="q2", max_attempts=7, input_schema=Order, registry=world.registry)
    async def child(ctx: Context) -> int:
        order = Order.model_validate(ctx.input)
        return order.number

    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", child, ctx.input)

    await world.worker()
    handle = await world.start({"number": "42"})
    assert await handle.result() == 42
    state = await world.client.get_run((await child_ids(world, handle))[0])
    assert state is not None
    assert (state["queue"], state["max_attempts"], state["input"]) == ("app:q2", 7, {"number": 42})
    bad = await world.start({"number": "x"})
    assert await world.ended(bad) == "failed"
    failed = await bad.get_state()
    assert failed is not None
    assert failed["error"]["kind"] == InputValidationError.kind


async def test_a_child_that_fails_fails_the_step_and_the_next_attempt_gets_another(world: World) -> None:
    @workflow("child", max_attempts=1, registry=world.registry)
    async def child(ctx: Context) -> str:
        world.did.append("child")
        if len(world.did) == 1:
            raise NonRetriableError("first")
        return "second"

    @workflow("w", retries=FAST, registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", None)

    await world.worker()
    handle = await world.start()
    assert await handle.result() == "second"
    first, second = await world.client.get_run_attempts(handle.id)
    assert (first["status"], second["status"]) == ("failed", "succeeded")
    [trace] = first["steps"]
    assert trace["status"] == "failed"
    assert trace["error"]["message"].startswith("Run failed: ")
    step = await only_step(world, handle)
    assert step["seq"] == trace["seq"]
    assert step["attempt"] == 2


async def test_children_that_fail_one_after_the_other_are_not_started_again_in_the_same_attempt(world: World) -> None:
    """Each end wakes the parent; a failed child that was replaced at every pass would wake it again, for ever."""
    gates = [asyncio.Event() for _ in range(2)]

    @workflow("child", max_attempts=1, registry=world.registry)
    async def child(ctx: Context) -> None:
        world.did.append(str(ctx.input))
        assert isinstance(ctx.input, int)
        await gates[ctx.input].wait()
        raise NonRetriableError(f"child {ctx.input}")

    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> list[list[str | None]]:
        world.did.append("pass")
        ends = [ctx.step.run_workflow(f"c{n}", "child", n) for n in range(2)]
        errors = await asyncio.gather(*ends, return_exceptions=True)
        await ctx.step.wait_for("s", 50)
        return [[type(e).__name__, str(e), getattr(e, "cause_run_id", None)] for e in errors]

    await world.worker()
    handle = await world.start()
    await soon(lambda: world.did.count("0") + world.did.count("1") == 2, "both children")
    gates[0].set()
    await soon(lambda: world.did.count("pass") >= 2, "the parent is woken")
    gates[1].set()
    errors = await handle.result()
    ids = await child_ids(world, handle)
    assert [(name, run_id) for name, _, run_id in errors] == [("RedflowError", run_id) for run_id in ids]
    assert [f'"message":"child {n}"' in text for n, (_, text, _) in enumerate(errors)] == [True, True]
    assert sorted(call for call in world.did if call != "pass") == ["0", "1"]
    [trace] = await world.client.get_run_attempts(handle.id)
    assert [step["status"] for step in trace["steps"]] == ["failed", "failed", "succeeded"]


async def test_a_caught_failure_of_a_child_stands_in_the_trace_of_its_attempt(world: World) -> None:
    @workflow("child", max_attempts=1, registry=world.registry)
    async def child(ctx: Context) -> None:
        raise NonRetriableError("no")

    @workflow("w", retries=FAST, registry=world.registry)
    async def w(ctx: Context) -> str:
        with contextlib.suppress(RedflowError):
            await ctx.step.run_workflow("c", "child", None)
        await ctx.step.wait_for("s", 20)
        if ctx.run.attempt == 1:
            raise ValueError("again")
        return "done"

    await world.worker()
    handle = await world.start()
    assert await handle.result() == "done"
    first, second = await world.client.get_run_attempts(handle.id)
    assert [(step["name"], step["status"]) for step in first["steps"]] == [("c", "failed"), ("s", "succeeded")]
    assert [(step["name"], step["status"]) for step in second["steps"]] == [("c", "failed")]
    children = await world.client.list_runs(ListRunsParams(workflow="child"))
    assert len(children) == 2, "one for each attempt"


@pytest.mark.parametrize("how", ["canceled", "timed out"])
async def test_a_child_that_was_canceled_or_timed_out_stays_so_in_its_attempt(world: World, how: str) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> None:
        world.did.append("child")
        await gate.wait()

    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> str:
        ended = ""
        try:
            await ctx.step.run_workflow("c", "child", None, timeout_ms=50 if how == "timed out" else None)
        except (CanceledError, TimeoutError) as exc:
            ended = f"{type(exc).__name__}: {exc}"
        await ctx.step.wait_for("s", 20)
        return ended

    await world.worker()
    handle = await world.start()
    [child_id] = await eventually(lambda: child_ids(world, handle), "the child")
    if how == "canceled":
        assert await world.client.cancel_run(child_id)
    wanted = (
        f"CanceledError: Child run canceled: {child_id}" if how == "canceled" else "TimeoutError: Step timed out: c"
    )
    assert await handle.result() == wanted
    assert await child_ids(world, handle) == [child_id]


async def test_the_stored_error_of_a_failed_child_names_the_child_and_holds_no_copy(world: World) -> None:
    @workflow("child", max_attempts=1, registry=world.registry)
    async def child(ctx: Context) -> None:
        raise NonRetriableError("x" * 6000)

    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", None)

    await world.worker()
    handle = await world.start()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert state["error"]["cause_run_id"] == (await child_ids(world, handle))[0]
    assert len(state["error"]["message"]) < 5000


async def test_a_canceled_child_raises_canceled_and_may_be_caught(world: World) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> None:
        await gate.wait()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        if ctx.input == "catch":
            try:
                await ctx.step.run_workflow("c", "child", None)
            except CanceledError:
                return "caught"
        return str(await ctx.step.run_workflow("c", "child", None))

    await world.worker()
    for mode, status in (("catch", "succeeded"), ("let it go", "canceled")):
        handle = await world.start(mode)
        ids = await eventually(lambda handle=handle: child_ids(world, handle), "the child")  # type: ignore[misc]
        assert await world.client.cancel_run(ids[0]) is True
        assert await world.ended(handle) == status


async def test_a_step_that_times_out_cancels_its_child(world: World) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> None:
        await gate.wait()

    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", None, timeout_ms=100)

    await world.worker()
    handle = await world.start()
    with pytest.raises(RedflowError, match="Step timed out: c"):
        await handle.result()
    child_handle = world.client.make_run_handle((await child_ids(world, handle))[0])
    assert await world.ended(child_handle) == "canceled"
    state = await child_handle.get_state()
    assert state is not None
    assert state["cancel_reason"] == f"parent run {handle.id} canceled"


async def test_emit_workflow_goes_on_and_gives_the_id(world: World) -> None:
    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> object:
        return ctx.input

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        return await ctx.step.emit_workflow("e", "child", 5)

    await world.worker()
    handle = await world.start()
    child_handle = world.client.make_run_handle(await handle.result())
    assert await child_handle.result() == 5
    step = await only_step(world, handle)
    assert "child_run_id" not in step
    assert step["output"] == child_handle.id


async def test_an_idempotency_key_finds_somebody_elses_run_and_never_cancels_it(world: World) -> None:
    gate = asyncio.Event()

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> str:
        await gate.wait()
        return "shared"

    @workflow("w", max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", None, idempotency_key="k", timeout_ms=ctx.input)

    await world.worker()
    other = await world.client.emit_workflow("child", None, idempotency_key="k")
    impatient = await world.start(50)
    assert await world.ended(impatient) == "failed"
    assert await world.status(other) == "running"
    patient = await world.start(10_000)
    await world.reaches(patient, "scheduled")
    gate.set()
    assert await patient.result() == "shared"
    late = await world.start(10_000)
    assert await late.result() == "shared"
    assert await child_ids(world, late) == [other.id]


async def test_an_unknown_child_fails_the_step_at_once(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "nobody", None)

    await world.worker()
    handle = await world.start()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["kind"], state["attempt"]) == ("unknown_workflow", 1)


async def test_a_cancel_reaches_every_descendant(world: World) -> None:
    gate = asyncio.Event()

    @workflow("leaf", registry=world.registry)
    async def leaf(ctx: Context) -> None:
        await gate.wait()

    @workflow("middle", registry=world.registry)
    async def middle(ctx: Context) -> None:
        await ctx.step.emit_workflow("later", "leaf", None, run_at=datetime.now(UTC) + timedelta(hours=1))
        await ctx.step.run_workflow("leaf", "leaf", None)

    @workflow("done", registry=world.registry)
    async def done(ctx: Context) -> str:
        return await ctx.step.emit_workflow("grandchild", "leaf", None)

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        await ctx.step.run_workflow("done", "done", None)
        await ctx.step.run_workflow("middle", "middle", None)

    await world.worker()
    handle = await world.start()

    async def all_runs() -> int:
        return (await world.client.get_stats())["total"]

    await eventually(all_runs, "the whole tree", until=(6).__eq__)
    await world.reaches(handle, "scheduled")
    assert await world.client.cancel_run(handle.id, reason="enough") is True
    for run in await world.client.list_runs():
        status = await world.ended(world.client.make_run_handle(run["id"]))
        state = await world.client.get_run(run["id"])
        assert state is not None
        assert status == ("succeeded" if run["workflow"] == "done" else "canceled")
        if status == "canceled":
            assert state.get("cancel_reason") == "enough"


async def test_a_tree_whose_cancel_was_cut_off_is_carried_on_by_a_worker(world: World) -> None:
    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> None:
        await ctx.step.wait_for("long", "1h")

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        await ctx.step.run_workflow("c", "child", None)

    options = world.options()
    options.registry_recovery_interval_ms = 250
    await world.worker(options)
    handle = await world.start()
    [child_id] = await eventually(lambda: child_ids(world, handle), "the child")
    await world.reaches(handle, "scheduled")
    # The client dies between its two calls: only the first script has run.
    engine = world.client.engine
    await engine.scripts.cancel(handle.id.removeprefix("run_").replace("-", ""), "")  # type: ignore[attr-defined]
    child_handle = world.client.make_run_handle(child_id)
    assert await world.ended(child_handle) == "canceled"
    state = await child_handle.get_state()
    assert state is not None
    assert state["cancel_reason"] == f"parent run {handle.id} canceled"


async def test_large_outputs_of_children_come_whole(world: World) -> None:
    text = "é" * 200_000

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> list[object]:
        return [ctx.input, text]

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("c", "child", ctx.input)

    await world.worker()
    handle = await world.start("y" * 100_000)
    assert await handle.result() == ["y" * 100_000, text]
    step = await only_step(world, handle)
    assert step["output"] == ["y" * 100_000, text]


async def test_a_plain_handler_starts_children_too(world: World) -> None:
    from tests.support.world import BlockingContext

    @workflow("child", registry=world.registry)
    async def child(ctx: Context) -> object:
        return ctx.input

    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        world.did.append("pass")
        return ctx.step.run_workflow("c", "child", 3)

    await world.worker()
    handle = await world.start()
    assert await handle.result() == 3
    await soon(lambda: world.did == ["pass", "pass"], "one sleep in between")
