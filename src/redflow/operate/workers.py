"""`client.workers`: who lives, what they serve and run, and drain."""

from __future__ import annotations

from redflow.operate.base import Namespace, checked_page, not_found
from redflow.types import DrainEnd, WorkerInfo, WorkerPage


class WorkerOperations(Namespace):
    """Live workers, by the ids that `list` tells."""

    async def list(self, *, cursor: str | None = None, limit: int = 50) -> WorkerPage:
        """One page of live workers, by id.

        Args:
            cursor: `next_cursor` of the page before.
            limit: how many at most, 1 to 200.
        """
        return await self._engine.workers(cursor, checked_page(limit))

    async def get(self, worker_id: str) -> WorkerInfo:
        """One live worker.

        Raises:
            NotFoundError: none lives under that id.
        """
        found = await self._engine.worker(worker_id)
        if found is None:
            raise not_found("live worker", worker_id)
        return found

    async def drain(self, worker_id: str, *, then: DrainEnd = "idle") -> None:
        """Have a worker claim nothing more; what it runs goes on to its end.

        It is told through Redis: at once if it listens, else by its next claim, a second later at most.

        Args:
            worker_id: of the worker.
            then: "idle": it stays, and claims again after `resume`. "stop": a process of `redflow worker` ends when its
                last run has, and is not replaced; a worker in a program of its own stays idle all the same.

        Raises:
            NotFoundError: none lives under that id.
        """
        if then not in ("idle", "stop"):
            raise ValueError(f"then must be 'idle' or 'stop', got {then!r:.100}")
        await self._tell(worker_id, then)

    async def resume(self, worker_id: str) -> None:
        """Have a drained worker claim again.

        Raises:
            NotFoundError: none lives under that id.
        """
        await self._tell(worker_id, None)

    async def _tell(self, worker_id: str, end: DrainEnd | None) -> None:
        if not await self._engine.drain_worker(worker_id, end):
            raise not_found("live worker", worker_id)
