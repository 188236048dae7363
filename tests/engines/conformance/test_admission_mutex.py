"""mutex: one running run per key, over all workflows, queues and workers; first come, first served (spec 6.5)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from redflow import CanceledError, NonRetriableError, OnFailureContext, WorkflowDefinition, define_workflow
from redflow.handle import RunHandle
from redflow.types import JsonData, WorkflowRetryPolicy
from tests.support.world import Context, World, eventually, soon


class Section:
    """A critical section that is judged here, outside of Redis: who is in it, and what went in and out."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.entered: list[JsonData] = []
        self.overlaps = 0
        self.left_at: float | None = None
        self.hand_overs: list[float] = []
        self.open = asyncio.Event()

    async def visit(self, ctx: Context) -> JsonData:
        """Go in, stay until `open` is set, go out."""
        now = asyncio.get_running_loop().time()
        if self.left_at is not None:
            self.hand_overs.append(now - self.left_at)
        self.overlaps += len(self.inside)
        self.inside.append(ctx.run.id)
        self.entered.append(ctx.input)
        try:
            await self.open.wait()
        finally:
            self.inside.remove(ctx.run.id)
            self.left_at = asyncio.get_running_loop().time()
        return ctx.input


def guarded(
    world: World, section: Section, name: str = "w", *, queue: str = "default"
) -> WorkflowDefinition[JsonData, JsonData]:
    return define_workflow(
        name, handler=section.visit, mutex=lambda _: "k", queue=queue, registry=world.registry, max_attempts=1
    )


async def seen(handle: RunHandle[JsonData]) -> tuple[str, int]:
    state = await handle.get_state()
    assert state is not None
    return state["status"], state["attempt"]


async def in_line(world: World, count: int, key: str = "k") -> None:
    await eventually(lambda: world.mutex_line(key), f"{count} runs in line", until=count.__eq__)
    await eventually(lambda: world.mutex_blocked(key), f"{count} runs that left their slots", until=count.__eq__)


async def test_one_runs_and_the_others_wait_unstarted(world: World) -> None:
    section = Section()
    guarded(world, section)
    await world.worker()
    handles = [await world.start(n) for n in range(4)]
    await in_line(world, 3)
    assert await seen(handles[0]) == ("running", 1)
    for handle in handles[1:]:
        state = await handle.get_state()
        assert state is not None
        assert (state["status"], state["attempt"], "started_at" in state) == ("queued", 0, False)
    section.open.set()
    assert [await handle.result() for handle in handles] == [0, 1, 2, 3]
    assert section.entered == [0, 1, 2, 3]
    assert section.overlaps == 0
    assert [await seen(handle) for handle in handles] == [("succeeded", 1)] * 4


async def test_the_key_is_one_over_workflows_queues_and_workers(world: World) -> None:
    section = Section()
    guarded(world, section, "a", queue="one")
    guarded(world, section, "b", queue="two")
    one = await world.worker(replace(world.options(), queues=["one"]))
    two = await world.worker(replace(world.options(), queues=["two"]))
    assert one.queues != two.queues
    section.open.set()
    handles = [await world.start(n, name="ab"[n % 2]) for n in range(40)]
    assert [await handle.result() for handle in handles] == [*range(40)]
    assert section.overlaps == 0


async def test_other_keys_are_not_held_up(world: World) -> None:
    section = Section()

    async def handler(ctx: Context) -> JsonData:
        return await section.visit(ctx) if ctx.input == "slow" else ctx.input

    define_workflow("w", handler=handler, mutex=lambda key: str(key), registry=world.registry)
    await world.worker()
    slow = await world.start("slow")
    await soon(lambda: bool(section.inside), "the holder")
    assert await (await world.start("quick")).result() == "quick"
    section.open.set()
    await slow.result()


async def test_blocked_runs_hold_no_slot(world: World) -> None:
    section = Section()
    guarded(world, section)

    async def other(ctx: Context) -> JsonData:
        return ctx.input

    define_workflow("b", handler=other, registry=world.registry)
    await world.small_worker(2)
    blocked = [await world.start(n) for n in range(20)]
    await in_line(world, 19)
    for n in range(10):
        assert await (await world.start(n, name="b")).result() == n
    section.open.set()
    for handle in blocked:
        await handle.result()


