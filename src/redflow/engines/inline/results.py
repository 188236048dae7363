"""What `run_inline` tells of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

OutputT = TypeVar("OutputT")

InlineStepStatus: TypeAlias = Literal["succeeded", "failed"]
"""How a step ended. One that was cut off, by the end of its handler for instance, counts as failed."""


@dataclass(slots=True)
class InlineStepResult:
    """One step of an inline run.

    Attributes:
        name: the step's name.
        status: how it ended.
        output: what the handler got from it; None if it failed.
        error: the exception it failed with, the very object; None if it succeeded.
    """

    name: str
    status: InlineStepStatus
    output: object = None
    error: BaseException | None = None


@dataclass(slots=True)
class InlineRunResult(Generic[OutputT]):
    """How an inline run ended.

    Attributes:
        output: what the handler returned, after its round trip through JSON; None if the run failed.
        error: the exception the run failed with, the very object; None if it succeeded.
        steps: the steps that began, in that order.
    """

    output: OutputT | None = None
    error: BaseException | None = None
    steps: list[InlineStepResult] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether the handler returned, with an output that is JSON."""
        return self.error is None
