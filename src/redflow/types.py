"""The options and records that users build or receive, and the types of what handlers get.

Times are integer epoch milliseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Literal, TypeAlias

from redflow._blocking_api import BlockingStepApi
from redflow._operation_records import (
    BulkAction,
    BulkProgress,
    DrainEnd,
    ExportedRun,
    FailureGroup,
    FailureGroups,
    Pause,
    QueueInfo,
    QueuePage,
    RunBucket,
    RunCount,
    ScheduleInfo,
    SchedulePage,
    WorkerInfo,
    WorkerPage,
    WorkflowInfo,
    WorkflowPage,
)
from redflow._records import (
    AttemptStatus,
    AttemptTrace,
    DoctorFinding,
    DoctorReport,
    EmittedEvent,
    EventDefinition,
    EventDelivery,
    EventDeliveryStatus,
    EventFanoutStatus,
    EventRecord,
    EventSubscriber,
    EventWaitInfo,
    JsonData,
    JsonValue,
    ListedEvent,
    ListedRun,
    ReceivedEvent,
    RunExplanation,
    RunState,
    RunStats,
    RunStatus,
    RunWaitsFor,
    SearchRunsResult,
    StepState,
    StepStatus,
    StepTrace,
    WorkflowCronMeta,
    WorkflowEventMeta,
    WorkflowMeta,
)
from redflow._step_api import CancelSignal, RunHandle, StepApi, StepRetry, StepWaitForTarget, WorkflowLike

__all__ = [
    "ALL_STATUSES",
    "DEFAULT_MAX_ATTEMPTS",
    "IDEMPOTENCY_TTL_SEC",
    "TERMINAL_STATUSES",
    "UNCHANGED",
    "AttemptStatus",
    "AttemptTrace",
    "BlockingStepApi",
    "BulkAction",
    "BulkProgress",
    "CancelSignal",
    "CronTrigger",
    "DefineWorkflowOptions",
    "DoctorFinding",
    "DoctorReport",
    "DrainEnd",
    "Durability",
    "EmittedEvent",
    "EventDefinition",
    "EventDelivery",
    "EventDeliveryStatus",
    "EventFanoutStatus",
    "EventRecord",
    "EventSubscriber",
    "EventTrigger",
    "EventWaitInfo",
    "ExportedRun",
    "FailureGroup",
    "FailureGroups",
    "FailureHook",
    "JsonData",
    "JsonValue",
    "KeyFunction",
    "ListEventsParams",
    "ListRunsParams",
    "ListedEvent",
    "ListedRun",
    "OnFailureContext",
    "Pause",
    "QueueInfo",
    "QueuePage",
    "ReceivedEvent",
    "ResolvedDebounce",
    "RetryDelayResolver",
    "RetryDelayTarget",
    "RetryPolicyContext",
    "RetryPolicyRunContext",
    "RunBucket",
    "RunContext",
    "RunCount",
    "RunExplanation",
    "RunHandle",
    "RunState",
    "RunStats",
    "RunStatus",
    "RunWaitsFor",
    "ScheduleInfo",
    "SchedulePage",
    "SearchRunsParams",
    "SearchRunsResult",
    "ShouldRetryResolver",
    "SortOrder",
    "StepApi",
    "StepRetry",
    "StepRunOptions",
    "StepState",
    "StepStatus",
    "StepTrace",
    "StepWaitForTarget",
    "Unchanged",
    "WorkerInfo",
    "WorkerPage",
    "WorkflowCall",
    "WorkflowCronMeta",
    "WorkflowDebounceOptions",
    "WorkflowEventMeta",
    "WorkflowInfo",
    "WorkflowLike",
    "WorkflowMeta",
    "WorkflowPage",
    "WorkflowRateLimitOptions",
    "WorkflowRetryPolicy",
]

ALL_STATUSES: tuple[RunStatus, ...] = ("scheduled", "queued", "running", "succeeded", "failed", "canceled")
"""Every status a run can have."""

TERMINAL_STATUSES: tuple[RunStatus, ...] = ("succeeded", "failed", "canceled")
"""The statuses a run never leaves, but for a failed one that an operator retries."""

DEFAULT_MAX_ATTEMPTS = 3
"""How often a run is tried, the first time included, where nothing else is said."""

IDEMPOTENCY_TTL_SEC = 604_800
"""How long an idempotency key holds where nothing else is said: 7 days, in seconds."""


class Durability(StrEnum):
    """How safe a write must be before redflow goes on.

    NONE: as safe as the server makes it, and as fast. REPLICATED: at least one replica has it (WAIT). FSYNCED: it is on
    the server's disk (WAITAOF; Redis >= 7.2 or Valkey, with appendonly).
    """

    NONE = "none"
    REPLICATED = "replicated"
    FSYNCED = "fsynced"


class Unchanged(Enum):
    """The type of `UNCHANGED`, where None would be a value of its own."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
