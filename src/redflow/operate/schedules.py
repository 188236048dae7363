"""`client.schedules`: cron triggers with their next times; pause, resume, fire now."""

from __future__ import annotations

import time

from redflow._ids import next_run_id
from redflow.handle import RunHandle
from redflow.operate.base import Namespace, checked_page, checked_reason, not_found
from redflow.types import JsonData, ScheduleInfo, SchedulePage

_MOST_UPCOMING = 100


class ScheduleOperations(Namespace):
    """Cron triggers, by the ids that `list` tells."""

    async def list(
        self, *, workflow: str | None = None, cursor: str | None = None, limit: int = 50, upcoming: int = 3
    ) -> SchedulePage:
        """One page of schedules, by workflow and id.

        Args:
            workflow: only those of this workflow.
            cursor: `next_cursor` of the page before.
            limit: how many at most, 1 to 200.
            upcoming: how many of the next times each is to tell, 0 to 100.
        """
        return await self._engine.schedules(workflow, cursor, checked_page(limit), _upcoming(upcoming))

    async def get(self, schedule_id: str, *, upcoming: int = 3) -> ScheduleInfo:
        """One schedule.

        Raises:
            NotFoundError: there is none of that id.
        """
        found = await self._engine.schedule(schedule_id, _upcoming(upcoming))
        if found is None:
            raise not_found("schedule", schedule_id)
        return found

    async def pause(self, schedule_id: str, *, reason: str = "") -> bool:
        """Let a schedule fire no more until it is resumed; it stays paused when its definition is deployed again.

        Args:
            schedule_id: of the schedule.
            reason: shown by the lists.

        Returns:
            Whether that changed anything.

        Raises:
            NotFoundError: there is none of that id.
        """
        return _found(await self._engine.pause_schedule(schedule_id, checked_reason(reason)), schedule_id)

    async def resume(self, schedule_id: str) -> bool:
        """Let a schedule fire again, from its next time on: ticks of the pause are not made up for, nor counted as
        missed.

        Returns:
            Whether it was paused.

        Raises:
            NotFoundError: there is none of that id.
        """
        return _found(await self._engine.resume_schedule(schedule_id), schedule_id)

    async def fire(self, schedule_id: str) -> RunHandle[JsonData]:
        """Start a run as a tick would, now: also of a paused schedule, and while its last run is unfinished.

        The next tick comes as if nothing had happened, and the run does not count as the schedule's last one.

        Raises:
            NotFoundError: there is none of that id.
            UnknownWorkflowError: its workflow is registered no more.
        """
        run_id = await self._engine.fire_schedule(schedule_id, next_run_id(int(time.time() * 1000)))
        if run_id is None:
            raise not_found("schedule", schedule_id)
        return RunHandle(run_id, self._client)


def _found(changed: bool | None, schedule_id: str) -> bool:
    if changed is None:
        raise not_found("schedule", schedule_id)
    return changed


def _upcoming(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_UPCOMING:
        raise ValueError(f"upcoming must be a whole number from 0 to {_MOST_UPCOMING}, got {count!r:.100}")
    return count
