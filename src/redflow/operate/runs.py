"""`client.operate`: repair runs, one or many, and look at many at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from redflow._ids import next_run_id
from redflow.domain.paging import check_search
from redflow.domain.payload import encode
from redflow.errors import LimitExceededError, RunStateError
from redflow.handle import RunHandle
from redflow.operate.base import Namespace, checked_reason, not_found
from redflow.operate.bulk import BulkJob
from redflow.types import (
    ALL_STATUSES,
    UNCHANGED,
    ExportedRun,
    FailureGroups,
    JsonData,
    RunBucket,
    RunCount,
    RunState,
    SearchRunsParams,
    Unchanged,
)

_MOST_AT_ONCE: Final = 1_000
_MOST_SCANNED: Final = 10_000
_MOST_BUCKETS: Final = 500
_CHUNK: Final = 100


class RunOperations(Namespace):
    """What is done to runs beyond starting and canceling one."""

    async def retry_run(self, run_id: str) -> RunHandle[JsonData]:
        """Let a failed run go on from the step that failed, as the same run.

        Finished steps keep their results and are not called again; the failed ones are. The run gets as many further
        attempts as it was created with, a new time-out if it has one, and stands at the back of its queue. Whoever was
        told that it failed is not told anew: a parent's step has its answer, so retry the parent instead of its child.
        Its on_failure is called once more if it fails again.

        Raises:
            NotFoundError: there is no such run.
            RunStateError: it has not failed; `status` says what it is.
        """
        answer = (await self._engine.retry_runs([run_id]))[0]
        if answer == "unknown":
            raise not_found("run", run_id)
        if answer != "retried":
            raise RunStateError(f"only a failed run can be retried; {run_id} is {answer}", status=answer)
        return RunHandle(run_id, self._client)

    async def rerun(self, run_id: str, *, input: object | Unchanged = UNCHANGED) -> RunHandle[JsonData]:
        """Start a new run like another one, whatever became of that: its workflow, queue, attempts, priority, time-out.

        Nothing of the other run's steps is taken over, nor its idempotency key, its debounce or its parent; `rerun_of`
        of the new run names it.

        Args:
            run_id: the other run.
            input: JSON in place of its input.

        Raises:
            NotFoundError: there is no such run.
            TypeError, ValueError, PayloadTooLargeError: the input is not JSON, or too large.
        """
        data = None if input is UNCHANGED else encode(input, what="input")
        new_id = await self._engine.rerun(run_id, next_run_id(int(time.time() * 1000)), data, self._client.app)
        if new_id is None:
            raise not_found("run", run_id)
        return RunHandle(new_id, self._client)

    async def cancel_runs(self, run_ids: Sequence[str], *, reason: str = "") -> list[str]:
        """Cancel many runs by id; see `cancel_run`.

        Args:
            run_ids: at most 1,000.
            reason: kept with each.

        Returns:
            For each, in order: "canceled", "requested" (it runs, its worker was asked), "finished", "decided" (it has
            failed, and its on_failure is being called) or "unknown".

        Raises:
            LimitExceededError: there are more than 1,000; nothing was done.
        """
        return await self._engine.cancel_runs(_few(run_ids), checked_reason(reason))

    async def retry_runs(self, run_ids: Sequence[str]) -> list[str]:
        """Retry many failed runs by id; see `retry_run`.

        Args:
            run_ids: at most 1,000.

        Returns:
            For each, in order: "retried", "unknown", or the status that it has instead of failed.

        Raises:
            LimitExceededError: there are more than 1,000; nothing was done.
        """
        return await self._engine.retry_runs(_few(run_ids))

    def cancel_all(self, params: SearchRunsParams, *, reason: str = "") -> BulkJob:
        """A job that cancels all unfinished runs that match; it begins when it is iterated or `run`.

        Args:
            params: what they have in common, as for `search_runs`; `cursor` is where to begin, `limit` the runs of a
                chunk, and `sort` does not matter.
            reason: kept with each.

        Raises:
            ValueError: a filter makes no sense, or asks for runs that have ended.
        """
        why, engine = checked_reason(reason), self._engine
        return BulkJob(engine, "cancel", params, lambda run_ids: engine.cancel_runs(run_ids, why))

    def retry_all(self, params: SearchRunsParams) -> BulkJob:
        """A job that retries all failed runs that match, see `retry_run`; it begins when it is iterated or `run`.

        Args:
            params: see `cancel_all`.

        Raises:
            ValueError: a filter makes no sense, or asks for runs that have not failed.
        """
        engine = self._engine
        return BulkJob(engine, "retry", params, engine.retry_runs)

    async def inspect_run(self, run_id: str) -> RunState | None:
        """A run as `get_run` gives it, also for those who lack the key of its payloads; None if there is no such run.

        Where `get_run` raises PayloadKeyMissingError, `input_error` or `output_error` says which key it is, and None
        stands for the input or output.
        """
        return await self._engine.inspect_run(run_id)

    async def count_runs(self, params: SearchRunsParams) -> RunCount:
        """How many runs match, as for `search_runs`; cursor, limit and sort don't matter.

        By status, workflow and time they are counted by an index, however many there are. For a queue, a parent, an
        error or a text the first 10,000 candidates are looked at.
        """
        check_search(params)
        statuses = ALL_STATUSES if params.status is None else (params.status,)
        return await self._engine.count_matching(params, statuses)

    async def failure_groups(self, *, created_after: int | None = None, scan: int = 2_000) -> FailureGroups:
        """The newest failed runs, grouped by workflow and type of error, the largest group first.

        Args:
            created_after: only runs created at this time or later, epoch ms.
            scan: how many runs are looked at, 1 to 10,000.
        """
        check_search(SearchRunsParams(created_after=created_after))
        if isinstance(scan, bool) or not isinstance(scan, int) or not 1 <= scan <= _MOST_SCANNED:
            raise ValueError(f"scan must be a whole number from 1 to {_MOST_SCANNED}, got {scan!r:.100}")
        return await self._engine.failure_groups(created_after, scan)

    async def history(self, start: int, end: int, *, buckets: int = 30) -> list[RunBucket]:
        """How many runs were created in each part of a span of time, by the status they have now; oldest first.

        Args:
            start: of the span, epoch ms.
            end: of the span, epoch ms, not included.
            buckets: into how many parts of equal length it is cut, 1 to 500; less where a part would be below 1 ms.
        """
        check_search(SearchRunsParams(created_after=start, created_before=end))
        if end <= start:
            raise ValueError(f"end must be after start, got {start} to {end}")
        if isinstance(buckets, bool) or not isinstance(buckets, int) or not 1 <= buckets <= _MOST_BUCKETS:
            raise ValueError(f"buckets must be a whole number from 1 to {_MOST_BUCKETS}, got {buckets!r:.100}")
        return await self._engine.history(start, end, min(buckets, end - start))

    async def export_runs(self, params: SearchRunsParams) -> AsyncIterator[ExportedRun]:
        """All runs that match, whole: with input, output, steps and attempts. They are read in chunks of 100.

        Args:
            params: as for `search_runs`, but `limit` is that of a chunk.

        Example:
            >>> async for run in client.operate.export_runs(SearchRunsParams(status="failed")):
            ...     print(json.dumps(run))
        """
        check_search(params)
        statuses = ALL_STATUSES if params.status is None else (params.status,)
        params = replace(params, limit=_CHUNK)
        while True:
            run_ids, following = await self._engine.find_matching(params, statuses)
            for run in await self._engine.export(run_ids):
                yield run
            if following is None:
                return
            params = replace(params, cursor=following)


def _few(run_ids: Sequence[str]) -> Sequence[str]:
    if isinstance(run_ids, str) or len(run_ids) > _MOST_AT_ONCE:
        got = "a text" if isinstance(run_ids, str) else f"{len(run_ids):,}"
        raise LimitExceededError(f"at most {_MOST_AT_ONCE:,} run ids a call, got {got}")
    return run_ids
