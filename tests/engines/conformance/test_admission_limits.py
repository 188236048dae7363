"""throttle and rate_limit: so many first starts per key and window (spec 6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from redflow import OnFailureContext, RunState, define_workflow
from redflow.handle import RunHandle
from redflow.types import JsonData, WorkflowRateLimitOptions, WorkflowRetryPolicy
from tests.support.world import Context, World, eventually

ONE_KEY: Callable[[JsonData], str] = lambda _: "k"  # noqa: E731


async def echo(ctx: Context) -> JsonData:
    return ctx.input


async def state_of(handle: RunHandle[JsonData]) -> RunState:
    state = await handle.get_state()
    assert state is not None
    return state


def windows(starts: Sequence[int], period_ms: int) -> list[int]:
    """How many starts fall into each window, which its first start opens."""
    counts: list[int] = []
    opened = None
    for start in sorted(starts):
        if opened is None or start >= opened + period_ms:
            opened = start
            counts.append(0)
        counts[-1] += 1
    return counts


def throttled(world: World, limit: int, period_ms: int, *, key: Callable[[JsonData], str] = ONE_KEY) -> None:
    options = WorkflowRateLimitOptions(key, limit, period_ms)
    define_workflow("w", handler=echo, throttle=options, registry=world.registry)


def limited(world: World, limit: int, period: int | str, *, key: Callable[[JsonData], str] = ONE_KEY) -> None:
    define_workflow(
        "w",
        handler=echo,
        rate_limit=WorkflowRateLimitOptions(key, limit, period),
        registry=world.registry,
    )


# -- throttle ------------------------------------------------------------------------------------------------------


async def test_a_run_over_budget_is_scheduled_for_the_windows_end(world: World) -> None:
    throttled(world, 1, 60_000)
    await world.worker()
    first, second = await world.start(1), await world.start(2)
    assert await first.result() == 1
    await world.reaches(second, "scheduled")
    opened = (await state_of(first))["started_at"]
    state = await state_of(second)
    assert (state["attempt"], state["available_at"], "started_at" in state) == (0, opened + 60_000, False)
    assert await world.client.cancel_run(second.id)
    assert (await state_of(second))["status"] == "canceled"


async def test_at_most_limit_start_in_each_window_in_order(world: World) -> None:
    """Two workers ask for the first window at the same moment; who comes too late stands in line by creation."""
    throttled(world, 3, 500)
    await world.worker()
    await world.worker()
    handles = [await world.start(n) for n in range(11)]
    assert [await handle.result() for handle in handles] == [*range(11)]
    starts = [(await state_of(handle))["started_at"] for handle in handles]
    assert windows(starts, 500) == [3, 3, 3, 2], starts
    order = sorted(range(11), key=lambda n: starts[n])
    line = sorted(order[3:])
    assert [sorted(order[i : i + 3]) for i in range(3, 11, 3)] == [line[0:3], line[3:6], line[6:]]
    assert max(starts) - min(starts) < 3_000


async def test_available_at_follows_the_windows(world: World) -> None:
    throttled(world, 1, 400)
    await world.worker()
    handles = [await world.start(n) for n in range(4)]
    for handle in handles[:3]:
        await handle.result()
    opened = (await state_of(handles[2]))["started_at"]
    state = await state_of(handles[3])
    assert (state["status"], state["available_at"]) == ("scheduled", opened + 400)
    await handles[3].result()


async def test_windows_are_per_key_and_workflow(world: World) -> None:
    throttled(world, 1, 60_000, key=str)
    options = WorkflowRateLimitOptions(str, 1, 60_000)
    define_workflow("other", handler=echo, throttle=options, registry=world.registry)
    await world.worker()
    for name, key in (("w", "a"), ("w", "b"), ("other", "a")):
        assert await (await world.start(key, name=name)).result() == key


async def test_a_fresh_run_does_not_overtake_the_line(world: World) -> None:
    throttled(world, 1, 250)
    await world.worker()
    handles = [await world.start(n) for n in range(3)]
    await handles[1].result()
    handles.append(await world.start(3))
    starts = [(await handle.result(), (await state_of(handle))["started_at"])[1] for handle in handles]
    assert starts == sorted(starts)


async def test_nobody_polls_while_a_line_waits(world: World) -> None:
    throttled(world, 1, 60_000)
    await world.worker()
    handles = [await world.start(n) for n in range(50)]
    for handle in handles[1:]:
        await world.reaches(handle, "scheduled")
    before = int((await world.redis.info("stats"))["total_commands_processed"])
    await asyncio.sleep(0.3)
    spent = int((await world.redis.info("stats"))["total_commands_processed"]) - before
    assert spent < 60, f"{spent} commands in 0.3 s"


async def test_throttled_runs_hold_up_nobody(world: World) -> None:
    throttled(world, 1, 60_000)
    define_workflow("b", handler=echo, registry=world.registry)
    await world.small_worker(1)
    for n in range(20):
        await world.start(n)
    for n in range(10):
        assert await (await world.start(n, name="b")).result() == n


async def test_budget_is_paid_once(world: World) -> None:
    tries: list[int] = []

    async def handler(ctx: Context) -> JsonData:
        tries.append(ctx.run.attempt)
        if ctx.run.attempt == 1:
            raise RuntimeError("once more")
        await ctx.step.wait_for("nap", 50)
        return "done"

    options = WorkflowRateLimitOptions(lambda _: "k", 1, 60_000)
    define_workflow(
        "w",
        handler=handler,
        throttle=options,
        rate_limit=options,
        retries=WorkflowRetryPolicy(delay=20),
        registry=world.registry,
    )
    await world.worker()
    assert await (await world.start()).result() == "done"
    assert tries == [1, 2, 2]


async def test_a_cancel_in_line_gives_nobodys_turn_away(world: World) -> None:
    throttled(world, 1, 1500)
    await world.worker()
    handles = [await world.start(n) for n in range(4)]
    for handle in handles[1:]:
        await world.reaches(handle, "scheduled")
    assert await world.client.cancel_run(handles[1].id)
    assert await handles[2].result() == 2
    opened = (await state_of(handles[0]))["started_at"]
    assert 1500 <= (await state_of(handles[2]))["started_at"] - opened < 2900


async def test_a_mutex_wait_spends_no_budget(world: World) -> None:
    free = asyncio.Event()

    async def handler(ctx: Context) -> JsonData:
        if ctx.input == "first":
            await free.wait()
        return ctx.input

    define_workflow("holder", handler=handler, mutex=lambda _: "m", registry=world.registry)
    define_workflow(
        "w",
        handler=handler,
        mutex=str,
        throttle=WorkflowRateLimitOptions(lambda _: "k", 1, 60_000),
        registry=world.registry,
    )
    await world.worker()
    await world.start("first", name="holder")
    blocked = await world.start("m")

    await eventually(lambda: world.mutex_line("m"), "the blocked run in line")
    assert await (await world.start("free")).result() == "free"
    free.set()
    await world.reaches(blocked, "scheduled")
    await eventually(lambda: world.mutex_owner("m"), "a free mutex", until=lambda owner: owner is None)


@pytest.mark.parametrize("what", ["throttle", "rate_limit"])
@pytest.mark.parametrize("key", [None, " ", 3])
async def test_what_is_no_key_fails_the_run(world: World, what: str, key: str) -> None:
    def no_key(_: JsonData) -> str:
        return key

    options = WorkflowRateLimitOptions(no_key, 1, 1000)
    if what == "throttle":
        define_workflow("w", handler=echo, throttle=options, registry=world.registry)
    else:
        define_workflow("w", handler=echo, rate_limit=options, registry=world.registry)
    await world.worker()
    handle = await world.start()
    assert await world.ended(handle) == "failed"
    state = await state_of(handle)
    assert (state["error"]["name"], state["attempt"]) == ("ValueError", 1)
    assert f"{what}.key" in state["error"]["message"]


# -- rate_limit ----------------------------------------------------------------------------------------------------


async def test_over_the_rate_limit_a_run_fails(world: World) -> None:
    told: list[str] = []

    def on_failure(context: OnFailureContext) -> None:
        told.append(f"{type(context.error).__name__} {context.input} {context.run.attempt}")

    define_workflow(
        "w",
        handler=echo,
        rate_limit=WorkflowRateLimitOptions(lambda _: "k", 2, "1m"),
        on_failure=on_failure,
        registry=world.registry,
    )
    await world.worker()
    handles = [await world.start(n) for n in range(3)]
    assert [await world.ended(handle) for handle in handles] == ["succeeded", "succeeded", "failed"]
    state = await state_of(handles[2])
    error = state["error"]
    assert (error["kind"], error["message"]) == ("rate_limited", "Workflow rate limit exceeded: w")
    assert 50_000 < error["retryAfterMs"] <= 60_000
    assert state["attempt"] == 1
    assert told == ["RateLimitExceededError 2 1"]


async def test_the_next_window_admits_again(world: World) -> None:
    limited(world, 1, 300)
    await world.worker()
    assert await (await world.start(1)).result() == 1
    refused = await world.start(2)
    assert await world.ended(refused) == "failed"
    left = (await state_of(refused))["error"]["retryAfterMs"]
    assert 0 < left <= 300

    async def window() -> int:
        return int(await world.redis.exists(f"{world.keys.base}rate:1:w:k"))

    await eventually(window, "the window's end", until=(0).__eq__)
    assert await (await world.start(3)).result() == 3


async def test_rate_limits_are_per_key(world: World) -> None:
    limited(world, 1, "1m", key=str)
    await world.worker()
    assert await (await world.start("a")).result() == "a"
    assert await (await world.start("b")).result() == "b"
    assert await world.ended(await world.start("a")) == "failed"


async def test_a_refused_run_gives_its_mutex_to_the_next(world: World) -> None:
    define_workflow(
        "w",
        handler=echo,
        mutex=lambda _: "m",
        rate_limit=WorkflowRateLimitOptions(lambda _: "k", 2, "1m"),
        registry=world.registry,
    )
    define_workflow("free", handler=echo, mutex=lambda _: "m", registry=world.registry)
    await world.worker()
    handles = [await world.start(n) for n in range(5)]
    last = await world.start(5, name="free")
    assert await last.result() == 5
    assert sorted([await world.ended(handle) for handle in handles]) == ["failed"] * 3 + ["succeeded"] * 2
