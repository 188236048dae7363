"""The port between a running attempt and the engine that keeps its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from redflow.domain.event import EventRef
from redflow.domain.run import RunOrder
from redflow.domain.step import StepRecord
from redflow.engine import Emitted, EventOrder
from redflow.types import Durability

Interruption = Literal["canceled", "timed_out", "stopping", "lost"]
"""Why an attempt is stopped from outside."""


class LeaseLost(Exception):
    """The run belongs to somebody else by now; what this attempt still writes is refused."""


@dataclass(slots=True)
class Claim:
    """A run in the hands of one worker, with everything its attempt needs.

    Attributes:
        run_id: as users see it.
        workflow: name of the workflow.
        queue: scoped name of the queue.
        attempt: number of this attempt, from 1.
        max_attempts: attempts the run may have.
        created_at: epoch ms.
        input_json: the stored input.
        steps: what is known of the steps, by name.
        decided_failure: the error of a run that has failed already, whose on_failure is still to be called.
        started_at: start of this attempt, epoch ms.
        unpaid: it failed before it was ever admitted, and an operator has it tried again.
    """

    run_id: str
    workflow: str
    queue: str
    attempt: int
    max_attempts: int
    created_at: int
    input_json: bytes
    steps: dict[str, StepRecord] = field(default_factory=dict)
    decided_failure: bytes | None = None
    started_at: int = 0
    unpaid: bool = False


class StartRefused(Exception):
    """Nothing was started: a cancel of the run was requested, or its time-out has passed; `why` tells which."""

    def __init__(self, why: Interruption) -> None:
        super().__init__(why)
        self.why = why


class Journal(Protocol):
    """What a running attempt needs of its engine."""

    sleeps_durably: bool
    """Whether an attempt that only waits may be put to sleep; if not, waits pass in the process."""

    def now_ms(self) -> int:
        """The server's time, epoch ms."""
        ...

    def may_begin(self) -> bool:
        """Whether new work may begin: a holder stops by its own clock before its lease can have run out."""
        ...

    async def record(self, step: StepRecord, durability: Durability = Durability.NONE) -> None:
        """Make a step's state durable; returns when it is, as safely as `durability` says.

        Raises:
            LeaseLost: nothing was written.
            NotDurableError: it was written, but nobody confirmed in time that it is that safe.
        """
        ...

    async def prepare(self, durability: Durability) -> None:
        """See that a step can be made that durable, before its function is called.

        Raises:
            DurabilityUnsupportedError
        """
        ...

    async def confirm(self, step: StepRecord, durability: Durability) -> None:
        """Return when a step that is recorded, and all that was written before it, is that safe; raises as `record`."""
        ...

    def note(self, step: StepRecord) -> None:
        """Make a step's state durable soon: with the next write of this run, or shortly by itself."""
        ...

    async def load(self, step: StepRecord) -> bytes:
        """The payload of a step whose record only says that it is stored apart."""
        ...


class DurableJournal(Journal, Protocol):
    """What steps need that reach beyond their run."""

    async def start_child(self, step: StepRecord, order: RunOrder, generation: int, *, awaited: bool) -> StepRecord:
        """Start a run for a step, and write the step: open with the child's id, or ended if nobody awaits it.

        Returns:
            The step as it is written.

        Raises:
            LeaseLost, StartRefused, UnknownWorkflowError
        """
        ...

    async def open_wait(self, step: StepRecord, ref: EventRef) -> StepRecord:
        """Begin to wait for an event; the step as it is written, decided already if the event was there before.

        Raises:
            LeaseLost, StartRefused
        """
        ...

    async def close_wait(self, step: StepRecord, ref: EventRef) -> bool:
        """End a wait whose time is over; False when the event came first, and is in the step's record."""
        ...

    async def emit_event(self, order: EventOrder) -> Emitted:
        """Emit an event on behalf of a step."""
        ...

    async def event_contract(self, name: str) -> str | None:
        """The contract of an event's data."""
        ...

    async def reload(self, step: StepRecord) -> StepRecord:
        """The step as its record is now.

        Raises:
            LeaseLost: the run is gone.
        """
        ...

    def correlation_key(self, key: str) -> str:
        """A correlation key as the engine knows it."""
        ...

    async def cancel_child(self, run_id: str, reason: str) -> None:
        """Cancel a run by its stored id, and all below it."""
        ...
