"""Creating a task and starting its flow belong together."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from r7kit import config
from r7kit.engines import close_engines
from r7kit.exceptions import TaskAlreadyExistsError, TaskNotFoundError, TemporalNotConnected
from r7kit.stores import close_stores
from r7kit.tasks import get_task
from r7kit.workflow_utils import submit_workflow
from tests.r7kit.temporal import flows
from tests.r7kit.temporal.stage import Stage
from tests.support.servers import ServerProcess
from tests.support.temporal import TemporalProcess

ROOT = Path(__file__).parents[3]


async def run_client(stage: Stage, uuid: str, die_at: str) -> int:
    settings = config.current()
    told = {
        "url": settings.redis_url,
        "address": settings.temporal_address,
        "stream": settings.stream_default,
        "queue": stage.queue,
        "uuid": uuid,
        "die_at": die_at,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.r7kit.temporal.client_program", json.dumps(told), cwd=ROOT
    )
    return await process.wait()


async def test_a_client_killed_before_its_flow_leaves_a_record_that_vanishes(stage: Stage) -> None:
    uuid = f"{stage.name}-uuid"
    assert await run_client(stage, uuid, "created") == -signal.SIGKILL
    assert 0 < await stage.redis.ttl(f"task:{uuid}") <= 60
    # The same start once more, with the record still there: one task, and its flow.
    assert await run_client(stage, uuid, "") == 0
    client = await stage.client()
    assert await client.get_workflow_handle(uuid).result() == uuid
    assert [entry[0] for entry in await stage.entries(uuid)] == ["created", "patched"]
    assert await stage.redis.ttl(f"task:{uuid}") > 60


async def test_a_client_killed_after_its_flow_started_leaves_a_whole_task(stage: Stage) -> None:
    uuid = f"{stage.name}-uuid"
    assert await run_client(stage, uuid, "started") == -signal.SIGKILL
    client = await stage.client()
    assert await client.get_workflow_handle(uuid).result() == uuid
    assert await stage.redis.ttl(f"task:{uuid}") > 60
    assert (await stage.record(uuid))["payload.given"] == "json:1"


async def test_a_flow_taken_up_late_writes_its_record_itself(own_stage: Stage) -> None:
    uuid = f"{own_stage.name}-uuid"
    await own_stage.end_worker()
    assert await run_client(own_stage, uuid, "started") == -signal.SIGKILL
    assert await own_stage.redis.delete(f"task:{uuid}", f"task:{uuid}:ops") == 2  # as Redis does after 60 seconds
    async with Stage(own_stage.queue):
        client = await own_stage.client()
        assert await client.get_workflow_handle(uuid).result() == uuid
        assert (await own_stage.record(uuid))["payload.given"] == "json:1"
        assert await own_stage.redis.ttl(f"task:{uuid}") > 60


async def test_a_taken_uuid_is_refused_and_its_task_stays_as_it_is(stage: Stage) -> None:
    handle, uuid = await flows.Child.start(queue=stage.queue, payload={"given": 1})
    await handle.result()
    before = await stage.record(uuid)
    with pytest.raises(TaskAlreadyExistsError, match=uuid):
        await flows.Child.start(queue=stage.queue, uuid=uuid, payload={"given": 2})
    assert await stage.record(uuid) == before


async def test_a_taken_workflow_id_is_refused_and_leaves_no_task(stage: Stage) -> None:
    id_ = f"{stage.name}-id"
    first, uuid = await flows.Child.start(queue=stage.queue, workflow_id=id_)
    assert await first.result() == uuid
    second = f"{stage.name}-second"
    with pytest.raises(TaskAlreadyExistsError, match=id_):
        await flows.Child.start(queue=stage.queue, workflow_id=id_, uuid=second)
    with pytest.raises(TaskNotFoundError):
        await get_task(second)
    assert [entry[0] for entry in await stage.entries(second)] == ["created", "deleted"]


async def test_a_second_start_does_not_take_the_record_from_a_running_flow(own_stage: Stage) -> None:
    """The second start of the same content may find the record and lose the race for the flow."""
    uuid = f"{own_stage.name}-uuid"
    await own_stage.end_worker()  # so that nobody confirms but the clients
    outcomes = await asyncio.gather(
        *(flows.Child.start(queue=own_stage.queue, uuid=uuid, payload={"given": 1}) for _ in range(8)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, TaskAlreadyExistsError)]
    assert len(refused) == 7, outcomes
    assert (await own_stage.record(uuid))["payload.given"] == "json:1"
    async with Stage(own_stage.queue):
        client = await own_stage.client()
        assert await client.get_workflow_handle(uuid).result() == uuid
    assert [entry[0] for entry in await own_stage.entries(uuid)] == ["created", "patched"]


async def test_a_refusal_of_the_server_deletes_the_record(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = f"{stage.name}-uuid"
    with pytest.raises(RPCError) as caught:
        await flows.Child.start(queue=stage.queue, uuid=uuid, search={"NoSuchAttribute": 1})
    assert caught.value.status is RPCStatusCode.INVALID_ARGUMENT
    assert await stage.record(uuid) == {}


async def test_a_lost_reply_leaves_the_record_to_its_flow(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = f"{stage.name}-uuid"
    start = Client.start_workflow

    async def lost(*args: object, **kwargs: object) -> None:
        await start(*args, **kwargs)  # type: ignore[call-overload]
        raise RPCError("the reply was lost", RPCStatusCode.UNAVAILABLE, b"")

    with monkeypatch.context() as patch:
        patch.setattr(Client, "start_workflow", lost)
        with pytest.raises(TemporalNotConnected, match="may have been started"):
            await flows.Child.start(queue=stage.queue, uuid=uuid, payload={"given": 1})
    with pytest.raises(TaskAlreadyExistsError):
        await flows.Child.start(queue=stage.queue, uuid=uuid, payload={"given": 1})
    client = await stage.client()
    assert await client.get_workflow_handle(uuid).result() == uuid
    assert [entry[0] for entry in await stage.entries(uuid)] == ["created", "patched"]


async def test_no_temporal_no_task(settings: config.Settings, server: ServerProcess) -> None:
    config.configure(temporal_address="127.0.0.1:1")
    uuid = f"{settings.stream_default}-uuid"
    with pytest.raises(TemporalNotConnected, match=r"127\.0\.0\.1:1"):
        await flows.Child.start(uuid=uuid)
    with pytest.raises(TemporalNotConnected):
        await submit_workflow("Child")
    with pytest.raises(TaskNotFoundError):
        await get_task(uuid)
    await close_engines()
    await close_stores()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"uuid": ""}, ValueError),
        ({"payload": [1]}, TypeError),
        ({"payload": {"a": float("nan")}}, ValueError),
        ({"status": ""}, ValueError),
        ({"retry": {"attempts": 1}}, ValueError),
        ({"retry": {"maximum_attempts": -1}}, ValueError),
        ({"retry": 3}, TypeError),
        ({"memo": {"r7kit.task": 1}}, ValueError),
        ({"queue": " "}, ValueError),
        ({"workflow_id": ""}, ValueError),
    ],
)
async def test_bad_arguments_write_nothing(
    settings: config.Settings, arguments: dict[str, object], error: type[Exception]
) -> None:
    config.configure(redis_url="redis://127.0.0.1:1")  # whoever writes fails otherwise
    with pytest.raises(error):
        await flows.Child.start(**arguments)  # type: ignore[arg-type]


async def test_wrong_arguments_of_handle_are_refused_at_the_start(settings: config.Settings) -> None:
    with pytest.raises(TypeError, match=r"Failing\.handle"):
        await flows.Failing.start()
    with pytest.raises(TypeError, match=r"Child\.handle"):
        await flows.Child.start("k", False, "more")


def test_starts_work_from_one_event_loop_after_the_other(
    settings: config.Settings, temporal: TemporalProcess, prefix: str
) -> None:
    config.configure(temporal_address=temporal.address)

    async def start_one() -> str:
        handle, uuid = await flows.Child.start(queue=prefix)
        assert isinstance(handle, WorkflowHandle)
        await handle.terminate()
        return uuid

    assert len({asyncio.run(start_one()) for _ in range(3)}) == 3
