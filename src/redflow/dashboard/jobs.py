"""Bulk jobs that this process carries out for the dashboard. They outlive the page, and end with the process."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Final

from redflow.operate import BulkJob
from redflow.types import BulkProgress

log = logging.getLogger("redflow")

_KEPT: Final = 20
MOST_AT_ONCE: Final = 4


@dataclass(slots=True)
class Job:
    """A job and how far it is. `trouble` says why it ended before its end; times are epoch ms."""

    number: int
    action: str
    total: int
    started_at: int
    progress: BulkProgress | None = None
    trouble: str = ""
    ended: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Jobs:
    """The jobs of one dashboard, the latest first."""

    def __init__(self) -> None:
        self.latest: list[Job] = []
        self._number = 0

    @property
    def is_full(self) -> bool:
        """Whether no further job is taken."""
        return sum(not job.ended for job in self.latest) >= MOST_AT_ONCE

    def start(self, work: BulkJob, total: int) -> Job:
        """Carry out a job, beside all else."""
        self._number += 1
        job = Job(self._number, "", total, int(time.time() * 1000))
        job.task = asyncio.create_task(self._carry_out(job, work), name="redflow-dashboard-job")
        self.latest = [job, *self.latest[: _KEPT - 1]]
        return job

    async def _carry_out(self, job: Job, work: BulkJob) -> None:
        try:
            async for progress in work:
                job.progress, job.action = progress, progress["action"]
        except Exception as exc:  # shown to those who look at the job; the log has the rest
            log.exception("dashboard: bulk job %d ended early", job.number)
            job.trouble = f"{type(exc).__name__}: {exc}"
        finally:
            job.ended = True
