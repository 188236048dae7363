"""The port between the client and an engine: one method per verb of a run's life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from redflow.definitions import AnyWorkflow
from redflow.domain.run import RunOrder
from redflow.errors import SerializedError
from redflow.types import (
    AttemptTrace,
    JsonData,
    ListedRun,
    ListRunsParams,
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
    """How a run ended: status, and its output or its stored error."""

    status: RunStatus
    output: JsonData = None
    error: SerializedError | None = None
    cancel_reason: str = ""


class Engine(Protocol):
    """What a client needs of the engine that keeps the state."""

    async def start_run(self, order: RunOrder, app: str | None) -> str:
        """Accept a run; the public id of it, or of the earlier run that has its idempotency key.

        Raises:
            UnknownWorkflowError: no queue was given and nobody registered the workflow.
        """
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

    async def get_run_attempts(self, run_id: str) -> list[AttemptTrace]:
        """Its finished attempts."""
        ...

    async def list_runs(self, params: ListRunsParams) -> list[ListedRun]:
        """One page of runs in the order of their creation."""
        ...

    async def search_runs(self, params: SearchRunsParams) -> SearchRunsResult:
        """Runs that match all conditions."""
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

    async def cleanup_expired_runs(self, reference_ms: int | None, limit: int) -> int:
        """Remove finished runs whose retention is over; how many."""
        ...

    async def reset_state(self) -> int:
        """Remove every key of the prefix; how many."""
        ...

    async def reset_runs(self) -> int:
        """Remove everything but workflow metadata and idempotency keys; how many keys."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
