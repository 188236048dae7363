"""`client.queues`: how long the lines are, and pause and resume."""

from __future__ import annotations

from redflow.domain.names import check_name
from redflow.operate.base import Namespace, checked_page, checked_reason, not_found
from redflow.types import QueuePage


class QueueOperations(Namespace):
    """Queues, by their scoped names (`app:queue`, as `get_run` shows them)."""

    async def list(self, *, cursor: str | None = None, limit: int = 50) -> QueuePage:
        """One page of queues with their lines, by name.

        Queues are those of registered workflows, of live workers, those that are paused, and those that runs were sent
        to by `queue_override`, of which the last 10,000 are remembered.

        Args:
            cursor: `next_cursor` of the page before.
            limit: how many at most, 1 to 200.

        Example:
            >>> page = await client.queues.list()
            >>> [(queue["queue"], queue["waiting"]) for queue in page["queues"]]
            [('shop:default', 17)]
        """
        return await self._engine.queues(cursor, checked_page(limit))

    async def pause(self, queue: str, *, reason: str = "") -> bool:
        """Let no run of a queue start; what runs goes on to its end, and new runs wait in line.

        Interrupted runs of the queue wait as well. Of several shards one is told after the other.

        Args:
            queue: scoped name.
            reason: shown by `explain_run` and the lists.

        Returns:
            Whether that changed anything.

        Raises:
            NotFoundError: nobody knows such a queue.
        """
        await self._check(queue)
        return await self._engine.pause("queue", queue, checked_reason(reason))

    async def resume(self, queue: str) -> bool:
        """Let the runs of a paused queue start again; returns whether it was paused.

        Raises:
            NotFoundError: nobody knows such a queue.
        """
        await self._check(queue)
        return await self._engine.resume("queue", queue)

    async def _check(self, queue: str) -> None:
        check_name(queue, what="queue")
        known = await self._engine.queue_names()
        if queue not in known:
            raise not_found("queue", queue, known)
