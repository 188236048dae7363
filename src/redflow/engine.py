"""The port between the client and an engine: one method per verb of a run's life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from redflow.definitions import AnyWorkflow
from redflow.domain.run import RunOrder
from redflow.domain.step import StepKind
from redflow.engine_operations import Operations
from redflow.errors import RedflowError, SerializedError
from redflow.types import (
    AttemptTrace,
    DoctorReport,
    Durability,
    EventDefinition,
    EventRecord,
    JsonData,
    ListedEvent,
    ListedRun,
    ListEventsParams,
    ListRunsParams,
    ResolvedDebounce,
    RunExplanation,
    RunState,
    RunStats,
    RunStatus,
    SearchRunsParams,
    SearchRunsResult,
    StepState,
    WorkflowMeta,
)


@dataclass(slots=True)
class RunEnd:
    """How a run ended: status, and its output or its stored error.

    `merged_into` is the run that goes on in place of one that a debounce merged into it.
    """

    status: RunStatus
    output: JsonData = None
    error: SerializedError | None = None
    cancel_reason: str = ""
    merged_into: str | None = None


@dataclass(slots=True)
class EventOrder:
    """What an emitter asks for.

    Attributes:
        event_id: chosen by the caller (`explicit`) or made by the client.
        explicit: whether the caller chose it.
        name: of the event, stripped.
        data: JSON text.
        fingerprint: see redflow.domain.event.
        correlation_key: wakes the runs that wait for it.
        parent_run_id: stored, and the parent of the runs it starts.
        idempotency_key: against duplicates.
        idempotency_ttl_s: TTL of that key.
        durability: how safe it must be before the call returns.
    """

    event_id: str
    explicit: bool
    name: str
    data: bytes
    fingerprint: str
    correlation_key: str | None = None
    parent_run_id: str | None = None
    idempotency_key: str | None = None
    idempotency_ttl_s: int = 604_800
    durability: Durability = Durability.NONE


@dataclass(slots=True)
class Emitted:
    """What came of an emit: code of the script, the event's id, whether its fan-out is complete, and the runs.

    `confirmed` is whether it is as durable as was asked.
    """

    code: str
    event_id: str
    final: bool
    run_ids: list[str]
    resumed_run_ids: list[str]
    confirmed: bool = True


class EventPort(Protocol):
    """What it takes to emit an event."""

    async def emit_event(self, order: EventOrder) -> Emitted:
        """Record an event once, wake its waiters and start its subscribers' runs; what is left, workers carry on."""
        ...

    async def event_contract(self, name: str) -> str | None:
        """The canonical JSON Schema of an event's data, "-" if its subscribers have none; None if nobody subscribes."""
        ...


class Engine(EventPort, Protocol):
    """What a client needs of the engine that keeps the state."""

    @property
    def operations(self) -> Operations | None:
        """What it has for those who operate it; None if nothing."""
        ...

    async def start_run(self, order: RunOrder, app: str | None, debounce: ResolvedDebounce | None = None) -> str:
        """Accept a run; the public id of it, or of the earlier run that has its idempotency key or its debounce.

        Raises:
            UnknownWorkflowError: no queue was given and nobody registered the workflow.
        """
        ...

    async def start_runs(self, orders: Sequence[RunOrder], app: str | None) -> list[str | RedflowError]:
        """Accept many runs; for each its public id, or what `start_run` would have raised."""
        ...

    async def cancel_run(self, run_id: str, reason: str) -> bool:
        """Cancel a run; whether that changed anything."""
        ...

    async def get_run(self, run_id: str) -> RunState | None:
        """One run; None if there is none."""
        ...

    async def get_run_steps(self, run_id: str) -> list[StepState]:
        """Its steps, by seq."""
        ...

    async def get_step_kinds(self, run_id: str) -> dict[str, StepKind]:
        """Which primitive each of its steps is, by name."""
        ...

    async def get_run_attempts(self, run_id: str) -> list[AttemptTrace]:
        """Its finished attempts."""
        ...

    async def explain_run(self, run_id: str) -> RunExplanation | None:
        """Why a run is where it is; None if there is none."""
        ...

    async def list_runs(self, params: ListRunsParams) -> list[ListedRun]:
        """One page of runs in the order of their creation."""
        ...

    async def search_runs(self, params: SearchRunsParams) -> SearchRunsResult:
        """Runs that match all conditions."""
        ...

    async def get_event(self, event_id: str) -> EventRecord | None:
        """One event; None if there is none."""
        ...

    async def list_events(self, params: ListEventsParams) -> list[ListedEvent]:
        """One page of events."""
        ...

    async def list_event_definitions(self) -> list[EventDefinition]:
        """Events with subscribers, by name."""
        ...

    async def cleanup_expired_events(self, reference_ms: int | None, limit: int) -> int:
        """Remove ended events whose retention is over; how many."""
        ...

    async def wait_for_end(self, run_id: str, timeout_s: float) -> RunEnd | None:
        """How the run ended; None when it hasn't within `timeout_s` seconds.

        Raises:
            RedflowError: there is no such run.
        """
        ...

    async def sync_registry(self, definitions: Sequence[AnyWorkflow], app: str) -> None:
        """Make the engine know exactly these workflows of the app."""
        ...

    async def list_workflows(self) -> list[str]:
        """Names of the registered workflows."""
        ...

    async def get_workflow_meta(self, name: str) -> WorkflowMeta | None:
        """Metadata of one workflow."""
        ...

    async def list_workflows_meta(self) -> list[WorkflowMeta]:
        """Metadata of all workflows."""
        ...

    async def get_stats(self) -> RunStats:
        """How many runs there are, by status."""
        ...

    async def doctor(self) -> DoctorReport:
        """What the place where the state is kept would lose, and what is wrong with it."""
        ...

    async def cleanup_expired_runs(self, reference_ms: int | None, limit: int) -> int:
        """Remove finished runs whose retention is over; how many."""
        ...

    async def reset_state(self) -> int:
        """Remove every key of the prefix; how many."""
        ...

    async def reset_runs(self) -> int:
        """Remove everything but workflow metadata, triggers, contracts and idempotency keys; how many keys."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
