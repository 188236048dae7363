"""What a retry meets: waits that were left open, limits that were not paid, keys that others have taken."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Sequence

import pytest

from redflow import define_workflow
from redflow.engines.redis import operations_runs
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import Reply
from redflow.engines.redis.scripts import Script
from redflow.errors import RedflowError
from redflow.handle import RunHandle
from redflow.types import JsonData, WorkflowDebounceOptions, WorkflowRateLimitOptions
from tests.support.world import Context, World, eventually


async def timed_out(handle: RunHandle[JsonData]) -> None:
    with pytest.raises(RedflowError, match="timed out"):
        await handle.result(timeout_ms=15_000)


def waiting_workflows(world: World) -> None:
    """`parent` sleeps for its child, `child` for an event; `listener` sleeps for the same event itself."""

    async def parent(ctx: Context) -> object:
        world.did.append(f"parent {ctx.run.attempt}")
        return await ctx.step.run_workflow("child", "child", ctx.input)

    async def child(ctx: Context) -> object:
        event = await ctx.step.wait_for_event("ear", "go", "k", "1h")
        return None if event is None else event["data"]

    define_workflow("parent", handler=parent, registry=world.registry, timeout_ms=400)
    define_workflow("child", handler=child, registry=world.registry)
    define_workflow("listener", handler=child, registry=world.registry, timeout_ms=400)


async def test_a_parent_that_timed_out_gets_the_end_its_child_had_meanwhile(world: World) -> None:
    """It failed asleep, its step open; what ended while it had failed told nobody."""
    waiting_workflows(world)
    parent = await world.begin("in", name="parent")
    await timed_out(parent)
    (step,) = await world.client.get_run_steps(parent.id)
    child = world.client.make_run_handle(step["child_run_id"])
    await world.client.emit_event("go", "came", correlation_key="k")
    assert await child.result(timeout_ms=15_000) == "came"
    await world.client.operate.retry_run(parent.id)
    assert await parent.result(timeout_ms=15_000) == "came"
    assert world.did == ["parent 1", "parent 2"]
    assert len(await world.client.list_runs()) == 2


async def test_a_parent_that_timed_out_goes_on_waiting_for_its_child(world: World) -> None:
    waiting_workflows(world)
    parent = await world.begin("in", name="parent")
    await timed_out(parent)
    (before,) = await world.client.get_run_steps(parent.id)
    await world.client.operate.retry_run(parent.id)

    async def child_of_second_attempt() -> str:
        (step,) = await world.client.get_run_steps(parent.id)
        return step["child_run_id"] if step["attempt"] == 2 else ""

    assert await eventually(child_of_second_attempt, "the wait of attempt 2") == before["child_run_id"]
    await world.client.emit_event("go", "came", correlation_key="k")
    assert await parent.result(timeout_ms=15_000) == "came"


async def test_a_run_that_timed_out_gets_the_event_that_came_meanwhile(world: World) -> None:
    waiting_workflows(world)
    run = await world.begin("in", name="listener")
    await timed_out(run)
    await world.client.emit_event("go", "came", correlation_key="k")
    await world.client.operate.retry_run(run.id)
    assert await run.result(timeout_ms=15_000) == "came"


def one_key(data: object) -> str:
    return "k"


async def test_a_retry_is_no_way_around_a_rate_limit(world: World) -> None:
    async def handler(ctx: Context) -> object:
        world.did.append(str(ctx.input))
        return ctx.run.attempt

    limit = WorkflowRateLimitOptions(one_key, 1, "1h")
    define_workflow("w", handler=handler, registry=world.registry, rate_limit=limit, timeout_ms=60_000)
    assert await world.run("first") == 1
    late = await world.start("late")
    for number in (1, 2):
        with pytest.raises(RedflowError, match="RateLimitExceededError"):
            await late.result(timeout_ms=15_000)
        state = await late.get_state()
        assert state is not None
        assert state["attempt"] == number
        await world.client.operate.retry_run(late.id)
    with pytest.raises(RedflowError, match="RateLimitExceededError"):
        await late.result(timeout_ms=15_000)
    assert world.did == ["first"]
    traces = await world.client.get_run_attempts(late.id)
    assert [(trace["attempt"], trace["error"]["name"]) for trace in traces] == [
        (number, "RateLimitExceededError") for number in (1, 2, 3)
    ]


async def test_a_retried_run_that_never_began_stands_in_line_and_keeps_its_number(world: World) -> None:
    """A key that could not be made fails the run before its gates; mended, it passes them like a new one."""
    broken = {"on": True}

    def key(data: object) -> str:
        if broken["on"] and data == "late":
            raise KeyError("no key in it")
        return "k"

    async def handler(ctx: Context) -> object:
        world.did.append(f"{ctx.input} {ctx.run.attempt}")
        return ctx.run.attempt

    throttle = WorkflowRateLimitOptions(key, 1, "700ms")
    define_workflow("w", handler=handler, registry=world.registry, throttle=throttle, timeout_ms=60_000)
    late = await world.begin("late")
    with pytest.raises(RedflowError, match="no key in it"):
        await late.result(timeout_ms=15_000)
    broken["on"] = False
    first = await world.start("first")
    await first.result(timeout_ms=15_000)
    await world.client.operate.retry_run(late.id)
    await world.reaches(late, "scheduled")
    assert world.did == ["first 1"]
    assert await late.result(timeout_ms=15_000) == 2
    traces = await world.client.get_run_attempts(late.id)
    assert [(trace["attempt"], trace["status"]) for trace in traces] == [(1, "failed"), (2, "succeeded")]


async def test_a_retried_run_is_not_debounced_into_another(world: World) -> None:
    broken = {"on": True}

    def key(data: object) -> str:
        if broken["on"]:
            raise KeyError("no key in it")
        return "k"

    async def handler(ctx: Context) -> object:
        return ctx.input

    debounce = WorkflowDebounceOptions(key=key, period="60s")
    define_workflow("w", handler=handler, registry=world.registry, debounce=debounce)
    await world.worker()
    # started by name: only its worker can compute its key
    first = await world.new_client().run_by_name("w", "first")
    with pytest.raises(RedflowError, match="no key in it"):
        await first.result(timeout_ms=15_000)
    broken["on"] = False
    await world.client.operate.retry_run(first.id)
    assert await first.result(timeout_ms=15_000) == "first"


async def test_a_retry_leaves_an_idempotency_key_to_the_run_that_has_taken_it(world: World) -> None:
    broken = {"on": True}

    async def handler(ctx: Context) -> object:
        if broken["on"]:
            raise ValueError("no")
        return ctx.input

    define_workflow("w", handler=handler, registry=world.registry, max_attempts=1)
    await world.worker()
    first = await world.client.emit_workflow("w", 1, idempotency_key="k")
    with pytest.raises(RedflowError):
        await first.result(timeout_ms=15_000)
    broken["on"] = False
    second = await world.client.emit_workflow("w", 2, idempotency_key="k")
    await world.client.operate.retry_run(first.id)
    assert [await first.result(timeout_ms=15_000), await second.result(timeout_ms=15_000)] == [1, 2]
    third = await world.client.emit_workflow("w", 3, idempotency_key="k")
    assert third.id == second.id


async def test_a_large_error_of_a_failed_step_is_kept_by_the_trace(world: World) -> None:
    broken = {"on": True}
    text = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(60_000))

    async def handler(ctx: Context) -> object:
        def step() -> str:
            if broken["on"]:
                raise ValueError(text)
            return "done"

        return await ctx.step.run("step", step)

    define_workflow("w", handler=handler, registry=world.registry, max_attempts=1)
    run = await world.begin()
    with pytest.raises(RedflowError):
        await run.result(timeout_ms=15_000)
    (before,) = await world.client.get_run_attempts(run.id)
    broken["on"] = False
    await world.client.operate.retry_run(run.id)
    assert await run.result(timeout_ms=15_000) == "done"
    assert (await world.client.get_run_attempts(run.id))[0] == before


async def test_many_runs_with_large_errors_are_retried_in_small_calls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"on": True}

    async def handler(ctx: Context) -> object:
        if broken["on"]:
            raise ValueError(f"{ctx.input} " + os.urandom(30_000).hex())
        return ctx.input

    define_workflow("w", handler=handler, registry=world.registry, max_attempts=1)
    await world.worker()
    handles = [await world.start(n) for n in range(12)]
    for handle in handles:
        await world.ended(handle)
    broken["on"] = False
    monkeypatch.setattr(operations_runs, "_RETRY_BYTES", 100_000)
    sizes: list[int] = []
    call = Connection.call

    def noting(
        self: Connection,
        script: Script,
        base: str | Sequence[str],
        args: Sequence[Argument] = (),
        *,
        patience_s: float | None = None,
        at_once: bool = False,
    ) -> Awaitable[Reply]:
        if script is operations_runs.RETRY_RUNS:
            sizes.append(sum(len(part) for part in args if isinstance(part, bytes)))
        return call(self, script, base, args, patience_s=patience_s, at_once=at_once)

    monkeypatch.setattr(Connection, "call", noting)
    ids = [handle.id for handle in handles]
    assert await world.client.operate.retry_runs([*ids, ids[0]]) == ["retried"] * 13
    assert [await handle.result(timeout_ms=15_000) for handle in handles] == list(range(12))
    assert len(sizes) > 3
    assert max(sizes) < 300_000
