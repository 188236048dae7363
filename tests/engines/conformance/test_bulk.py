"""emit_workflows: many runs in one trip, each with a result of its own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from redflow import RunHandle, WorkflowCall, define_workflow
from redflow.errors import LimitExceededError, RedflowError, UnknownWorkflowError
from redflow.types import JsonData, WorkflowDebounceOptions
from tests.support.world import Context, World


async def handler(ctx: Context) -> object:
    return ctx.input


@pytest.fixture
async def served(world: World) -> World:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    return world


async def test_all_of_a_thousand_runs_run_once_with_their_inputs(served: World) -> None:
    results = await served.client.emit_workflows([WorkflowCall("w", number) for number in range(1_000)])
    handles = [result for result in results if isinstance(result, RunHandle)]
    assert len({handle.id for handle in handles}) == 1_000
    outputs = await asyncio.gather(*[handle.result(timeout_ms=60_000) for handle in handles])
    assert outputs == list(range(1_000)), "in the order of the calls"


async def test_what_cannot_be_started_takes_no_other_down(served: World) -> None:
    bad_input, unknown, fine, blank_key = await served.client.emit_workflows(
        [
            WorkflowCall("w", {"a": float("nan")}),
            WorkflowCall("ww", 1),
            WorkflowCall("w", 2),
            WorkflowCall("w", 3, idempotency_key=" "),
        ]
    )
    assert isinstance(bad_input, ValueError)
    assert "$.a" in str(bad_input)
    assert isinstance(unknown, UnknownWorkflowError)
    assert unknown.near_names == ("w",)
    assert isinstance(blank_key, ValueError)
    assert isinstance(fine, RunHandle)
    assert await fine.result() == 2


async def test_every_field_of_a_call_counts(served: World) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    call = WorkflowCall("w", 1, idempotency_key="k", idempotency_ttl=60, run_at=later, parent_run_id="run_p")
    first, second = await served.client.emit_workflows([call, call])
    assert isinstance(first, RunHandle)
    assert first == second, "one run for one key, within one trip too"
    state = await first.get_state()
    assert state is not None
    assert (state["status"], state["parent_run_id"]) == ("scheduled", "run_p")
    assert state["available_at"] == int(later.timestamp() * 1000)
    await served.client.cancel_run(first.id)


async def test_debounced_runs_are_merged_as_ever(served: World) -> None:
    debounce = WorkflowDebounceOptions(key=lambda _: "k", period="1h")
    define_workflow("d", handler=handler, debounce=debounce, registry=served.registry)
    await served.client.sync_registry(served.registry, app="app")
    results = await served.client.emit_workflows([WorkflowCall("d", 1), WorkflowCall("w", 2), WorkflowCall("d", 3)])
    first, other, second = [result.id if isinstance(result, RunHandle) else result for result in results]
    assert first == second
    assert first != other
    assert await served.client.cancel_run(str(first))


async def test_limits_are_judged_before_anything_is_started(served: World) -> None:
    too_many = [WorkflowCall("w")] * 1_001
    with pytest.raises(LimitExceededError, match="at most 1000 runs may be started at once, got 1001"):
        await served.client.emit_workflows(too_many)
    wrong: list[JsonData] = [WorkflowCall("w"), ("w", 1)]
    with pytest.raises(TypeError, match=r"calls\[1\] must be a WorkflowCall, got tuple"):
        await served.client.emit_workflows(wrong)
    assert (await served.client.get_stats())["total"] == 0
    assert await served.client.emit_workflows([]) == []


async def test_a_server_that_refuses_is_told_for_each_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise RedflowError("no room")

    await world.client.sync_registry(world.registry, app="app")
    monkeypatch.setattr("redflow.engines.redis.runs.RunScripts.create", refuse)
    results = await world.client.emit_workflows([WorkflowCall("w"), WorkflowCall("w")])
    assert [str(result) for result in results] == ["no room", "no room"]
