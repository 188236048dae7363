"""The records users read: plain dicts, typed. A key that is not required is absent while unknown."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from redflow.errors import SerializedError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""What reading JSON can give, for code that takes it apart."""

JsonData: TypeAlias = Any  # reason: a stored value's shape is known to the user's program only, as with json.loads
"""A stored JSON value in the records users read."""

RunStatus: TypeAlias = Literal["scheduled", "queued", "running", "succeeded", "failed", "canceled"]
"""Where a run stands. The last three are final, unless an operator retries a failed run."""

StepStatus: TypeAlias = Literal["running", "succeeded", "failed", "canceled"]
"""Where a step stands."""

AttemptStatus: TypeAlias = Literal["succeeded", "failed", "canceled"]
"""How a finished attempt ended."""

EventDeliveryStatus: TypeAlias = Literal["pending", "delivered", "failed"]
"""Where an event's delivery to one subscriber stands."""

EventFanoutStatus: TypeAlias = Literal["pending", "completed", "partial", "failed", "no-subscribers"]
"""Where an event's delivery to all its subscribers stands. All but the first are final."""


class RunState(TypedDict):
    """A run, as `get_run` gives it. Times are epoch milliseconds.

    `queue` is the scoped name, `attempt` is 0 before the first start, `input` is the stored JSON. `output`
    is present, maybe as None, once the run succeeded. `error` may be present while the run awaits its next
    attempt. `priority` is present unless it is 0; `timeout_at`, once a run
    with a time-out has started; `rerun_of`, in a run that was started as another one run again. `input_error` and
    `output_error` say why an input or output that is there can't be read: None stands for it then.
    """

    id: str
    workflow: str
    queue: str
    status: RunStatus
    input: JsonData
    attempt: int
    max_attempts: int
    created_at: int
    input_error: NotRequired[str]
    output: NotRequired[JsonData]
    output_error: NotRequired[str]
    error: NotRequired[SerializedError]
    available_at: NotRequired[int]
    started_at: NotRequired[int]
    finished_at: NotRequired[int]
    cancel_requested_at: NotRequired[int]
    cancel_reason: NotRequired[str]
    parent_run_id: NotRequired[str]
    merged_into: NotRequired[str]
    rerun_of: NotRequired[str]
    priority: NotRequired[int]
    timeout_at: NotRequired[int]


class EventWaitInfo(TypedDict):
    """What a `wait_for_event` step waits for and, once that is decided, what ended the wait."""

    kind: Literal["event"]
    event: str
    correlation_key: str
    resolved_by: NotRequired[Literal["event", "timeout"]]
    event_id: NotRequired[str]
    ts: NotRequired[int]


class StepState(TypedDict):
    """A step of a run, as `get_run_steps` gives it. Times are epoch milliseconds.

    `seq` counts from 1 in the order of the first start and stays over attempts; `attempt` wrote this state.
    `wait_until_at` is present only while the step waits.
    """

    name: str
    status: StepStatus
    seq: int
    attempt: int
    started_at: NotRequired[int]
    finished_at: NotRequired[int]
    output: NotRequired[JsonData]
    error: NotRequired[SerializedError]
    child_run_id: NotRequired[str]
    wait: NotRequired[EventWaitInfo]
    wait_until_at: NotRequired[int]


class StepTrace(TypedDict):
    """A step that finished within an attempt. Times are epoch milliseconds."""

    name: str
    seq: int
    status: StepStatus
    attempt: int
    started_at: int
    finished_at: int
    output: NotRequired[JsonData]
    error: NotRequired[SerializedError]
    wait: NotRequired[EventWaitInfo]


class AttemptTrace(TypedDict):
    """A finished attempt of a run, as `get_run_attempts` gives it. Times are epoch milliseconds.

    `steps` are those that finished in this attempt; steps reused from an earlier one are not repeated.
    """

    attempt: int
    status: AttemptStatus
    started_at: int
    finished_at: int
    steps: list[StepTrace]
    output: NotRequired[JsonData]
    error: NotRequired[SerializedError]


class ListedRun(TypedDict):
    """A run in a list: without input and output. Times are epoch milliseconds."""

    id: str
    workflow: str
    queue: str
    status: RunStatus
    created_at: int
    attempt: int
    max_attempts: int
    error: NotRequired[SerializedError]
    available_at: NotRequired[int]
    started_at: NotRequired[int]
    finished_at: NotRequired[int]
    parent_run_id: NotRequired[str]
    priority: NotRequired[int]
    timeout_at: NotRequired[int]


class SearchRunsResult(TypedDict):
    """What `search_runs` found, and how many runs it looked at.

    `next_cursor` is present when there may be more; `truncated` when the search stopped at its own limits.
    """

    runs: list[ListedRun]
    scanned: int
    next_cursor: NotRequired[str]
    truncated: NotRequired[bool]


RunWaitsFor: TypeAlias = Literal[
    "nothing", "time", "event", "child", "slot", "mutex", "throttle", "worker", "workflow", "cancel", "paused"
]
"""What a run waits for: nothing (it runs, or has ended), a time, an event, a child, a slot of its workflow, a mutex, a
throttle, a worker, a worker that knows its workflow, the end of a cancel, or that somebody resumes its queue or its
workflow."""


