"""Large payloads of every kind, and those that are too large (spec, limits; 6.1)."""

from __future__ import annotations

import random
import string

import pytest

from redflow import NonRetriableError, RedflowError, define_workflow, workflow
from redflow.errors import LimitExceededError, PayloadTooLargeError
from redflow.types import WorkflowRetryPolicy
from tests.support.world import BlockingContext, Context, World

KIB, MIB = 1024, 1024 * 1024
LIMIT = 4 * MIB


def noise(size: int) -> str:
    """Text that does not compress to much less."""
    return "".join(random.Random(size).choices(string.ascii_letters + string.digits, k=size))


SIZES = [4 * KIB, 32 * KIB, 40 * KIB, MIB, LIMIT - 64]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "zeros"])
async def test_inputs_outputs_and_steps_of_every_size_come_back_whole(world: World, size: int, kind: str) -> None:
    text = noise(size) if kind == "noise" else "0" * size

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        assert ctx.input == text
        world.did.append("pass")
        value = await ctx.step.run("s", lambda: [text])
        await ctx.step.run("marker", world.did.append, "marker")
        assert value == [text]
        if ctx.run.attempt == 1:
            raise ValueError("again")
        await ctx.step.wait_for("nap", 1)
        return {"out": value[0]}

    await world.worker()
    handle = await world.start(text)
    assert await handle.result() == {"out": text}
    state = await handle.get_state()
    assert state is not None
    assert state["input"] == text
    assert state["output"] == {"out": text}
    assert (await world.client.get_run_steps(handle.id))[0]["output"] == [text]
    first, last = await world.client.get_run_attempts(handle.id)
    assert first["steps"][0]["output"] == [text]
    assert last["output"] == {"out": text}
    assert world.did.count("marker") == 1


async def test_a_plain_handler_with_a_large_step(world: World) -> None:
    text = noise(100 * KIB)

    @workflow("w", registry=world.registry)
    def w(ctx: BlockingContext) -> object:
        assert ctx.step.run("s", lambda: text) == text
        ctx.step.wait_for("nap", 10)
        return text

    assert await world.run() == text


async def test_a_large_error_is_cut_and_stored_whole_elsewhere(world: World) -> None:
    message = noise(MIB)

    def fails() -> None:
        raise ValueError(message)

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1), max_attempts=2)
    async def w(ctx: Context) -> None:
        await ctx.step.run("s", fails)

    handle = await world.begin()
    with pytest.raises(RedflowError) as caught:
        await handle.result()
    assert len(str(caught.value)) < 5 * KIB
    state = await handle.get_state()
    assert state is not None
    for error in (state["error"], *[a["error"] for a in await world.client.get_run_attempts(handle.id)]):
        assert len(error["message"].encode()) <= 16 * KIB
        assert "cut" in error["message"]
        assert len(error["stack"].encode()) <= 32 * KIB
    [step] = await world.client.get_run_steps(handle.id)
    assert step["error"]["message"].startswith(message[:1000])


@pytest.mark.parametrize("size", [LIMIT + 1, 6 * MIB])
async def test_an_input_that_is_too_large_is_refused_before_anything_is_written(world: World, size: int) -> None:
    define_workflow("w", handler=lambda ctx: None, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    before = await world.key_count()
    with pytest.raises(PayloadTooLargeError) as caught:
        await world.start("x" * size)
    assert str(LIMIT) in str(caught.value)
    assert str(size + 2) in str(caught.value)
    assert "input" in str(caught.value)
    assert await world.key_count() == before


async def test_outputs_that_are_too_large_fail_cleanly(world: World) -> None:
    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        if ctx.input == "step":
            await ctx.step.run("s", lambda: "x" * LIMIT)
        return "x" * LIMIT

    await world.worker()
    for value in ("step", "output"):
        handle = await world.start(value)
        assert await world.ended(handle) == "failed"
        state = await handle.get_state()
        assert state is not None
        assert state["error"]["kind"] == "payload_too_large"
        assert str(LIMIT) in state["error"]["message"]
    assert await world.client.get_run_steps(handle.id) == []


async def test_small_payloads_never_leave_the_record(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.run({"a": 1})
    big = [key async for key in world.redis.scan_iter(match=f"{world.keys.base}big:*", count=1000)]
    assert big == []


async def handler(ctx: Context) -> object:
    return ctx.input


async def test_a_failed_runs_large_error_reaches_on_failures_next_caller(world: World) -> None:
    """The decided error is stored apart: the hook's second worker must still see it whole."""
    seen: list[str] = []
    define_workflow(
        "w", handler=fails_large, on_failure=lambda ctx: seen.append(str(ctx.error)), registry=world.registry
    )
    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    assert seen == ["y" * 40_000]


async def fails_large(ctx: Context) -> None:
    raise NonRetriableError("y" * 40_000)


async def test_the_limits_of_json(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    for value in (2**64 - 1, -(2**63), deep, "\u0000\u001f", "😀", {"": {"__proto__": 1}}, 1e308, -0.0):
        assert await world.run(value) == value
    for value in (2**64, -(2**63) - 1, [deep], 10**5000, {1: "a", "1": "b"}, {(1,): 2}):
        with pytest.raises((TypeError, ValueError, LimitExceededError)):
            await world.start(value)
