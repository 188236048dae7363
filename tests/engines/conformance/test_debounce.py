"""debounce: calls that follow each other closely become one run, with the last input (spec 5.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from redflow import RunState, WorkflowDefinition, define_workflow
from redflow.default import set_default_client
from redflow.registry import get_default_registry
from redflow.types import EventTrigger, JsonData, ResolvedDebounce, RunHandle, WorkflowDebounceOptions
from tests.support.world import Context, World, eventually, soon

HOUR = 3_600_000


@pytest.fixture
async def calls(world: World) -> AsyncIterator[World]:
    """The world with its client as the default one, so that `definition.run` uses it."""
    set_default_client(world.client)
    yield world
    set_default_client(None)


def key_of(data: JsonData) -> str:
    assert isinstance(data, dict)
    return str(data["k"])


def debounced(
    world: World, period: int | str, timeout: int | None = None, *, name: str = "w", max_concurrency: int | None = None
) -> WorkflowDefinition[JsonData, JsonData]:
    async def handler(ctx: Context) -> JsonData:
        world.did.append(str(ctx.input))
        return ctx.input

    options = WorkflowDebounceOptions(key_of, period, timeout)
    return define_workflow(
        name, handler=handler, debounce=options, registry=world.registry, max_concurrency=max_concurrency
    )


async def state_of(handle: RunHandle[JsonData]) -> RunState:
    state = await handle.get_state()
    assert state is not None
    return state


def order(n: int, k: str = "a") -> dict[str, object]:
    return {"k": k, "n": n}


# -- the definition at hand ----------------------------------------------------------------------------------------


async def test_a_burst_is_one_run_with_the_last_input(calls: World) -> None:
    w = debounced(calls, 300)
    await calls.worker()
    handles = [await w.run(order(n)) for n in range(20)]
    assert len({handle.id for handle in handles}) == 1
    assert await handles[0].result() == order(19)
    assert calls.did == [str(order(19))]
    assert (await calls.client.get_stats())["total"] == 1


async def test_the_first_call_is_scheduled_and_later_ones_set_its_time_anew(calls: World) -> None:
    w = debounced(calls, HOUR)
    await calls.client.sync_registry(calls.registry, app="app")
    handle = await w.run(order(1))
    first = await state_of(handle)
    assert (first["status"], first["attempt"]) == ("scheduled", 0)
    assert first["available_at"] == first["created_at"] + HOUR
    await asyncio.sleep(0.02)
    await w.run(order(2))
    second = await state_of(handle)
    assert second["input"] == order(2)
    assert second["created_at"] == first["created_at"]
    assert first["available_at"] + 20 <= second["available_at"] < first["available_at"] + 5_000


async def test_never_past_the_deadline(calls: World) -> None:
    w = debounced(calls, 500, 600)
    await calls.client.sync_registry(calls.registry, app="app")
    handle = await w.run(order(1))
    created = (await state_of(handle))["created_at"]
    await asyncio.sleep(0.2)
    await w.run(order(2))
    assert (await state_of(handle))["available_at"] == created + 600
    await asyncio.sleep(0.45)
    assert (await w.run(order(3))).id == handle.id
    state = await state_of(handle)
    assert (state["status"], state["input"], "available_at" in state) == ("queued", order(3), False)


async def test_run_at_holds_where_it_is_later(calls: World) -> None:
    w = debounced(calls, 1000)
    await calls.client.sync_registry(calls.registry, app="app")
    at = datetime.now(UTC) + timedelta(hours=1)
    handle = await w.run(order(1), run_at=at)
    assert (await state_of(handle))["available_at"] == int(at.timestamp() * 1000)


async def test_keys_workflows_and_queues_are_apart(calls: World) -> None:
    w, other = debounced(calls, HOUR), debounced(calls, HOUR, name="other")
    await calls.client.sync_registry(calls.registry, app="app")
    handles = [
        await w.run(order(1)),
        await w.run(order(2, "b")),
        await other.run(order(3)),
        await w.run(order(4), queue_override="elsewhere"),
        await w.run(order(5), queue_override="app:elsewhere"),
        await w.run(order(6, " b ")),
    ]
    assert len({handle.id for handle in handles}) == 4
    assert handles[3].id == handles[4].id
    assert handles[1].id == handles[5].id


async def test_after_the_start_the_next_call_makes_a_new_run(calls: World) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(ctx: Context) -> JsonData:
        started.set()
        await go_on.wait()
        return ctx.input

    w = define_workflow("w", handler=handler, debounce=WorkflowDebounceOptions(key_of, 50), registry=calls.registry)
    await calls.worker()
    first = await w.run(order(1))
    await started.wait()
    second = await w.run(order(2))
    assert second.id != first.id
    go_on.set()
    assert [await first.result(), await second.result()] == [order(1), order(2)]
    third = await w.run(order(3))
    assert third.id not in (first.id, second.id)
    assert await third.result() == order(3)


async def test_period_zero_is_at_once_but_replaceable_while_queued(calls: World) -> None:
    w = debounced(calls, 0)
    await calls.client.sync_registry(calls.registry, app="app")
    handles = [await w.run(order(n)) for n in range(3)]
    assert len({handle.id for handle in handles}) == 1
    state = await state_of(handles[0])
    assert (state["status"], state["input"]) == ("queued", order(2))
    await calls.worker()
    assert await handles[0].result() == order(2)


async def test_idempotency_comes_first_and_is_bound_to_the_debounced_run(calls: World) -> None:
    w = debounced(calls, HOUR)
    await calls.client.sync_registry(calls.registry, app="app")
    first = await w.run(order(1), idempotency_key="one")
    again = await w.run(order(2), idempotency_key="one")
    assert again.id == first.id
    assert (await state_of(first))["input"] == order(1)
    joined = await w.run(order(3), idempotency_key="two")
    assert joined.id == first.id
    assert (await state_of(first))["input"] == order(3)
    other = await w.run(order(4, "b"), idempotency_key="two")
    assert other.id == first.id
    assert (await state_of(first))["input"] == order(3)


async def test_a_canceled_run_is_not_joined(calls: World) -> None:
    w = debounced(calls, HOUR)
    await calls.client.sync_registry(calls.registry, app="app")
    first = await w.run(order(1))
    await calls.client.cancel_run(first.id)
    assert (await w.run(order(2))).id != first.id


async def test_a_parked_run_is_replaced_and_found_again_once_its_workflow_is_registered(calls: World) -> None:
    w = debounced(calls, 0)
    first = await w.run(order(1))
    assert (await w.run(order(2))).id == first.id
    later = debounced(calls, HOUR)
    assert (await later.run(order(3))).id == first.id
    assert (await state_of(first))["status"] == "scheduled"
    await calls.client.sync_registry(calls.registry, app="app")
    assert (await later.run(order(4))).id == first.id
    await w.run(order(5))
    await calls.worker()
    assert await first.result() == order(5)


async def test_a_large_input_is_replaced_by_a_small_one_and_back(calls: World) -> None:
    w = debounced(calls, HOUR)
    await calls.client.sync_registry(calls.registry, app="app")
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(60_000))
    handle = await w.run({"k": "a", "text": text})
    await w.run(order(2))
    assert (await state_of(handle))["input"] == order(2)
    await w.run({"k": "a", "text": text})
    assert (await state_of(handle))["input"] == {"k": "a", "text": text}


async def test_a_new_input_takes_the_run_out_of_the_mutex_line(calls: World) -> None:
    go_on = asyncio.Event()

    async def holder(ctx: Context) -> None:
        await go_on.wait()

    async def handler(ctx: Context) -> JsonData:
        return ctx.input

    define_workflow("holder", handler=holder, mutex=lambda _: "busy", registry=calls.registry)

    def mutex(data: JsonData) -> str:
        assert isinstance(data, dict)
        return str(data["mutex"])

    w = define_workflow(
        "w", handler=handler, mutex=mutex, debounce=WorkflowDebounceOptions(key_of, 20), registry=calls.registry
    )
    await calls.worker()
    await calls.start(name="holder")
    first = await w.run({"k": "a", "mutex": "busy"})

    await eventually(lambda: calls.mutex_line("busy"), "the run in line")
    again = await w.run({"k": "a", "mutex": "free"})
    assert again.id == first.id
    assert await first.result() == {"k": "a", "mutex": "free"}
    go_on.set()


@pytest.mark.parametrize(
    ("key", "message"), [(None, "debounce.key must return a string"), ("", "debounce.key"), (" ", "debounce.key")]
)
async def test_what_is_no_key_is_raised_to_the_caller(calls: World, key: str, message: str) -> None:
    async def handler(ctx: Context) -> None: ...

    options = WorkflowDebounceOptions(lambda _: key, 10)
    w = define_workflow("w", handler=handler, debounce=options, registry=calls.registry)
    with pytest.raises(ValueError, match=message):
        await w.run(order(1))
    assert (await calls.client.get_stats())["total"] == 0


@pytest.mark.parametrize(
    ("debounce", "message"),
    [
        (ResolvedDebounce("", 1), "debounce.key"),
        (ResolvedDebounce("k", -1), "debounce.period"),
        (ResolvedDebounce("k", 1, -1), "debounce.timeout"),
    ],
)
async def test_a_debounce_made_by_hand_is_judged(calls: World, debounce: ResolvedDebounce, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await calls.client.run_by_name("w", 1, debounce=debounce, queue_override="q")


async def test_a_hundred_concurrent_calls_are_one_run(calls: World) -> None:
    w = debounced(calls, 200)
    await calls.worker()
    clients = [calls.client, calls.new_client(), calls.new_client()]
    handles = await asyncio.gather(
        *[
            clients[n % 3].run_by_name("w", order(n), debounce=ResolvedDebounce("a", 200), queue_override="default")
            for n in range(100)
        ]
    )
    assert len({handle.id for handle in handles}) == 1
    assert await handles[0].result() in [order(n) for n in range(100)]
    assert len(calls.did) == 1
    assert w.name == "w"


# -- by name -------------------------------------------------------------------------------------------------------


async def test_by_name_the_default_registry_has_the_key_function(calls: World) -> None:
    get_default_registry().register(debounced(calls, HOUR))
    try:
        await calls.client.sync_registry(calls.registry, app="app")
        stranger = calls.new_client()
        handles = [await stranger.emit_workflow("w", order(n)) for n in range(3)]
    finally:
        get_default_registry().clear()
    assert len({handle.id for handle in handles}) == 1
    assert (await state_of(handles[0]))["status"] == "scheduled"


async def test_the_clients_registry_is_asked_and_the_input_validated(calls: World) -> None:
    class Order(BaseModel):
        k: str
        n: int

    async def handler(ctx: Context) -> None: ...

    define_workflow(
        "w",
        handler=handler,
        input_schema=Order,
        debounce=WorkflowDebounceOptions(lambda order: order.k, HOUR),
        registry=calls.registry,
    )
    await calls.client.sync_registry(calls.registry, app="app")
    one, two = [await calls.client.emit_workflow("w", order(n)) for n in range(2)]
    assert one.id == two.id
    bad = await calls.client.emit_workflow("w", {"k": 3})
    assert (await state_of(bad))["status"] == "queued"
    await calls.worker()
    assert await calls.ended(bad) == "failed"
    assert (await state_of(bad))["error"]["kind"] == "validation"


async def test_without_the_definition_the_first_worker_coalesces(calls: World) -> None:
    debounced(calls, 300)
    stranger = calls.new_client()
    await calls.worker()
    handles = [await stranger.emit_workflow("w", order(n)) for n in range(8)]
    assert len({handle.id for handle in handles}) == 8
    results = await asyncio.gather(*[handle.result() for handle in handles])
    assert results == [order(7)] * 8
    assert calls.did == [str(order(7))]
    states = [await state_of(handle) for handle in handles]
    kept = [state for state in states if state["status"] == "succeeded"]
    assert len(kept) == 1
    merged = [state for state in states if state["status"] == "canceled"]
    assert [state["merged_into"] for state in merged] == [kept[0]["id"]] * 7
    assert [state["attempt"] for state in merged] == [0] * 7


async def test_a_backlog_of_one_burst_becomes_one_run(calls: World) -> None:
    debounced(calls, 0, 0)
    await calls.client.sync_registry(calls.registry, app="app")
    stranger = calls.new_client()
    handles = [await stranger.emit_workflow("w", order(n)) for n in range(30)]
    await calls.small_worker(1)
    assert [await handle.result() for handle in handles] == [order(29)] * 30
    assert calls.did == [str(order(29))]


async def test_an_idempotency_key_of_a_merged_run_means_the_one_that_goes_on(calls: World) -> None:
    debounced(calls, 300)
    stranger = calls.new_client()
    await calls.worker()
    first = await stranger.emit_workflow("w", order(1))
    await calls.reaches(first, "scheduled")
    second = await stranger.emit_workflow("w", order(2), idempotency_key="x")
    await calls.reaches(second, "canceled")
    assert (await stranger.emit_workflow("w", order(3), idempotency_key="x")).id == first.id
    assert await second.result() == order(2)


async def test_a_child_that_is_merged_gives_its_parent_the_others_output(calls: World) -> None:
    debounced(calls, 200)

    async def parent(ctx: Context) -> JsonData:
        result: JsonData = await ctx.step.run_workflow("child", "w", order(2))
        return result

    define_workflow("parent", handler=parent, registry=calls.registry)
    await calls.worker()
    stranger = calls.new_client()
    first = await stranger.emit_workflow("w", order(1))
    await calls.reaches(first, "scheduled")
    handle = await calls.start(None, name="parent")
    assert await handle.result() == order(2)
    assert await first.result() == order(2)
    assert len(calls.did) == 1


async def test_runs_of_events_are_debounced(calls: World) -> None:
    async def handler(ctx: Context) -> JsonData:
        calls.did.append(str(ctx.input))
        return ctx.input

    define_workflow(
        "w",
        handler=handler,
        event=EventTrigger("ordered"),
        debounce=WorkflowDebounceOptions(key_of, 200),
        registry=calls.registry,
    )
    await calls.worker()
    emitted = [await calls.client.emit_event_detailed("ordered", order(n)) for n in range(4)]
    assert [await event["handles"][0].result() for event in emitted] == [order(3)] * 4
    assert calls.did == [str(order(3))]
    events = [await calls.client.get_event(event["event_id"]) for event in emitted]
    assert all(event is not None for event in events)
    named = {event["deliveries"][0]["run_id"] for event in events if event is not None}
    assert len(named) == 1, "the deliveries follow the run that stays"
    kept = await calls.client.get_run(named.pop())
    assert kept is not None
    assert kept["status"] == "succeeded"


async def test_a_burst_survives_the_death_of_everybody(calls: World) -> None:
    w = debounced(calls, 400)
    worker = await calls.worker()
    handle = await w.run(order(1))
    await worker.stop()
    await w.run(order(2))
    await calls.worker()
    assert await w.run(order(3)) == handle
    assert await handle.result() == order(3)
    await soon(lambda: calls.did == [str(order(3))], "one run")
