"""What operators read: plain dicts, typed, as in `_records`. A key that is not required is absent while unknown.

Times are epoch milliseconds, spans are milliseconds.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, TypedDict

from redflow._records import AttemptTrace, JsonData, RunState, RunStatus, StepState

BulkAction: TypeAlias = Literal["cancel", "retry"]
"""What a bulk job does to each run."""

DrainEnd: TypeAlias = Literal["idle", "stop"]
"""What a drained worker does when its last run has ended: stay and claim nothing, or end its process."""


class Pause(TypedDict):
    """That something is paused: since when, and why if somebody said so."""

    since: int
    reason: NotRequired[str]


class QueueInfo(TypedDict):
    """A queue. `queue` is its scoped name.

    `waiting` are the runs that could start now, `set_aside` those that are ready but wait for a slot of their workflow
    or for a worker that knows it. `oldest_waiting_ms` is how long the first of the waiting has existed, or has been in
    its attempt if it has started before; time it slept counts too. `workers` live and claim from it, `slots` is what
    they can run at a time. `workflows` have it as their own queue.
    """

    queue: str
    waiting: int
    set_aside: int
    workers: int
    slots: int
    workflows: list[str]
    oldest_waiting_ms: NotRequired[int]
    paused: NotRequired[Pause]


class QueuePage(TypedDict):
    """One page of queues, by name. `next_cursor` is present when there are more."""

    queues: list[QueueInfo]
    next_cursor: NotRequired[str]


class WorkflowInfo(TypedDict):
    """A registered workflow, and how many runs of it there are by status."""

    name: str
    app: str
    queue: str
    max_concurrency: int | None
    by_status: dict[RunStatus, int]
    paused: NotRequired[Pause]


class WorkflowPage(TypedDict):
    """One page of workflows, by name. `next_cursor` is present when there are more."""

    workflows: list[WorkflowInfo]
    next_cursor: NotRequired[str]


class ScheduleInfo(TypedDict):
    """A cron trigger. `id` addresses it; `trigger_id` is the one its definition gave it, if any.

    `upcoming` are its next times, none while it is paused. `skipped` counts the ticks that found too many unfinished
    runs, `missed` those when no worker was there in time. `input_error` stands in place of an `input` that can't be
    decrypted.
    """

    id: str
    workflow: str
    expression: str
    timezone: str
    upcoming: list[int]
    skipped: int
    missed: int
    trigger_id: NotRequired[str]
    input: NotRequired[JsonData]
    input_error: NotRequired[str]
    paused: NotRequired[Pause]
    last_run_at: NotRequired[int]
    last_run_id: NotRequired[str]
    last_skipped_at: NotRequired[int]
    last_missed_at: NotRequired[int]


class SchedulePage(TypedDict):
    """One page of schedules, by workflow and id. `next_cursor` is present when there are more."""

    schedules: list[ScheduleInfo]
    next_cursor: NotRequired[str]


class WorkerInfo(TypedDict):
    """A live worker. `queues` are scoped names.

    `running` counts the runs whose lease it holds. `heartbeat_at` is its last sign of life; it counts as dead at
    `alive_until` unless another follows. `draining` says that it claims nothing more, and what it does in the end.
    """

    id: str
    app: str
    queues: list[str]
    workflows: list[str]
    concurrency: int
    running: int
    started_at: int
    alive_until: int
    heartbeat_at: NotRequired[int]
    host: NotRequired[str]
    pid: NotRequired[int]
    version: NotRequired[str]
    draining: NotRequired[DrainEnd]


class WorkerPage(TypedDict):
    """One page of live workers, by id. `next_cursor` is present when there are more."""

    workers: list[WorkerInfo]
    next_cursor: NotRequired[str]


class FailureGroup(TypedDict):
    """Failed runs of one workflow with the same type of error. Times are those of the runs' ends."""

    workflow: str
    error: str
    count: int
    message: str
    first_at: int
    last_at: int
    last_run_id: str


class FailureGroups(TypedDict):
    """Groups of failed runs, the largest first.

    `scanned` is how many of the newest failed runs were looked at; `truncated` that there are more.
    """

    groups: list[FailureGroup]
    scanned: int
    truncated: bool


class RunCount(TypedDict):
    """How many runs match. `exact` is False where only the first 10,000 candidates were looked at."""

    count: int
    exact: bool


class RunBucket(TypedDict):
    """Runs created from `start` on, before `end`, by the status they have now."""

    start: int
    end: int
    by_status: dict[RunStatus, int]


class BulkProgress(TypedDict):
    """How far a bulk job is.

    `total` is what was to be done when it began, `exact` as in RunCount. `seen` runs were looked at, `changed` of them
    canceled (or asked to end) or retried; `skipped` had changed by themselves meanwhile. `cursor` is where a new job
    with the same filter can go on.
    """

    action: BulkAction
    total: int
    exact: bool
    seen: int
    changed: int
    skipped: int
    done: bool
    cursor: NotRequired[str]


class ExportedRun(RunState):
    """A whole run: all that `get_run`, `get_run_steps` and `get_run_attempts` tell of it."""

    steps: list[StepState]
    attempts: list[AttemptTrace]