async def test_a_run_canceled_in_line_does_not_get_its_turn(world: World) -> None:
    section = Section()
    guarded(world, section)
    await world.worker()
    handles = [await world.start(n) for n in range(3)]
    await in_line(world, 2)
    assert await world.client.cancel_run(handles[1].id)
    assert await seen(handles[1]) == ("canceled", 0)
    section.open.set()
    assert await handles[2].result() == 2
    assert section.entered == [0, 2]


async def test_a_cancel_passes_a_granted_turn_on(world: World) -> None:
    section = Section()
    guarded(world, section, "a", queue="one")
    guarded(world, section, "b", queue="two")
    here = await world.worker(replace(world.options(), queues=["one"]))
    there = await world.worker(replace(world.options(), queues=["two"]))
    holder = await world.start(0, name="a")
    await soon(lambda: bool(section.inside), "the holder")
    second = await world.start(1, name="b")
    await in_line(world, 1)
    third = await world.start(2, name="a")
    await in_line(world, 2)
    await there.stop()
    section.open.set()
    await holder.result()

    granted = second.id.removeprefix("run_").replace("-", "")
    # Over shards the hand-over follows the holder's end.
    await eventually(lambda: world.mutex_owner("k"), "the second as owner", until=granted.__eq__)
    assert await seen(second) == ("queued", 0)
    assert await world.client.cancel_run(second.id)
    assert await third.result() == 2
    assert here.queues


async def test_the_holders_cancel_frees_the_mutex(world: World) -> None:
    section = Section()
    guarded(world, section)
    await world.worker()
    first, second = await world.start(0), await world.start(1)
    await in_line(world, 1)
    await soon(lambda: section.entered == [0], "the first")  # that it was admitted does not mean that it has begun
    await world.client.cancel_run(first.id)
    await soon(lambda: section.entered == [0, 1], "the second")
    with pytest.raises(CanceledError):
        await first.result()
    section.open.set()
    assert await second.result() == 1


async def test_a_cancel_at_any_time_before_the_handler_frees_the_mutex(world: World) -> None:
    section = Section()
    section.open.set()
    guarded(world, section)
    await world.worker()
    for n in range(20):
        first = await world.start(n)
        for _ in range(n):  # now in line, now claimed, now admitted
            await asyncio.sleep(0)
        await world.client.cancel_run(first.id)
        assert await (await world.start("next")).result(timeout_ms=15_000) == "next"
        assert await world.ended(first) in ("canceled", "succeeded")
    assert section.overlaps == 0


async def test_it_is_not_held_during_a_retry_delay_or_a_sleep(world: World) -> None:
    tries: list[str] = []

    async def handler(ctx: Context) -> JsonData:
        tries.append(f"{ctx.input}{ctx.run.attempt}")
        if ctx.input == "retry" and ctx.run.attempt == 1:
            raise RuntimeError("once more")
        if ctx.input == "sleep":
            await ctx.step.wait_for("nap", 400)
        return ctx.input

    define_workflow(
        "w", handler=handler, mutex=lambda _: "k", retries=WorkflowRetryPolicy(delay=400), registry=world.registry
    )
    await world.worker()
    handles = [await world.start(kind) for kind in ("retry", "sleep", "plain")]
    assert await handles[2].result() == "plain"
    assert tries[:3] == ["retry1", "sleep1", "plain1"]
    assert [await handle.result() for handle in handles] == ["retry", "sleep", "plain"]
    assert sorted(tries) == ["plain1", "retry1", "retry2", "sleep1", "sleep1"]


async def test_a_resumed_run_that_is_blocked_keeps_its_attempt_and_steps(world: World) -> None:
    section = Section()
    steps: list[str] = []

    async def note() -> str:
        steps.append("one")
        return "kept"

    async def sleeper(ctx: Context) -> JsonData:
        kept = await ctx.step.run("one", note)
        await ctx.step.wait_for("nap", 100)
        return [kept, ctx.run.attempt]

    define_workflow("sleeper", handler=sleeper, mutex=lambda _: "k", registry=world.registry)
    guarded(world, section)
    await world.worker()
    handle = await world.start(None, name="sleeper")
    await world.reaches(handle, "scheduled")
    holder = await world.start(0)
    await in_line(world, 1)
    assert await seen(handle) == ("queued", 1)
    section.open.set()
    assert await handle.result() == ["kept", 1]
    assert steps == ["one"]
    await holder.result()


