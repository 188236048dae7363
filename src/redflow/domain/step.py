"""The journal entry of one step, and how it is packed into one field of the run's record.

A packed step is a short header and the payload, so that the record of a finished run stays small:

    <seq> <status><kind> <attempt> <start> <duration> <payload>

start is ms after the run's creation, duration ms (`-` while running); status is one of R S F C (running,
succeeded, failed, canceled), kind one of r s e c (run, sleep, event, child). The payload is the output or the
error as JSON, for an open sleep its due time; `@` means that it lies in the run's second hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

StepKind = Literal["run", "sleep", "event", "child"]
StepStatusName = Literal["running", "succeeded", "failed", "canceled"]

_STATUS_TO_LETTER: Final[dict[StepStatusName, str]] = {
    "running": "R",
    "succeeded": "S",
    "failed": "F",
    "canceled": "C",
}
_LETTER_TO_STATUS: Final = {letter: status for status, letter in _STATUS_TO_LETTER.items()}
_KIND_TO_LETTER: Final[dict[StepKind, str]] = {"run": "r", "sleep": "s", "event": "e", "child": "c"}
_LETTER_TO_KIND: Final = {letter: kind for kind, letter in _KIND_TO_LETTER.items()}

METHODS: Final[dict[StepKind, str]] = {
    "run": "a function or an emit",
    "sleep": "step.wait_for",
    "event": "step.wait_for_event",
    "child": "step.run_workflow",
}
"""What a step of each kind is, in words."""

FIELD_PREFIX: Final = "s:"
STORED_APART: Final = b"@"
"""Stands in a record where the payload lies in the run's second hash."""


@dataclass(slots=True)
class StepRecord:
    """What is known of one step of one run.

    Attributes:
        name: unique within the run.
        seq: 1-based, order of first start within the run; the same in every attempt.
        status: state it is in.
        attempt: the attempt that wrote this state.
        started_at: epoch ms, server time.
        finished_at: epoch ms; None while running.
        payload: output (succeeded) or error (failed, canceled) as stored JSON text, or the due time of an open
            sleep as text.
        kind: which primitive it is.
    """

    name: str
    seq: int
    status: StepStatusName
    attempt: int
    started_at: int
    finished_at: int | None = None
    payload: bytes = b""
    kind: StepKind = "run"

    @property
    def due_at(self) -> int | None:
        """When an open sleep ends, epoch ms; None for every other step."""
        return int(self.payload) if self.kind == "sleep" and self.status == "running" else None

    def excludes(self, kind: StepKind) -> bool:
        """Whether it was done, or is under way, as another primitive than `kind`: then it can't be gone on with."""
        return self.kind != kind and (self.status == "succeeded" or (self.status == "running" and bool(self.payload)))

    def finished(self, status: StepStatusName, at: int, attempt: int, payload: bytes) -> StepRecord:
        """The same step, ended."""
        # Not dataclasses.replace: it costs more than the rest of a step's bookkeeping together.
        return StepRecord(self.name, self.seq, status, attempt, self.started_at, at, payload, self.kind)


@dataclass(slots=True)
class ChildRef:
    """The payload of a child step: which run it is, and how that ended.

    Attributes:
        end: `-` while it lives or nobody looked, S, F or C once it succeeded, failed or was canceled.
        run_id: stored id of the child.
        generation: how many children this step has started, this one included.
        own: False for a run that was found by an idempotency key; it is never canceled from here.
        content: its output or error, as stored JSON.
    """

    end: str
    run_id: str
    generation: int
    own: bool
    content: bytes = b""

    def packed(self) -> bytes:
        """As it stands in the step's record."""
        return f"{self.end} {self.run_id} {self.generation} {'own' if self.own else 'foreign'} ".encode() + self.content


def child_ref(payload: bytes) -> ChildRef:
    """The child of a packed child step.

    Raises:
        ValueError: the payload is none.
    """
    end, run_id, generation, kind, content = payload.split(b" ", 4)
    return ChildRef(end.decode(), run_id.decode(), int(generation), kind == b"own", content)


def pack_header(step: StepRecord, created_at: int) -> str:
    """Everything of a packed step that stands before its payload."""
    duration = "-" if step.finished_at is None else str(step.finished_at - step.started_at)
    letters = _STATUS_TO_LETTER[step.status] + _KIND_TO_LETTER[step.kind]
    return f"{step.seq} {letters} {step.attempt} {step.started_at - created_at} {duration} "


def unpack_step(name: str, packed: bytes, created_at: int) -> StepRecord:
    """The step of a record's field.

    Raises:
        ValueError: the field isn't a packed step.
    """
    try:
        seq, letters, attempt, start, duration, payload = packed.split(b" ", 5)
        started_at = created_at + int(start)
        return StepRecord(
            name=name,
            seq=int(seq),
            status=_LETTER_TO_STATUS[letters[:1].decode()],
            attempt=int(attempt),
            started_at=started_at,
            finished_at=None if duration == b"-" else started_at + int(duration),
            payload=payload,
            kind=_LETTER_TO_KIND[letters[1:].decode()],
        )
    except (ValueError, KeyError, UnicodeDecodeError) as exc:
        raise ValueError(f"step {name!r} has a broken record of {len(packed)} bytes") from exc