"""Stands for "as it was": the input of a run that is run again, say."""

SortOrder: TypeAlias = Literal["desc", "asc"]
"""Newest first, or oldest first."""

RetryDelayTarget: TypeAlias = int | float | str | datetime
"""When to try again: milliseconds from now, a duration text such as "30s", or a datetime."""

# The option classes are not generic (a policy is shared between workflows), so what they get as input is
# only known to the functions themselves.
KeyFunction: TypeAlias = Callable[[Any], str]  # reason: see above
"""Computes a key from a workflow's validated input."""


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Starts a run at the times of a cron expression.

    Attributes:
        expression: 5 fields, or 6 with leading seconds, or @hourly, @daily, @weekly, @monthly, @yearly.
        timezone: IANA name; None is the local time zone of the machine that registers it.
        input: the run's input; None gives `{}`.
        id: keeps the trigger's identity when the rest of it changes.
    """

    expression: str
    timezone: str | None = None
    input: object = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """Starts a run for each event of a name.

    Attributes:
        name: the event's name.
        id: keeps the trigger's identity when the name changes.
    """

    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run a handler works for. `queue` is the scoped name, `attempt` counts from 1."""

    id: str
    workflow: str
    queue: str
    attempt: int
    max_attempts: int


@dataclass(slots=True)
class OnFailureContext:
    """What `on_failure` gets.

    Attributes:
        error: the exception the run failed with.
        input: the validated input; None if it did not validate.
        run: the run that failed.
    """

    error: BaseException
    input: Any  # reason: see KeyFunction
    run: RunContext


@dataclass(frozen=True, slots=True)
class WorkflowRateLimitOptions:
    """At most so many starts per key and window; for `rate_limit` and `throttle`.

    Attributes:
        key: computes the key from the validated input.
        limit: starts a window, 1 or more.
        period: the window's length, in milliseconds or as a duration text.
    """

    key: KeyFunction
    limit: int
    period: int | str


@dataclass(frozen=True, slots=True)
class WorkflowDebounceOptions:
    """Merges calls that follow each other closely into one run.

    Attributes:
        key: computes the key from the input; calls with the same key are merged.
        period: how long to wait for the next call, in milliseconds or as a duration text.
        timeout: how long after the first call the run starts at the latest; None is no limit.
    """

    key: KeyFunction
    period: int | str
    timeout: int | str | None = None


@dataclass(frozen=True, slots=True)
class ResolvedDebounce:
    """A debounce as it goes with one call: its key, and its times in milliseconds."""

    key: str
    period_ms: int
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicyRunContext:
    """The run a retry policy decides about: `attempt` failed, `next_attempt` would be the next."""

    attempt: int
    id: str
    max_attempts: int
    next_attempt: int
    queue: str
    workflow: str


@dataclass(frozen=True, slots=True)
class RetryPolicyContext:
    """What the functions of a retry policy get: the exception, the validated input, and the run."""

    error: BaseException
    input: Any  # reason: see KeyFunction
    run: RetryPolicyRunContext


RetryDelayResolver: TypeAlias = Callable[[RetryPolicyContext], RetryDelayTarget | Awaitable[RetryDelayTarget]]
"""Computes the delay before the next attempt; may be async."""

ShouldRetryResolver: TypeAlias = Callable[[RetryPolicyContext], bool | Awaitable[bool]]
"""Decides whether there is a next attempt; may be async."""

FailureHook: TypeAlias = Callable[[OnFailureContext], object]
"""Called once when a run has failed for good; what it returns is awaited if it can be, and dropped."""


