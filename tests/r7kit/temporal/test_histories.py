"""Histories of flows that earlier versions began go on with this one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import taskflow
from r7kit.runtimes.temporal.options import TemporalOptions
from r7kit.runtimes.temporal.server import sandbox
from tests.r7kit.temporal import flows
from tests.r7kit.temporal.record_histories import takes

HISTORIES = Path(__file__).parents[1] / "histories"
KEPT = sorted(HISTORIES.glob("*/*.json"))


def load(path: Path) -> WorkflowHistory:
    content = json.loads(path.read_text("utf-8"))
    return WorkflowHistory.from_json(content.pop("id"), content)


async def test_kept_histories_replay() -> None:
    assert len(KEPT) >= 50
    replayer = Replayer(
        workflows=list({take.flow for take in takes()}),
        data_converter=pydantic_data_converter,
        workflow_runner=sandbox(TemporalOptions()),
    )
    histories = [load(path) for path in KEPT]

    async def each() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    results = await replayer.replay_workflows(each(), raise_on_replay_failure=False)
    assert results.replay_failures == {}


async def test_a_flow_that_changed_its_steps_does_not_replay() -> None:
    @taskflow()
    class MyFlow(BaseTaskWorkflow):
        async def handle(self) -> int:
            await self.delete_task()
            return 1

    replayer = Replayer(
        workflows=[MyFlow],
        data_converter=pydantic_data_converter,
        unsandboxed_workflow_runner=UnsandboxedWorkflowRunner(),
    )
    path = next(path for path in KEPT if path.stem.endswith("MyFlow"))
    with pytest.raises(workflow.NondeterminismError):
        await replayer.replay_workflow(load(path))


def test_every_flow_is_kept() -> None:
    kept = {path.stem.partition("-")[2] for path in KEPT}
    assert kept >= {take.flow.__name__ for take in takes()}
    assert flows.MyFlow.__name__ in kept
