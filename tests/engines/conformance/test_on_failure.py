"""on_failure: called once when a run fails for good, before its result is told (spec 6.4)."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from redflow import NonRetriableError, OnFailureContext, RedflowError, define_workflow, workflow
from redflow.types import RunContext, WorkflowRetryPolicy
from tests.support.world import Context, World, soon

NOW = WorkflowRetryPolicy(delay=1)


async def failing(ctx: Context) -> None:
    raise KeyError(f"attempt {ctx.run.attempt}")


async def test_it_is_called_once_before_the_result_is_told(world: World) -> None:
    seen: list[OnFailureContext] = []
    go = asyncio.Event()

    async def hook(ctx: OnFailureContext) -> None:
        seen.append(ctx)
        await go.wait()
        world.did.append("hook ends")

    define_workflow("w", handler=failing, retries=NOW, on_failure=hook, queue="q", registry=world.registry)
    await world.worker()
    handle = await world.start({"a": 1})
    result = asyncio.ensure_future(handle.result())
    await soon(lambda: bool(seen), "the hook")
    assert await world.status(handle) == "running"
    assert not result.done()
    go.set()
    with pytest.raises(RedflowError):
        await result
    assert world.did == ["hook ends"]
    [ctx] = seen
    assert isinstance(ctx.error, KeyError), "the live exception"
    assert ctx.error.args == ("attempt 3",)
    assert ctx.input == {"a": 1}
    assert ctx.run == RunContext(handle.id, "w", "app:q", 3, 3)


async def test_a_plain_hook_runs_in_a_thread_and_does_not_block_the_worker(world: World) -> None:
    loop_thread_free = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hook(ctx: OnFailureContext) -> None:
        done = asyncio.run_coroutine_threadsafe(loop_thread_free.wait(), loop)
        world.did.append(str(done.result(timeout=10)))

    define_workflow("w", handler=failing, max_attempts=1, on_failure=hook, registry=world.registry)
    handle = await world.begin()
    loop_thread_free.set()
    assert await world.ended(handle) == "failed"
    assert world.did == ["True"]


@pytest.mark.parametrize("kind", ["plain", "async", "late", "exit"])
async def test_what_it_raises_is_swallowed_and_logged(
    world: World, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def plain(ctx: OnFailureContext) -> None:
        raise LookupError("in the hook")

    async def later(ctx: OnFailureContext) -> None:
        raise LookupError("in the hook")

    async def exits(ctx: OnFailureContext) -> None:
        raise SystemExit("in the hook")

    hook = {"plain": plain, "async": later, "late": lambda ctx: later(ctx), "exit": exits}[kind]
    define_workflow("w", handler=failing, max_attempts=1, on_failure=hook, registry=world.registry)
    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert state["error"]["name"] == "KeyError"
    assert "on_failure" in caplog.text
    assert "in the hook" in caplog.text


async def test_it_is_not_called_on_success_retry_or_cancel(world: World) -> None:
    started = asyncio.Event()

    def hook(ctx: OnFailureContext) -> None:
        world.did.append("hook")

    @workflow("w", on_failure=hook, retries=NOW, registry=world.registry)
    async def w(ctx: Context) -> None:
        if ctx.input == "once" and ctx.run.attempt == 1:
            raise KeyError("once")
        if ctx.input == "hang":
            started.set()
            await asyncio.Event().wait()

    assert await world.run("ok") is None
    assert await world.run("once") is None
    handle = await world.start("hang")
    await started.wait()
    assert await world.client.cancel_run(handle.id)
    assert await world.ended(handle) == "canceled"
    assert world.did == []


async def test_input_is_the_validated_one_or_none_where_validation_failed(world: World) -> None:
    class Order(BaseModel):
        id: int

    seen: list[OnFailureContext] = []

    @workflow("w", on_failure=seen.append, input_schema=Order, registry=world.registry)
    async def w(ctx: Context) -> None:
        raise NonRetriableError("no")

    await world.worker()
    for value in ({"id": "7"}, {"id": "x"}):
        assert await world.ended(await world.start(value)) == "failed"
    assert [ctx.input for ctx in seen] == [Order(id=7), None]
    assert [getattr(ctx.error, "kind", None) for ctx in seen] == ["non_retriable", "validation"]


async def test_a_worker_that_stops_in_the_hook_leaves_it_to_the_next(world: World) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def hook(ctx: OnFailureContext) -> None:
        world.did.append(f"{ctx.run.attempt} {ctx.error} {ctx.input}")
        started.set()
        await go.wait()

    @workflow("w", on_failure=hook, max_attempts=1, registry=world.registry)
    async def w(ctx: Context) -> None:
        world.did.append("handler")
        raise NonRetriableError("no")

    first = await world.worker()
    handle = await world.start("in")
    await started.wait()
    await first.stop()
    assert await world.status(handle) == "running"
    assert await world.client.cancel_run(handle.id) is False, "it has failed already"
    go.set()
    await world.worker()
    assert await world.ended(handle) == "failed"
    assert world.did == ["handler", "1 no in", "1 no in"], "at least once; the handler isn't called again"
    state = await handle.get_state()
    assert state is not None
    assert (state["error"]["name"], state["attempt"]) == ("NonRetriableError", 1)
    [attempt] = await world.client.get_run_attempts(handle.id)
    assert attempt["status"] == "failed"