async def test_a_blocked_retry_uses_no_attempt(world: World) -> None:
    section = Section()
    attempts: list[int] = []

    async def flaky(ctx: Context) -> JsonData:
        attempts.append(ctx.run.attempt)
        if len(attempts) == 1:
            raise RuntimeError("once more")
        return ctx.run.attempt

    define_workflow(
        "flaky", handler=flaky, mutex=lambda _: "k", retries=WorkflowRetryPolicy(delay=100), registry=world.registry
    )
    guarded(world, section)
    await world.worker()
    handle = await world.start(None, name="flaky")
    await world.reaches(handle, "scheduled")
    holder = await world.start(0)
    await in_line(world, 1)
    assert await seen(handle) == ("queued", 1)
    section.open.set()
    assert await handle.result() == 2
    await holder.result()
    assert [trace["attempt"] for trace in await world.client.get_run_attempts(handle.id)] == [1, 2]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "mutex must be a string"),
        ("", "mutex must not be blank"),
        (" ", "mutex must not be blank"),
        (3, "string"),
    ],
)
async def test_what_is_no_key_fails_the_run_at_once(world: World, key: str, message: str) -> None:
    told: list[str] = []

    async def handler(ctx: Context) -> None:
        told.append("handler")

    def on_failure(context: OnFailureContext) -> None:
        told.append(str(context.error))

    define_workflow(
        "w",
        handler=handler,
        mutex=lambda _: key,
        on_failure=on_failure,
        registry=world.registry,
    )
    await world.worker()
    handle = await world.start()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["name"], state["attempt"]) == ("ValueError", 1)
    assert message in state["error"]["message"]
    assert len(told) == 1
    assert message in told[0]


async def test_a_key_function_that_raises_fails_the_run_with_that(world: World) -> None:
    async def handler(ctx: Context) -> None:
        raise AssertionError("never started")

    def mutex(data: JsonData) -> str:
        raise NonRetriableError(f"no key in {data}")

    define_workflow("w", handler=handler, mutex=mutex, registry=world.registry)
    await world.worker()
    handle = await world.start(7)
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["kind"], state["error"]["message"]) == ("non_retriable", "no key in 7")


async def test_keys_are_stripped(world: World) -> None:
    section = Section()

    async def handler(ctx: Context) -> JsonData:
        return await section.visit(ctx)

    define_workflow("w", handler=handler, mutex=lambda key: str(key), registry=world.registry)
    await world.worker()
    handles = [await world.start("k"), await world.start(" k ")]
    await in_line(world, 1)
    section.open.set()
    for handle in handles:
        await handle.result()


async def test_a_blocked_run_leaves_its_slot_of_max_concurrency(world: World) -> None:
    section = Section()

    async def handler(ctx: Context) -> JsonData:
        return await section.visit(ctx) if ctx.input == "k" else ctx.input

    define_workflow("w", handler=handler, mutex=lambda key: str(key), max_concurrency=2, registry=world.registry)
    await world.worker()
    held = [await world.start("k") for _ in range(3)]
    await in_line(world, 2)
    for n in range(5):
        assert await (await world.start(f"free{n}")).result() == f"free{n}"
    section.open.set()
    for handle in held:
        await handle.result()
    assert section.overlaps == 0


async def test_five_hundred_runs_never_overlap_and_are_handed_over_quickly(world: World) -> None:
    section = Section()
    guarded(world, section)
    await world.worker()
    await world.worker()
    handles = [await world.start(0)]
    await soon(lambda: bool(section.inside), "the holder")
    handles += await asyncio.gather(*[world.start(n) for n in range(1, 500)])
    await in_line(world, 499)
    before = int((await world.redis.info("stats"))["total_commands_processed"])
    await asyncio.sleep(0.3)
    idle = int((await world.redis.info("stats"))["total_commands_processed"]) - before
    assert idle < 100, f"{idle} commands in 0.3 s while everybody waits"
    section.open.set()
    await asyncio.gather(*[handle.result(timeout_ms=60_000) for handle in handles])
    assert section.overlaps == 0
    assert len(section.entered) == 500
    latencies = sorted(section.hand_overs)
    assert latencies[250] < 0.1, f"hand-over p50 {latencies[250] * 1000:.1f} ms, p99 {latencies[494] * 1000:.1f} ms"
