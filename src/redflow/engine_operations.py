"""The port between the client and an engine for those who operate it: look at the whole, repair, pause, drain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from redflow.types import (
    DrainEnd,
    ExportedRun,
    FailureGroups,
    QueuePage,
    RunBucket,
    RunCount,
    RunState,
    RunStatus,
    ScheduleInfo,
    SchedulePage,
    SearchRunsParams,
    WorkerInfo,
    WorkerPage,
    WorkflowPage,
)

PauseKind: TypeAlias = Literal["queue", "workflow"]
"""What can be paused beside schedules."""


class Operations(Protocol):
    """What an operator's client needs of an engine. Run ids are public ones, names are checked, queues are scoped."""

    async def retry_runs(self, run_ids: Sequence[str]) -> list[str]:
        """Make failed runs go on; for each "retried", "unknown", or the status it has instead of failed."""
        ...

    async def cancel_runs(self, run_ids: Sequence[str], reason: str) -> list[str]:
        """Cancel runs; for each "canceled", "requested" (its worker was asked), "unknown", "finished" or "decided"."""
        ...

    async def rerun(self, run_id: str, new_id: str, input_json: bytes | None, app: str | None) -> str | None:
        """Start a run like another one, with its input if none is given; its public id, None: no such run.

        Raises:
            UnknownWorkflowError: its workflow has no metadata any more, and the run no queue.
        """
        ...

    async def count_matching(self, params: SearchRunsParams, statuses: Sequence[RunStatus]) -> RunCount:
        """How many runs of these statuses match, cursor and limit aside."""
        ...

    async def find_matching(
        self, params: SearchRunsParams, statuses: Sequence[RunStatus]
    ) -> tuple[list[str], str | None]:
        """One page of ids of runs of these statuses that match, and the cursor of the next, None: there is none."""
        ...

    async def server_time(self) -> int:
        """The engine's time, epoch ms."""
        ...

    async def inspect_run(self, run_id: str) -> RunState | None:
        """One run, without what can't be decrypted here; None if there is none of that id."""
        ...

    async def failure_groups(self, created_after: int | None, scan: int) -> FailureGroups:
        """The newest failed runs, grouped by workflow and type of error."""
        ...

    async def history(self, start: int, end: int, buckets: int) -> list[RunBucket]:
        """Runs by the time of their creation and the status they have now."""
        ...

    async def export(self, run_ids: Sequence[str]) -> list[ExportedRun]:
        """Whole runs; those that are gone are left out."""
        ...

    async def queues(self, cursor: str | None, limit: int) -> QueuePage:
        """One page of queues, by name."""
        ...

    async def queue_names(self) -> list[str]:
        """The queues that anybody knows of, in order."""
        ...

    async def workflows(self, cursor: str | None, limit: int) -> WorkflowPage:
        """One page of registered workflows, by name."""
        ...

    async def pause(self, kind: PauseKind, name: str, reason: str) -> bool:
        """Let nothing of it start; False if it was paused before."""
        ...

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """Let it go on; False if it wasn't paused."""
        ...

    async def schedules(self, workflow: str | None, cursor: str | None, limit: int, upcoming: int) -> SchedulePage:
        """One page of cron triggers, by workflow and id."""
        ...

    async def schedule(self, schedule_id: str, upcoming: int) -> ScheduleInfo | None:
        """One cron trigger; None if there is none of that id."""
        ...

    async def pause_schedule(self, schedule_id: str, reason: str) -> bool | None:
        """Let it fire no more; False if it was paused before, None: no such trigger."""
        ...

    async def resume_schedule(self, schedule_id: str) -> bool | None:
        """Let it fire from its next time on; False if it wasn't paused, None: no such trigger."""
        ...

    async def fire_schedule(self, schedule_id: str, new_id: str) -> str | None:
        """Start a run as its tick would, now; its public id, None: no such trigger.

        Raises:
            UnknownWorkflowError: its workflow is registered no more.
        """
        ...

    async def workers(self, cursor: str | None, limit: int) -> WorkerPage:
        """One page of live workers, by id."""
        ...

    async def worker(self, worker_id: str) -> WorkerInfo | None:
        """One live worker; None if there is none of that id."""
        ...

    async def drain_worker(self, worker_id: str, end: DrainEnd | None) -> bool:
        """Have it claim nothing more, or (None) claim again; False: no such worker."""
        ...
