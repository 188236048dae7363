from __future__ import annotations

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow
from tests.r7kit.packages.good.more.deep import Deep

__all__ = ["Deep"]


@taskflow(queue="good-queue")
class Good(BaseTaskWorkflow):
    async def handle(self) -> int:
        return 1


class Undecorated(Good):
    async def handle(self) -> int:
        return 2


@activity
def helps() -> int:
    return 1