class RunExplanation(TypedDict):
    """Why a run is where it is, as `explain_run` gives it; `reason` says it in one sentence.

    `until` is when that ends by itself, in epoch milliseconds. `position` is the run's place in the line it stands in,
    from 1, and `held_by` are the runs in its way. `timeout_at` is when the run fails if it has not ended by then.
    """

    run_id: str
    workflow: str
    queue: str
    status: RunStatus
    waits_for: RunWaitsFor
    reason: str
    until: NotRequired[int]
    position: NotRequired[int]
    held_by: NotRequired[list[str]]
    timeout_at: NotRequired[int]


class RunStats(TypedDict):
    """How many runs there are, in all and by each of the six statuses.

    `paused` is present while something is paused: the queues (scoped names) and the workflows that are.
    """

    total: int
    by_status: dict[RunStatus, int]
    paused: NotRequired[PausedNames]


class PausedNames(TypedDict):
    """What is paused, by name."""

    queues: list[str]
    workflows: list[str]


class ReceivedEvent(TypedDict):
    """An event as `wait_for_event` returns it. `ts` is when it was accepted, in epoch milliseconds."""

    id: str
    name: str
    data: JsonData
    ts: int


class EventDelivery(TypedDict):
    """An event's delivery to one subscriber; `run_id` is the run it started."""

    subscriber_event_id: str
    workflow: str
    queue: str
    status: EventDeliveryStatus
    run_id: NotRequired[str]
    error: NotRequired[SerializedError]


class ListedEvent(TypedDict):
    """An event in a list: without data and deliveries. Times are epoch milliseconds."""

    id: str
    name: str
    ts: int
    subscriber_count: int
    resumed_run_count: int
    delivery_count: int
    failed_delivery_count: int
    fanout_status: EventFanoutStatus
    correlation_key: NotRequired[str]
    parent_run_id: NotRequired[str]
    next_process_at: NotRequired[int]
    processing_attempts: NotRequired[int]
    finished_at: NotRequired[int]


class EventRecord(ListedEvent):
    """An event, as `get_event` gives it. Times are epoch milliseconds."""

    data: JsonData
    deliveries: list[EventDelivery]
    resumed_run_ids: list[str]
    expires_at: NotRequired[int]
    error: NotRequired[SerializedError]
    last_process_error: NotRequired[SerializedError]


class EventSubscriber(TypedDict):
    """A workflow that starts a run for each event of a name. `queue` is scoped."""

    workflow: str
    queue: str


class EventDefinition(TypedDict):
    """An event with its subscribers, and their common contract if they have one; see `list_event_definitions`."""

    event: str
    subscribers: list[EventSubscriber]
    input_json_schema: NotRequired[dict[str, JsonData]]


class EmittedEvent(TypedDict):
    """What `emit_event_detailed` gives: handles are RunHandle objects of the runs it started."""

    event_id: str
    handles: list[JsonData]
    resumed_run_ids: list[str]


class WorkflowCronMeta(TypedDict):
    """A cron trigger as it is registered. Times are epoch milliseconds.

    `timezone` is always an IANA name. `input_error` stands in place of an `input` that can't be decrypted. The rest
    tells what became of its ticks, once there is something to tell: `skipped` counts those that found too many
    unfinished runs, `missed` those when no worker was there in time.
    """

    expression: str
    timezone: NotRequired[str]
    input: NotRequired[JsonData]
    input_error: NotRequired[str]
    id: NotRequired[str]
    next_run_at: NotRequired[int]
    last_run_at: NotRequired[int]
    last_run_id: NotRequired[str]
    skipped: NotRequired[int]
    last_skipped_at: NotRequired[int]
    missed: NotRequired[int]
    last_missed_at: NotRequired[int]


class WorkflowEventMeta(TypedDict):
    """An event trigger as it is registered."""

    name: str
    id: NotRequired[str]


class WorkflowMeta(TypedDict):
    """A workflow as its workers registered it. `queue` is scoped; `updated_at` is in epoch milliseconds."""

    name: str
    app: str
    queue: str
    max_concurrency: int | None
    updated_at: int
    max_attempts: NotRequired[int]
    priority: NotRequired[int]
    timeout_ms: NotRequired[int]
    cron: NotRequired[list[WorkflowCronMeta]]
    event: NotRequired[list[WorkflowEventMeta]]
    input_json_schema: NotRequired[dict[str, JsonData]]


class DoctorFinding(TypedDict):
    """Something that `client.doctor()` has to say.

    `level` is "problem" (runs may be lost or refused), "warning" (they may be under circumstances) or "note" (a choice
    that you should know of). `check` names what was looked at, `remedy` what can be done.
    """

    check: str
    level: Literal["problem", "warning", "note"]
    text: str
    remedy: str


class DoctorReport(TypedDict):
    """What `client.doctor()` found.

    `losses` says, event by event, what would be lost if it happened now. `unseen` names what this user may not ask the
    server. `healthy` is whether there is neither a problem nor a warning.
    """

    server: str
    version: str
    losses: dict[str, str]
    findings: list[DoctorFinding]
    unseen: list[str]
    healthy: bool
