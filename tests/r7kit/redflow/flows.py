"""Flows for the tests of faults."""

from __future__ import annotations

import asyncio
import os

from r7kit.acting import act
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow
from r7kit.workflow_utils import sleep


@activity
async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


@activity
async def pid() -> int:
    return os.getpid()


@taskflow(queue="faults")
class Counts(BaseTaskWorkflow):
    """Patches its task again and again, with a pause and sometimes a sleep between."""

    async def handle(self, times: int, pause_s: float) -> int:
        await self.load_task()
        for number in range(times):
            await self.patch_task({"status": "counting", "payload": {f"n{number}": number, "last": number}})
            await act("pause", pause_s)
            if number % 5 == 4:
                await sleep(0.01)
        await self.patch_task({"status": "done"})
        return times


@taskflow(queue="faults")
class Drains(BaseTaskWorkflow):
    async def handle(self) -> int:
        await self.patch_task({"status": "begun"})
        await act("pause", 1.0)
        await self.patch_task({"status": "ended"})
        return await act("pid")  # type: ignore[no-any-return]


@taskflow(queue="faults")
class SleepsLong(BaseTaskWorkflow):
    async def handle(self, seconds: float) -> str:
        await sleep(seconds)
        await self.load_task()
        return str(self.payload["given"])


@taskflow(queue="faults")
class Doubles(BaseTaskWorkflow):
    async def handle(self) -> int:
        await self.load_task()
        await self.patch_task({"status": "done"})
        return int(self.payload["input"]) * 2


@taskflow(queue="faults")
class UsesTemporal(BaseTaskWorkflow):
    async def handle(self) -> None:
        from temporalio import workflow

        await workflow.sleep(1)
