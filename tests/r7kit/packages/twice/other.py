from __future__ import annotations

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import taskflow


@taskflow()
class Same(BaseTaskWorkflow):
    async def handle(self) -> int:
        return 2
