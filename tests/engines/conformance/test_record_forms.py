"""A finished run reads the same in each form its record may have: small, packed, large, and with payloads apart."""

from __future__ import annotations

import random
import string

import pytest

from redflow import NonRetriableError, RedflowError, SearchRunsParams, workflow
from redflow.engines.redis.packing import PACKED
from redflow.types import ListRunsParams, WorkflowRetryPolicy
from tests.support.world import Context, World

FORMS = {"small": 10, "packed": 150, "a table": 3_000, "apart": 60_000}
"""How long the texts of a run are, by the form of its record."""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """One of the forms."""
    return str(request.param)


def text_of(form: str) -> str:
    """A text that nothing compresses to much less."""
    return "".join(random.Random(form).choices(string.ascii_letters + "äß€", k=FORMS[form]))


async def is_packed(world: World, run_id: str) -> bool:
    """Whether the record of a run is packed."""
    stored = run_id.removeprefix("run_").replace("-", "")
    return bool(await world.redis.hexists(world.keys.run(stored), PACKED))


async def test_a_run_that_succeeded(world: World, form: str) -> None:
    text = text_of(form)

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.run("short", lambda: 1)
        return {"step": await ctx.step.run("long", lambda: text)}

    handle = await world.begin({"in": text})
    assert await handle.result() == {"step": text}
    if world.client.codec is None:  # encrypted texts are longer
        assert await is_packed(world, handle.id) is (form == "packed")
    later = world.client.make_run_handle(handle.id)
    assert await later.result() == {"step": text}
    assert await later.result(timeout_ms=0) == {"step": text}
    state = await later.get_state()
    assert state is not None
    assert (state["status"], state["input"], state.get("output")) == ("succeeded", {"in": text}, {"step": text})
    assert "error" not in state
    steps = await world.client.get_run_steps(handle.id)
    assert [(step["name"], step.get("output")) for step in steps] == [("short", 1), ("long", text)]
    (attempt,) = await world.client.get_run_attempts(handle.id)
    assert ([step["output"] for step in attempt["steps"]], attempt["output"]) == ([1, text], {"step": text})
    (listed,) = await world.client.list_runs(ListRunsParams())
    assert (listed["id"], listed["status"], listed["attempt"]) == (handle.id, "succeeded", 1)
    for query in (f'"in":"{text[:8]}', f'"step":"{text[:8]}'):
        found = await world.client.search_runs(SearchRunsParams(query=query))
        assert [run["id"] for run in found["runs"]] == [handle.id]
    explanation = await world.client.explain_run(handle.id)
    assert explanation is not None
    assert explanation["status"] == "succeeded"
    assert await world.client.cancel_run(handle.id) is False


async def test_a_run_that_failed(world: World, form: str) -> None:
    text = text_of(form)[:8_000]

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.run("first", lambda: 1)
        raise NonRetriableError(text)

    handle = await world.begin({"in": text})
    with pytest.raises(RedflowError) as caught:
        await handle.result()
    assert text[:99] in str(caught.value)
    with pytest.raises(RedflowError) as caught:
        await world.client.make_run_handle(handle.id).result()
    assert text[:99] in str(caught.value)
    state = await handle.get_state()
    assert state is not None
    assert (state["status"], state["input"], state["error"]["message"]) == ("failed", {"in": text}, text)
    (listed,) = await world.client.list_runs(ListRunsParams(status="failed"))
    assert listed["error"]["message"] == text
    found = await world.client.search_runs(SearchRunsParams(query=text[:9]))
    assert [run["error"]["message"] for run in found["runs"]] == [text]
    (attempt,) = await world.client.get_run_attempts(handle.id)
    assert attempt["error"]["message"] == text
    explanation = await world.client.explain_run(handle.id)
    assert explanation is not None
    assert text[:50] in explanation["reason"]


async def test_a_run_that_was_tried_twice(world: World, form: str) -> None:
    text = text_of(form)[:8_000]

    @workflow("w", registry=world.registry, retries=WorkflowRetryPolicy(delay=1))
    async def w(ctx: Context) -> object:
        await ctx.step.run("long", lambda: text)
        if ctx.run.attempt == 1:
            raise ValueError(text)
        return None

    handle = await world.begin()
    assert await handle.result() is None
    first, second = await world.client.get_run_attempts(handle.id)
    assert (first["status"], first["error"]["message"]) == ("failed", text)
    assert [step["output"] for step in first["steps"]] == [text]
    assert (second["status"], second["steps"], second["output"]) == ("succeeded", [], None)


async def test_a_run_that_was_canceled(world: World, form: str) -> None:
    text = text_of(form)

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        await ctx.step.run("long", lambda: text)
        await ctx.step.wait_for("nap", "1h")
        return None

    handle = await world.begin({"in": text})
    await world.reaches(handle, "scheduled")
    assert await world.client.cancel_run(handle.id, reason="enough") is True
    state = await handle.get_state()
    assert state is not None
    assert (state["status"], state["input"], state["cancel_reason"]) == ("canceled", {"in": text}, "enough")
    steps = await world.client.get_run_steps(handle.id)
    assert [(step["name"], step["status"], step.get("output")) for step in steps] == [
        ("long", "succeeded", text),
        ("nap", "canceled", None),
    ]


async def test_a_run_that_its_idempotency_key_and_a_parent_find(world: World, form: str) -> None:
    text = text_of(form)

    @workflow("kid", registry=world.registry)
    async def kid(ctx: Context) -> object:
        return {"got": ctx.input}

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run_workflow("call", kid, text, idempotency_key="once")

    await world.worker()
    first = await world.client.emit_workflow("kid", text, idempotency_key="once")
    assert await first.result() == {"got": text}
    again = await world.client.emit_workflow("kid", "other", idempotency_key="once")
    assert again.id == first.id
    assert await again.result() == {"got": text}
    assert await world.run() == {"got": text}
