"""The same flows on both engines: the same result, the same task record, the same stream."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from r7kit import config
from r7kit.exceptions import TaskAlreadyExistsError
from r7kit.serializer import same, to_json
from r7kit.workflow_utils import submit_workflow
from redflow.types import JsonData
from tests.r7kit.scenarios import flows
from tests.r7kit.scenarios.flows import Colour, Line, Order
from tests.r7kit.scenarios.world import ENGINES, Seen, World
from tests.support.servers import ServerProcess
from tests.support.temporal import TemporalProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[str]:
    """Each test runs on both engines and expects the same. Gives a queue; the settings say which engine it is."""
    prefix = f"scenarios-{secrets.token_hex(4)}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REDFLOW_PREFIX", prefix)
        config.reset()
        config.configure(engine=request.param, redis_url=server.url, stream_default=f"{prefix}:events")
        if request.param == "temporal":
            temporal: TemporalProcess = request.getfixturevalue("temporal")
            config.configure(temporal_address=temporal.address)
        yield prefix
        config.reset()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(engine: str) -> AsyncIterator[World]:
    """The worker that an engine's tests share: it takes long to start."""
    async with World(engine) as world:
        yield world


def record(
    status: str, payload: JsonData, ver: int, *, exists: bool = True, **attributes: JsonData
) -> dict[str, JsonData]:
    return {"status": status, "payload": payload, "attributes": attributes, "ver": ver, "exists": exists}


async def test_a_flow_works_on_its_task(world: World) -> None:
    assert await world.play(flows.Doubles, payload={"input": 42}) == Seen(
        84,
        record("done", {"input": 42, "result": 84}, 4, exists=False, owner={"name": "ada"}),
        [
            ("created", 1, "new", ["payload.input", "status"]),
            ("patched", 2, "processing", ["status"]),
            ("patched", 3, "done", ["attr.owner", "payload.result", "status"]),
            ("deleted", 4, "done", ["deleted_at"]),
        ],
    )


async def test_a_child_shares_the_task(world: World) -> None:
    assert await world.play(flows.Produces, world.queue, payload={"mathematic": {"input": 7}}) == Seen(
        70,
        record("done", {"mathematic": {"input": 7, "result": 70}, "seen": True}, 4),
        [
            ("created", 1, "new", ["payload.mathematic", "status"]),
            ("patched", 2, "sent", ["status"]),
            ("patched", 3, "sent", ["payload.seen"]),
            ("patched", 4, "done", ["payload.mathematic", "status"]),
        ],
    )


async def test_a_child_has_a_task_of_its_own_if_it_is_given_a_payload(world: World) -> None:
    seen = await world.play(flows.HasChildWithTask, world.queue)
    assert seen.outcome == {"result": 8, "own": True, "shared": True}
    assert seen.record == record("new", {"by child": 1}, 2)


async def test_state_writes_what_changed_key_by_key(world: World) -> None:
    payload: dict[str, JsonData] = {"gone": 1, "list": [1, 2], "stays": {"a": 1}}
    assert await world.play(flows.EditsState, payload=payload) == Seen(
        ["list", "new", "stays"],
        record("new", {"list": [1, 2, 3], "new": {"deep": [1, 2.0, None]}, "stays": {"a": 1}}, 2),
        [
            ("created", 1, "new", ["payload.gone", "payload.list", "payload.stays", "status"]),
            ("patched", 2, "new", ["payload.gone", "payload.list", "payload.new"]),
        ],
    )


async def test_state_keeps_what_a_child_wrote_meanwhile(world: World) -> None:
    seen = await world.play(flows.KeepsWhatOthersWrite, world.queue)
    assert seen.record == record("new", {"mine": 1, "theirs": 2}, 3)


async def test_an_exception_fails_the_flow_once(world: World) -> None:
    assert await world.play(flows.Fails) == Seen(
        ("LookupError", "no such thing: 7"),
        record("failing", {}, 2),
        [("created", 1, "new", ["status"]), ("patched", 2, "failing", ["status"])],
    )


async def test_a_flow_with_a_retry_policy_begins_anew(world: World, prefix: str) -> None:
    retry = {"initial_interval": 0.05, "backoff": 1.0, "maximum_attempts": 5}
    handle, uuid = await flows.FailsTwice.start(prefix + world.queue, queue=world.queue, retry=retry)
    seen = await world.see(uuid, await handle.result())
    assert seen.outcome == 3
    assert seen.record == record("new", {"tries": 3}, 4)


async def test_what_is_left_of_a_deleted_task(world: World) -> None:
    seen = await world.play(flows.UsesDeletedTask, payload={"a": 1})
    assert seen.outcome == [
        "exists True",
        "exists False",
        "load_task: TaskNotFoundError True",
        "delete_task: TaskNotFoundError True",
        "_patch: TaskNotFoundError True",
        "get_task: True {'a': 1}",
    ]
    assert seen.record == record("new", {"a": 1}, 2, exists=False)
    assert [event for event, *_ in seen.stream] == ["created", "deleted"]


async def test_a_task_that_is_removed_at_once(world: World) -> None:
    seen = await world.play(flows.RemovesTask)
    assert (seen.outcome, seen.record) == ("gone", None)
    assert [event for event, *_ in seen.stream] == ["created", "deleted"]


async def test_a_flow_fails_with_the_named_error(world: World) -> None:
    seen = await world.play(flows.FailsForWantOfTask)
    assert isinstance(seen.outcome, tuple)
    assert seen.outcome[0] == "TaskNotFoundError"
    assert "it is deleted" in seen.outcome[1]


