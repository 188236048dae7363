"""How an attempt ends. Decided by pure code, written by the journal's `settle`, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from redflow.domain.step import StepRecord


@dataclass(slots=True)
class Succeeded:
    """The handler returned; `output_json` is its JSON text."""

    output_json: bytes


@dataclass(slots=True)
class Failed:
    """The run fails for good; `error_json` is the serialized error."""

    error_json: bytes


@dataclass(slots=True)
class Canceled:
    """The run was canceled while it was being executed, or its handler raised CanceledError."""


@dataclass(slots=True)
class Retry:
    """The attempt failed and another follows.

    Attributes:
        error_json: the serialized error.
        due_at: start of the next attempt, not before; epoch ms, server time.
        steps: the steps that this attempt ended without success; kept in its trace, since the next attempt
            overwrites them.
    """

    error_json: bytes
    due_at: int
    steps: list[StepRecord] = field(default_factory=list)


@dataclass(slots=True)
class Suspended:
    """The run sleeps.

    Attributes:
        due_at: the earliest end of its open waits, epoch ms, server time; None if only a decision wakes it.
        waits: the steps that a script may decide; one that is decided already makes the run ready at once.
    """

    due_at: int | None
    waits: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HandedBack:
    """The worker stops; another goes on with the same attempt, its steps kept. Or the run timed out: it ends there."""


@dataclass(slots=True)
class Waiting:
    """The run was not admitted: its claim was taken back, and somebody claims it again when its turn has come."""


Outcome = Succeeded | Failed | Canceled | Retry | Suspended | HandedBack | Waiting


def decide_failure(
    *,
    error_json: bytes,
    retryable: bool,
    attempt: int,
    max_attempts: int,
    delay_ms: int,
    now_ms: int,
    steps: list[StepRecord],
) -> Failed | Retry:
    """What a failed attempt leads to: another one if the error allows it and attempts are left (spec 6.3)."""
    if not retryable or attempt >= max_attempts:
        return Failed(error_json)
    return Retry(error_json, now_ms + delay_ms, steps)
