from __future__ import annotations

from temporalio import activity as temporal_activity
from temporalio import workflow

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import taskflow
from tests.r7kit.temporal.flows import MyFlow as Imported

__all__ = ["Deep", "Imported"]  # what is merely imported is not served


@taskflow()
class Deep(BaseTaskWorkflow):
    async def handle(self) -> int:
        return 3


@workflow.defn
class Plain:
    @workflow.run
    async def run(self, x: int) -> int:
        return x + 1


@temporal_activity.defn
async def plain_activity() -> int:
    return 5