VALUES: tuple[JsonData, ...] = (
    42,
    "42",
    42.0,
    True,
    False,
    None,
    "",
    0,
    [],
    {},
    [[], {}, [None]],
    2**63,
    -(2**63),
    1e300,
    {"": "", "a.b": {"c": [1, 1.0, "1", True, None]}},
    "é\u2028\U0001f600\\\"'",
    "x" * 40_000,
)


async def test_every_json_value_comes_back_with_its_type(world: World) -> None:
    value = list(VALUES)
    seen = await world.play(flows.Echoes, value, payload={"value": value})
    assert same(seen.outcome, {"argument": value, "activity": value})  # type: ignore[arg-type]
    assert seen.record is not None
    assert same(seen.record["payload"], {"value": value, "again": value, "argument": value})


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}, "null"], ids=json.dumps)
async def test_empty_values_are_not_mistaken_for_none(world: World, value: JsonData) -> None:
    seen = await world.play(flows.Echoes, value, payload={"value": value})
    assert same(seen.outcome, {"argument": value, "activity": value})  # type: ignore[arg-type]


async def test_arguments_and_results_have_the_declared_types(world: World) -> None:
    when = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    line = Line("ink", 3)
    order = Order(lines=[line], at=when, colour=Colour.RED)
    seen = await world.play(flows.TakesTypes, order, line, when)
    assert seen.outcome == Order(lines=[line, line], at=when, colour=Colour.RED)
    assert seen.record == record("new", {"line": to_json(line), "when": when.isoformat(), "note": None}, 2)


async def test_activities(world: World, prefix: str) -> None:
    seen = await world.play(flows.Acts, prefix + world.queue)
    # Three tries of the one that breaks, and the call after it.
    assert seen.outcome == {"plain": 42, "refused": "not this way", "broken": True, "tries": 4}


async def test_an_activity_that_takes_too_long(world: World) -> None:
    seen = await world.play(flows.ActsTooLong, world.queue)
    assert seen.outcome == {"timed out": True, "again": 0}


async def test_an_activity_of_another_queue(world: World) -> None:
    async with World(f"{world.queue}-other"):
        seen = await world.play(flows.ActsElsewhere, f"{world.queue}-other")
    assert seen.outcome == [8, "not this way"]


async def test_a_started_child_that_fails(world: World) -> None:
    seen = await world.play(flows.StartsOneThatFails, world.queue)
    assert seen.outcome == [True, True]


async def test_a_flow_sleeps(world: World) -> None:
    seen = await world.play(flows.Sleeps, 0.05)
    assert seen.outcome == 3
    assert seen.record == record("new", {"n": 2}, 4)


async def test_a_child_that_failed_is_not_run_again(world: World) -> None:
    assert await world.play(flows.SurvivesItsChild, world.queue) == Seen(
        True,
        record("survived", {}, 3),
        [
            ("created", 1, "new", ["status"]),
            ("patched", 2, "failing", ["status"]),
            ("patched", 3, "survived", ["status"]),
        ],
    )


async def test_a_childs_error_fails_its_parent(world: World) -> None:
    seen = await world.play(flows.FailsWithItsChild, world.queue)
    assert seen.outcome == ("LookupError", "no such thing: 7")
    assert seen.record == record("failing", {}, 2)


async def test_a_child_that_takes_too_long(world: World) -> None:
    seen = await world.play(flows.LosesPatience, world.queue)
    assert seen.outcome == "child took too long"


async def test_children_side_by_side_lose_nothing(world: World) -> None:
    seen = await world.play(flows.ManyChildren, world.queue)
    assert seen.outcome == 8
    assert seen.record == record("new", {f"k{number}": number for number in range(8)}, 9)


async def test_parameters_are_read_by_their_paths(world: World) -> None:
    seen = await world.play(flows.Parameters, payload={"a": {"b": 1}, "d": [2]})
    assert seen.outcome == {"one": 1, "default": None, "many": {"a.b": 1, "d": [2]}, "id": True}


async def test_a_uuid_is_used_once(world: World, prefix: str) -> None:
    handle, uuid = await flows.Sleeps.start(0.05, uuid=prefix, queue=world.queue)
    assert (handle.id, uuid) == (prefix, prefix)
    with pytest.raises(TaskAlreadyExistsError, match=prefix):
        await flows.Sleeps.start(0.05, uuid=prefix, queue=world.queue)
    assert await handle.result() == 3
    with pytest.raises(TaskAlreadyExistsError, match=prefix):
        await flows.Sleeps.start(0.05, uuid=prefix, queue=world.queue)
    assert (await world.see(uuid)).record == record("new", {"n": 2}, 4)


async def test_a_workflow_id_is_used_once(world: World, prefix: str) -> None:
    handle, uuid = await flows.Sleeps.start(0.05, workflow_id=prefix, queue=world.queue)
    assert handle.id == prefix
    assert uuid != prefix
    other = f"{prefix}-other"
    with pytest.raises(TaskAlreadyExistsError, match=prefix):
        await flows.Sleeps.start(0.05, workflow_id=prefix, uuid=other, queue=world.queue)
    assert await handle.result() == 3
    assert (await world.see(other)).record is None


async def test_flows_are_started_by_class_path_and_name(world: World) -> None:
    for flow in (flows.Doubles, "tests.r7kit.scenarios.flows.Doubles", "Doubles"):
        handle = await submit_workflow(flow, payload={"input": 2}, queue=world.queue, memo={"why": "test"})
        assert await handle.result() == 4


async def test_an_activity_may_start_flows(world: World) -> None:
    seen = await world.play(flows.StartsInActivity, world.queue)
    assert seen.outcome == 8