@dataclass(frozen=True, slots=True)
class WorkflowRetryPolicy:
    """How failed attempts are retried.

    Attributes:
        delay: the delay, or a function that computes it; None is the default backoff.
        max_attempts: how often the run is tried, the first time included; beats the workflow's own.
        should_retry: decides whether an error is worth another attempt; None retries all that can be retried.
    """

    delay: RetryDelayTarget | RetryDelayResolver | None = None
    max_attempts: int | None = None
    should_retry: ShouldRetryResolver | None = None


@dataclass(slots=True)
class DefineWorkflowOptions:
    """Everything about a workflow but its handler; `define_workflow` explains the fields."""

    name: str
    queue: str = "default"
    max_concurrency: int | None = None
    max_attempts: int | None = None
    cron: list[CronTrigger] = field(default_factory=list)
    event: list[EventTrigger] = field(default_factory=list)
    debounce: WorkflowDebounceOptions | None = None
    on_failure: FailureHook | None = None
    mutex: KeyFunction | None = None
    rate_limit: WorkflowRateLimitOptions | None = None
    retries: WorkflowRetryPolicy | None = None
    throttle: WorkflowRateLimitOptions | None = None
    input_schema: type | None = None
    priority: int = 0
    timeout_ms: float | str | None = None
    durability: Durability | None = None


@dataclass(frozen=True, slots=True)
class StepRunOptions:
    """A step's name and time-out, for programs that keep them together; the engine does not use it."""

    name: str
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class WorkflowCall:
    """One run that `emit_workflows` is to start; see `RedflowClient.emit_workflow` for what each field means.

    Attributes:
        workflow: name of a registered workflow.
        input: JSON.
        idempotency_key: the same key gives the same run.
        idempotency_ttl: how long it holds, seconds; None is 7 days.
        run_at: not before; None is now.
        parent_run_id: stored with the run.
        priority: -100 to 100, higher first; None is that of the workflow.
        run_timeout_ms: how long the run may take from its first start, ms or a duration text; None is that of the
            workflow.
    """

    workflow: str
    input: object = None
    idempotency_key: str | None = None
    idempotency_ttl: int | None = None
    run_at: datetime | None = None
    parent_run_id: str | None = None
    priority: int | None = None
    run_timeout_ms: float | str | None = None


@dataclass(frozen=True, slots=True)
class ListRunsParams:
    """What `list_runs` is to list.

    Attributes:
        status: only runs of this status.
        workflow: only runs of this workflow.
        cursor: where to go on: the id of the last run seen (exact), or a created_at in milliseconds.
        limit: how many at most.
        sort: newest ("desc") or oldest ("asc") first.
    """

    status: RunStatus | None = None
    workflow: str | None = None
    cursor: int | str | None = None
    limit: int = 50
    sort: SortOrder = "desc"


@dataclass(frozen=True, slots=True)
class SearchRunsParams:
    """What `search_runs` is to find; all conditions must hold.

    Attributes:
        status: runs of this status.
        workflow: runs of this workflow.
        queue: runs in this queue, by its scoped name.
        parent_run_id: children of this run.
        query: a text found anywhere in the run, whatever its case.
        created_after: runs created at this time or later, in milliseconds.
        created_before: runs created at this time or earlier, in milliseconds.
        cursor: where to go on: the last result's `next_cursor`, or a created_at in milliseconds.
        limit: how many at most, 1 to 200.
        sort: newest ("desc") or oldest ("asc") first.
        error: runs whose error has exactly this name, such as "ValueError".
        scan: after how many runs that it had to look at the search stops, 1 to 10,000; `next_cursor` goes on there.
    """

    status: RunStatus | None = None
    workflow: str | None = None
    queue: str | None = None
    parent_run_id: str | None = None
    query: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    cursor: int | str | None = None
    limit: int = 50
    sort: SortOrder = "desc"
    error: str | None = None
    scan: int = 10_000


@dataclass(frozen=True, slots=True)
class ListEventsParams:
    """What `list_events` is to list.

    Attributes:
        name: only events of this name.
        cursor: the id of the last event seen.
        fanout_status: only events whose delivery stands there.
        limit: how many at most.
        sort: newest ("desc") or oldest ("asc") first.
    """

    name: str | None = None
    cursor: str | None = None
    fanout_status: EventFanoutStatus | None = None
    limit: int = 50
    sort: SortOrder = "desc"
