"""Flows on a real Temporal server: the task's record, its stream and the flow's result."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from temporalio.client import WorkflowFailureError, WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError, CancelledError

from r7kit.workflow_utils import submit_workflow
from redflow.errors import PayloadTooLargeError
from redflow.types import JsonData
from tests.r7kit.temporal import flows
from tests.r7kit.temporal.stage import Stage
from tests.support.world import eventually

EVERYTHING: JsonData = {
    "int": 42,
    "text": "42",
    "float": 42.0,
    "true": True,
    "null": None,
    "empty": ["", [], {}],
    "big": [2**63, 2**64 - 1, -(2**63)],
    "nested": {"a": [{"b": [1, "1", 1.5, None, False]}]},
    "unicode": "é\u2028\U0001f600",
}


async def test_readme_flow(stage: Stage) -> None:
    handle, uuid = await stage.start(flows.MyFlow, payload={"input": 42})
    assert (await stage.record(uuid))["payload.input"] == "json:42"  # visible when start() returns
    assert handle.id == uuid
    result = await handle.result()
    assert (result, type(result)) == (84, int)
    record = await stage.record(uuid)
    assert (record["status"], record["payload.result"], "deleted_at" in record) == ("done", "json:84", True)
    assert [(event, ver, status) for event, ver, _, status in await stage.entries(uuid)] == [
        ("created", 1, "new"),
        ("patched", 2, "processing"),
        ("patched", 3, "done"),
        ("deleted", 4, "done"),
    ]
    assert 50 < await stage.redis.ttl(f"task:{uuid}") <= 60


async def test_arguments_and_results_have_the_declared_types(stage: Stage) -> None:
    when = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    order = flows.Order(sku="a", at=when, color=flows.Color.RED, points=[flows.Point(1, 2.5)])
    result = await stage.run(flows.Typed, order, flows.Point(3, 4.0), when, flows.Color.BLUE)
    assert isinstance(result, flows.Order)
    assert result.points == [flows.Point(1, 2.5), flows.Point(3, 4.0)]
    assert (result.sku, result.color, result.at.isoformat()) == ("a!", flows.Color.BLUE, "2026-03-02T12:00:00+00:00")


async def test_every_json_value_keeps_its_type(stage: Stage) -> None:
    results = await stage.run(flows.Echo, EVERYTHING, payload={"given": EVERYTHING})
    for result in results:
        assert json.dumps(result, sort_keys=True) == json.dumps(EVERYTHING, sort_keys=True)


async def test_an_exception_fails_the_flow_once_with_its_stack(stage: Stage) -> None:
    handle, _ = await stage.start(flows.Failing, 3)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("KeyError", "'xxx'")
    description = await handle.describe()
    assert description.status is not None
    assert description.status.name == "FAILED"
    history = await handle.fetch_history()
    failure = history.events[-1].workflow_execution_failed_event_attributes
    assert "in handle" in failure.failure.stack_trace
    assert not failure.new_execution_run_id


async def test_a_huge_error_fails_the_flow_too(stage: Stage) -> None:
    handle, _ = await stage.start(flows.Failing, 10_000_000)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "KeyError"
    assert len(caught.value.cause.message) < 20_000


async def test_a_flow_may_be_retried(stage: Stage) -> None:
    handle, uuid = await flows.FailsOnce.start(
        queue=stage.queue, retry={"initial_interval": 0.1, "maximum_attempts": 2}
    )
    assert await handle.result() == 2
    assert {"payload.attempt-1", "payload.attempt-2"} <= set(await stage.record(uuid))


async def test_named_errors_arrive_as_themselves(stage: Stage) -> None:
    handle, uuid = await stage.start(flows.Misses)
    assert await handle.result() == ["TaskNotFoundError True"] * 4
    assert [entry[0] for entry in await stage.entries(uuid)] == ["created", "deleted"]
    # A missing task is no trouble of Redis: nothing was tried twice.
    assert (await stage.history(uuid)).count("ACTIVITY_TASK_STARTED") == 8


async def test_params(stage: Stage) -> None:
    payload: JsonData = {"a": {"b": 7}, "items": [1, "two"], "dotted.key": 3, "other": "not read"}
    first, several, missing, single = await stage.run(flows.Params, payload=payload)
    assert (first, single) == (7, 7)
    assert several == {"a.b": 7, "items.1": "two", "dotted.key": 3, "nothing": 0}
    assert "'nothing.there'" in missing


async def test_reads_bring_only_what_was_asked_for(stage: Stage) -> None:
    handle, _ = await stage.start(
        flows.Params, payload={"a": {"b": 7}, "items": [1, 2], "dotted.key": 3, "z": "SECRET"}
    )
    await handle.result()
    replies = [
        event.activity_task_completed_event_attributes.result.payloads[0].data
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_completed_event_attributes")
    ]
    # Confirmation and three single reads; the fifth is load_task().
    assert ["SECRET" in reply.decode() for reply in replies] == [False, False, False, False, True]


async def test_state_writes_what_changed(stage: Stage) -> None:
    handle, uuid = await stage.start(flows.States, payload={"gone": 1, "nested": {"deep": 1}, "kept": 1})
    assert await handle.result() == {"nested": {"deep": 2}, "kept": 1, "set": 1, "patched": 3, "after": 4}
    fields = [sorted(entry[2]) for entry in await stage.entries(uuid)][1:]
    assert fields == [
        ["payload.gone", "payload.nested", "payload.set"],
        ["payload.patched"],
        ["payload.after"],
    ]


async def test_stateful_workflow(stage: Stage) -> None:
    handle, uuid = await stage.start(flows.Counter, payload={"count": 4})
    assert await handle.result() == {"count": 5, "more": 1, "extra": 2}
    assert [sorted(entry[2]) for entry in await stage.entries(uuid)][1:] == [
        ["payload.count"],
        ["payload.extra", "payload.more"],
    ]


async def test_signals_queries_updates_and_activities(stage: Stage) -> None:
    handle, uuid = await stage.start(flows.Talks)
    assert await handle.query("said") == [uuid]
    await handle.signal("say", "one")

    async def said() -> JsonData:
        return await handle.query("said")

    await eventually(said, "the word", until=lambda words: words == [uuid, "one"])
    assert await handle.execute_update("ask", "why") == 1
    await handle.signal("say", "end")
    assert await handle.result() == ["one", "end", "HI"]
    assert {"payload.one", "payload.asked", "payload.end"} <= set(await stage.record(uuid))
    with pytest.raises(WorkflowQueryFailedError):
        await handle.query("unknown")


async def test_activities(stage: Stage) -> None:
    assert await stage.run(flows.Acts) == [8, {"got": [1]}, "no use"]


async def test_children(stage: Stage) -> None:
    handle, _ = await stage.start(flows.Parent)
    own, taken, cause, late, keys = await handle.result()
    assert (taken, late) == (True, True)
    assert "the child breaks" in cause
    assert keys == ["called", "failed", "named", "ran", "started"]
    record = await stage.record(own)
    assert record["payload.own"] == f'json:"{own}"'
    assert await stage.redis.ttl(f"task:{own}") > 60, "the child's record is permanent"
    assert [entry[0] for entry in await stage.entries(own)] == ["created", "patched"]


async def test_patches_at_once_lose_nothing(stage: Stage) -> None:
    handle, uuid = await stage.start(flows.Gathers, 20)
    assert await handle.result() == 20
    assert sorted(entry[1] for entry in await stage.entries(uuid)) == list(range(1, 22))


async def test_a_flow_started_by_another_sdk_has_an_empty_task(stage: Stage) -> None:
    client = await stage.client()
    id_ = f"{stage.name}-by-name"
    assert await client.execute_workflow("Child", args=["k"], id=id_, task_queue=stage.queue) == id_
    record = await stage.record(id_)
    assert (record["uuid"], record["payload.k"]) == (id_, f'json:"{id_}"')
    assert [entry[0] for entry in await stage.entries(id_)] == ["created", "patched"]


async def test_submit_by_name_and_path(stage: Stage) -> None:
    by_name = await submit_workflow("Child", queue=stage.queue)
    assert await by_name.result() == by_name.id
    path = "tests.r7kit.temporal.flows.Child"
    by_path = await submit_workflow(path, "k", queue=stage.queue, workflow_id=f"{stage.name}-w", task_uuid=stage.name)
    assert (by_path.id, await by_path.result()) == (f"{stage.name}-w", stage.name)


async def test_search_attributes_and_memo(stage: Stage) -> None:
    handle, _ = await flows.Child.start(
        queue=stage.queue, memo={"why": ["because"]}, search={"R7Note": "n", "R7Count": 3}, static_summary="a child"
    )
    await handle.result()
    description = await (await stage.client()).get_workflow_handle(handle.id).describe()
    assert (await description.memo())["why"] == ["because"]
    found = {pair.key.name: pair.value for pair in description.typed_search_attributes}
    assert (found["R7Note"], found["R7Count"]) == ("n", 3)


async def test_a_canceled_flow_ends(stage: Stage) -> None:
    handle, _ = await stage.start(flows.Sleeps, 3600.0)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("result", "PayloadTooLargeError"),
        ("patch", "PayloadTooLargeError"),
        ("child", "PayloadTooLargeError"),
        ("activity", "PayloadTooLargeError"),
        ("object", "PydanticSerializationError"),
        ("exit", "SystemExit"),
        ("base", "BaseException"),
        ("unreadable", "Unreadable"),
    ],
)
async def test_what_no_history_can_hold_fails_the_flow_and_not_the_worker(stage: Stage, how: str, kind: str) -> None:
    handle, _ = await stage.start(flows.Impossible, how)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == kind


async def test_too_large_arguments_are_refused_at_the_start(stage: Stage) -> None:
    with pytest.raises(PayloadTooLargeError):
        await flows.Child.start("x" * 3_000_000, queue=stage.queue, uuid=f"{stage.name}-uuid")
    assert await stage.record(f"{stage.name}-uuid") == {}


async def test_wrong_arguments_of_another_sdk_fail_the_flow(stage: Stage) -> None:
    client = await stage.client()
    calls: list[list[object]] = [["no number"], [], [1, 2, 3]]
    for number, arguments in enumerate(calls):
        with pytest.raises(WorkflowFailureError):
            await client.execute_workflow("Waits", args=arguments, id=f"{stage.name}-{number}", task_queue=stage.queue)
