"""Flows that sleep for days, on the server that skips time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from r7kit import config
from tests.r7kit.temporal.stage import Stage
from tests.support.temporal import test_server_binary as binary


@pytest.fixture
async def skipping(settings: config.Settings) -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=str(binary())
    ) as environment:
        yield environment


async def test_a_month_passes_and_the_task_lives(skipping: WorkflowEnvironment, prefix: str) -> None:
    address = skipping.client.service_client.config.target_host
    config.configure(temporal_address=address, task_ttl=86_400)
    async with Stage(prefix) as stage:
        handle = await skipping.client.start_workflow(
            "Clock", id=f"{prefix}-clock", task_queue=prefix, result_type=float
        )
        assert 30 <= await handle.result() < 30.1
        # Twice a day the task's life was renewed: 1 confirmation, 59 or 60 renewals, 1 patch.
        history = await stage_history(skipping, handle.id)
        assert 59 <= history.count("r7kit.create") <= 62
        assert (await stage.record(handle.id))["status"] == "awake"


async def test_a_child_that_takes_too_long(skipping: WorkflowEnvironment, prefix: str) -> None:
    config.configure(temporal_address=skipping.client.service_client.config.target_host)
    async with Stage(prefix):
        handle = await skipping.client.start_workflow("Late", id=f"{prefix}-late", task_queue=prefix)
        assert await handle.result() == "TimeoutError"


async def stage_history(environment: WorkflowEnvironment, workflow_id: str) -> list[str]:
    history = await environment.client.get_workflow_handle(workflow_id).fetch_history()
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
