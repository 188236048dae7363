"""RunHandle and wait_for_result: how the end of a run is told (spec 5.4)."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from redflow import CanceledError, NonRetriableError, RedflowError, RunHandle, TimeoutError, define_workflow, workflow
from redflow.errors import RetryAfterError
from tests.support.world import Context, World

UNKNOWN = "run_00000000-0000-7000-8000-000000000000"


async def echo(ctx: Context) -> object:
    return ctx.input


class PaymentError(RedflowError):
    kind = "payment"


class HttpError(Exception):
    code = "E503"


async def test_handles_are_equal_by_id_and_client(world: World) -> None:
    client = world.client
    handle = client.make_run_handle("x")
    assert isinstance(handle, RunHandle)
    assert handle.id == "x"
    assert handle == client.make_run_handle("x")
    assert hash(handle) == hash(client.make_run_handle("x"))
    assert handle != client.make_run_handle("y")
    assert handle != world.new_client().make_run_handle("x")
    assert await handle.get_state() is None


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("bad"), {"name": "ValueError", "message": "bad", "kind": "error"}),
        (PaymentError("no money"), {"name": "PaymentError", "message": "no money", "kind": "payment"}),
        (HttpError("down"), {"name": "HttpError", "message": "down", "kind": "error", "code": "E503"}),
        (
            RetryAfterError("busy", 5),
            {"name": "RetryAfterError", "message": "busy", "kind": "retry_after", "retryAfterMs": 5},
        ),
    ],
)
async def test_a_failed_run_raises_its_error_as_json_without_stack(
    world: World, error: Exception, shown: dict[str, object]
) -> None:
    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> None:
        raise error

    with pytest.raises(RedflowError) as caught:
        await world.run()
    text = str(caught.value)
    assert text.startswith("Run failed: ")
    assert json.loads(text.removeprefix("Run failed: ")) == shown
    assert caught.value.error is not None
    assert "Traceback" in caught.value.error["stack"]
    assert {key: value for key, value in caught.value.error.items() if key != "stack"} == shown


async def test_a_long_message_is_cut_in_the_exception_only(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> None:
        raise NonRetriableError("é" * 6000)

    with pytest.raises(RedflowError) as caught:
        await world.run()
    shown = json.loads(str(caught.value).removeprefix("Run failed: "))
    assert len(shown["message"].encode()) <= 4096
    assert caught.value.error is not None
    assert caught.value.error["message"] == "é" * 6000


async def test_a_canceled_run_raises_canceled_with_its_reason(world: World) -> None:
    define_workflow("w", handler=echo, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    for reason, text in (("too late", "Run canceled: too late"), ("", "Run canceled")):
        handle = await world.start()
        waiting = asyncio.ensure_future(handle.result())
        await asyncio.sleep(0)
        assert await world.client.cancel_run(handle.id, reason=reason)
        for result in (waiting, handle.result()):
            with pytest.raises(CanceledError) as caught:
                await result
            assert str(caught.value) == text


async def test_a_deadline_raises_and_the_run_goes_on(world: World) -> None:
    define_workflow("w", handler=echo, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start(7)
    for timeout_ms in (0, 1, 30):
        with pytest.raises(TimeoutError) as caught:
            await handle.result(timeout_ms=timeout_ms)
        assert str(caught.value) == f"Timed out waiting for run result ({handle.id})"
    await world.worker()
    assert await handle.result() == 7
    assert await handle.result(timeout_ms=0) == 7, "state is looked at before the deadline"
    assert await world.client.wait_for_result(handle.id, timeout_ms=-5) == 7


async def test_a_missing_run_is_told_after_a_second(world: World) -> None:
    started = time.monotonic()
    with pytest.raises(RedflowError) as caught:
        await world.client.wait_for_result(UNKNOWN)
    assert str(caught.value) == f"Run not found: {UNKNOWN}"
    assert 0.95 < time.monotonic() - started < 5
    for run_id in ("x", "", "run_", UNKNOWN.upper(), "run_00000000-0000-7000-8000-00000000000:"):
        with pytest.raises(RedflowError) as caught:
            await world.client.wait_for_result(run_id)
        assert str(caught.value) == f"Run not found: {run_id}"
        assert await world.client.get_run(run_id) is None
        assert await world.client.get_run_steps(run_id) == []
        assert await world.client.get_run_attempts(run_id) == []
        assert await world.client.cancel_run(run_id) is False


async def test_a_run_that_vanishes_while_waited_for(world: World) -> None:
    define_workflow("w", handler=echo, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start()
    waiting = asyncio.ensure_future(handle.result())
    await world.waited_for(handle)
    await world.client.reset_runs()
    with pytest.raises(RedflowError) as caught:
        await waiting
    assert str(caught.value) == f"Run state unavailable: {handle.id}"


async def test_the_result_comes_by_notification(world: World) -> None:
    """The slow check looks every 2 s: twenty results, one after another, would take 40 s by it."""
    define_workflow("w", handler=echo, registry=world.registry)
    await world.worker()
    await world.run(0)
    started = time.monotonic()
    for n in range(20):
        assert await world.run(n) == n
    assert time.monotonic() - started < 4


async def test_many_waits_of_one_and_of_several_clients_are_all_told(world: World) -> None:
    define_workflow("w", handler=echo, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start("x")
    clients = [world.client, world.new_client(), world.new_client()]
    waits = [asyncio.ensure_future(client.wait_for_result(handle.id)) for client in clients for _ in range(5)]
    await world.waited_for(handle, by=3)
    started = time.monotonic()
    await world.worker()
    assert await asyncio.gather(*waits) == ["x"] * 15
    assert time.monotonic() - started < 1.5, "by notification, not by the slow check"


async def test_a_lost_notification_only_costs_time(world: World) -> None:
    define_workflow("w", handler=echo, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start("x")
    waiting = asyncio.ensure_future(handle.result())
    await world.waited_for(handle)
    await world.redis.delete(world.keys.waiters(handle.id.removeprefix("run_").replace("-", "")))
    await world.worker()
    assert await waiting == "x"


@pytest.mark.parametrize("timeout_ms", [True, "5", float("nan"), None])
async def test_a_timeout_that_is_no_number_is_refused(world: World, timeout_ms: float) -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        await world.client.wait_for_result(UNKNOWN, timeout_ms=timeout_ms)
