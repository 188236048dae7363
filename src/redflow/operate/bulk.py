"""A bulk job: cancels or retries all runs that a filter matches, in chunks, and tells how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from redflow.domain.paging import check_search
from redflow.engine_operations import Operations
from redflow.types import BulkAction, BulkProgress, RunCount, RunStatus, SearchRunsParams

ELIGIBLE: Final[dict[BulkAction, tuple[RunStatus, ...]]] = {
    "cancel": ("scheduled", "queued", "running"),
    "retry": ("failed",),
}
"""The statuses from which each action changes anything."""

_CHANGED: Final = ("canceled", "requested", "retried")


class BulkJob:
    """Cancels or retries all runs that match, oldest first; made by `client.operate.cancel_all` and `retry_all`.

    It works in this process, in chunks, and stops with it: what was done stays done, and nothing goes on by itself. A
    new job with the same filter does the rest; given the `cursor` of the last progress it passes over what was looked
    at. Runs that are created after the job has begun are left alone, and so are those a retry made fail once more.

    Example:
        >>> job = client.operate.retry_all(SearchRunsParams(workflow="charge", error="CardDeclined"))
        >>> (await job.preview())["count"]
        1240
        >>> async for progress in job:
        ...     print(progress["seen"], "of", progress["total"])
    """

    def __init__(
        self,
        engine: Operations,
        action: BulkAction,
        params: SearchRunsParams,
        act: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
    ) -> None:
        check_search(params)
        eligible = ELIGIBLE[action]
        if params.status is not None and params.status not in eligible:
            raise ValueError(f"{action} is for runs that are {' or '.join(eligible)}, not {params.status}")
        self._engine = engine
        self._action: BulkAction = action
        self._params = params
        self._act = act
        self._statuses = eligible if params.status is None else (params.status,)
        self._last: BulkProgress | None = None

    async def preview(self) -> RunCount:
        """How many runs the job would change now; changes nothing."""
        return await self._engine.count_matching(await self._bounded(), self._statuses)

    @property
    def progress(self) -> BulkProgress | None:
        """How far it is; None before it has begun."""
        return self._last

    async def run(self) -> BulkProgress:
        """Do all of it; returns the last progress."""
        async for _ in self:
            pass
        assert self._last is not None
        return self._last

    async def __aiter__(self) -> AsyncIterator[BulkProgress]:
        """The progress after each chunk; the first one, of nothing done yet, tells the total."""
        params = await self._bounded()
        count = await self._engine.count_matching(params, self._statuses)
        progress: BulkProgress = {
            "action": self._action,
            "total": count["count"],
            "exact": count["exact"],
            "seen": 0,
            "changed": 0,
            "skipped": 0,
            "done": False,
        }
        self._last = progress
        yield progress
        while not progress["done"]:
            run_ids, following = await self._engine.find_matching(params, self._statuses)
            answers = await self._act(run_ids) if run_ids else ()
            changed = sum(answer in _CHANGED for answer in answers)
            progress = {
                **progress,
                "seen": progress["seen"] + len(run_ids),
                "changed": progress["changed"] + changed,
                "skipped": progress["skipped"] + len(run_ids) - changed,
                "done": following is None,
            }
            if following is not None:
                progress["cursor"] = following
                params = replace(params, cursor=following)
            self._last = progress
            yield progress

    async def _bounded(self) -> SearchRunsParams:
        """The filter, in the order of creation, without runs that are created from now on."""
        now = await self._engine.server_time()
        before = now if self._params.created_before is None else min(now, self._params.created_before)
        return replace(self._params, sort="asc", created_before=before)
