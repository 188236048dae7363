"""temporal: durable workflows on Temporal's own server, here its dev server. Steps are activities."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client as Temporal
from temporalio.client import WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload

_QUEUE = "benchmark"
_LIMIT = timedelta(seconds=60)


@activity.defn
async def double(data: Payload) -> Payload:
    """The step of `one`."""
    return work.double(data)


@activity.defn
async def add_one(number: int) -> int:
    """A step of `ten`."""
    return work.add_one(number)


@workflow.defn(name="one")
class One:
    """One step."""

    @workflow.run
    async def run(self, data: Payload) -> Payload:
        return await workflow.execute_activity(double, data, start_to_close_timeout=_LIMIT)


@workflow.defn(name="ten")
class Ten:
    """Ten steps."""

    @workflow.run
    async def run(self, data: Payload) -> int:
        number = int(data["n"])
        for _ in range(work.STEPS_IN_TEN):
            number = await workflow.execute_activity(add_one, number, start_to_close_timeout=_LIMIT)
        return number


@workflow.defn(name="parent")
class Parent:
    """A hundred children."""

    @workflow.run
    async def run(self, datas: list[Payload]) -> list[Payload]:
        return list(await asyncio.gather(*[workflow.execute_child_workflow(One.run, data) for data in datas]))


class Client(stage.Client):
    """Temporal's client."""

    durable = True
    look_every_s = 0.1

    async def open(self) -> None:
        self._temporal = await Temporal.connect(self.settings.url)

    async def start(self, kind: Kind, data: Payload) -> Any:
        return await self._temporal.start_workflow(kind, data, id=uuid.uuid4().hex, task_queue=_QUEUE)

    async def ended(self, started: int) -> int:
        return (await self._temporal.count_workflows("ExecutionStatus != 'Running'")).count

    async def stored_output(self, run: WorkflowHandle[Any, Any]) -> object:
        return await run.result()

    async def stored_steps(self, run: WorkflowHandle[Any, Any]) -> list[object]:
        found: list[object] = []
        async for happened in run.fetch_history_events():
            if happened.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                payloads = happened.activity_task_completed_event_attributes.result.payloads
                found += await self._temporal.data_converter.decode(payloads)
        return found

    async def result(self, run: WorkflowHandle[Any, Any]) -> object:
        return await run.result()

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        outputs: list[object] = await self._temporal.execute_workflow(
            "parent", list(datas), id=uuid.uuid4().hex, task_queue=_QUEUE
        )
        return outputs


async def _work(given: Config) -> None:
    client = await Temporal.connect(given.url)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    async with Worker(
        client,
        task_queue=_QUEUE,
        workflows=[One, Ten, Parent],
        activities=[double, add_one],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_workflow_tasks=max(2, given.concurrency),
        max_concurrent_activities=given.concurrency,
    ):
        await ending.wait()


def _worker(given: Config) -> None:
    asyncio.run(_work(given))


if __name__ == "__main__":
    stage.main(Client, _worker)
