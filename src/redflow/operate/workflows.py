"""`client.workflows`: registered workflows with their counts, and pause and resume."""

from __future__ import annotations

from redflow.domain.names import check_name
from redflow.operate.base import Namespace, checked_page, checked_reason, not_found
from redflow.types import WorkflowPage


class WorkflowOperations(Namespace):
    """Workflows, by name."""

    async def list(self, *, cursor: str | None = None, limit: int = 50) -> WorkflowPage:
        """One page of registered workflows and how many runs they have by status, by name.

        Args:
            cursor: `next_cursor` of the page before.
            limit: how many at most, 1 to 200.
        """
        return await self._engine.workflows(cursor, checked_page(limit))

    async def pause(self, name: str, *, reason: str = "") -> bool:
        """Let no run of a workflow start or go on after a sleep; what runs goes on, and new runs wait in line.

        A run that was interrupted within a step is still recovered. Cron ticks go on to start runs, which wait: pause
        its schedules if they shall not.

        Args:
            name: of the workflow.
            reason: shown by `explain_run` and the lists.

        Returns:
            Whether that changed anything.

        Raises:
            NotFoundError: nobody registered such a workflow.
        """
        await self._check(name)
        return await self._engine.pause("workflow", name, checked_reason(reason))

    async def resume(self, name: str) -> bool:
        """Let the runs of a paused workflow start again; returns whether it was paused.

        Raises:
            NotFoundError: nobody registered such a workflow.
        """
        await self._check(name)
        return await self._engine.resume("workflow", name)

    async def _check(self, name: str) -> None:
        check_name(name, what="workflow name")
        if await self._client.engine.get_workflow_meta(name) is None:
            raise not_found("workflow", name, await self._client.engine.list_workflows())
