"""A producer that has a processor do the work: two flows, one task."""

from __future__ import annotations

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow
from r7kit.tasks import act
from r7kit.workflow_utils import sleep


@taskflow(queue="producer-queue")
class ProducerWorkflow(BaseTaskWorkflow):
    """Takes a number from its task, has it processed, and writes down what came of it."""

    async def handle(self) -> int:
        """The flow."""
        await self.load_task()
        x = int(self.payload["mathematic"]["input"])
        await self.patch_task({"status": "sent"})
        res = int(await self.child("ProcessorWorkflow", queue="processor-queue").run())
        await self.patch_task({"status": "done", "payload": {"mathematic": {"input": x, "result": res}}})
        await self.delete_task(ttl=10)
        return res


@taskflow(queue="processor-queue")
class ProcessorWorkflow(BaseTaskWorkflow):
    """Works on the same task, on a queue and a worker of its own."""

    async def handle(self) -> int:
        """The flow."""
        async with self.state():
            self.payload["processing"] = {"by": "ProcessorWorkflow"}
        await sleep(0.5)
        result = int(await act("multiply", self.payload["mathematic"]["input"], 6))
        await self.patch_task(
            {"status": "processed", "payload": {"processing": {"by": "ProcessorWorkflow", "ok": True}}}
        )
        return result


@activity
def multiply(x: int, y: int) -> int:
    """What a flow may not do itself goes into an activity: I/O, long computing, anything that may differ next time."""
    return x * y
