"""What a claimed run passes before its handler begins: debounce, mutex, rate limit, throttle (spec 5.5 and 6.5).

Here the keys are computed, with the definition's own functions; the engine decides in one script, all or nothing. A
workflow without any of these options makes no call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from redflow.definitions import AnyWorkflow, compute_debounce
from redflow.domain.names import check_key
from redflow.domain.options import window_of
from redflow.errors import CanceledError, RateLimitExceededError
from redflow.execution.journal import Claim
from redflow.types import ResolvedDebounce, WorkflowRateLimitOptions

T = TypeVar("T")


class NotAdmitted(Exception):
    """The claim was taken back: the run waits in a line or for a time, or was merged into another."""


class Refused(Exception):
    """A key function raised, or returned what is no key: the run fails with that error, without a retry."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class Budget:
    """So many starts in a period: key, limit, and the period in ms."""

    key: str
    limit: int
    period_ms: int


@dataclass(slots=True)
class AdmissionRequest:
    """What a run asks to pass.

    Attributes:
        first: nothing of it was ever executed, so it pays budget.
        mutex: key of the mutex it needs.
        rate: its rate limit.
        throttle: its throttle.
    """

    first: bool
    mutex: str | None = None
    rate: Budget | None = None
    throttle: Budget | None = None


@dataclass(slots=True)
class Admission:
    """The engine's answer: admitted | waits | rate_limited | canceled; its time, and what is left of the window, ms."""

    code: str
    now_ms: int
    retry_after_ms: int = 0


class Gate(Protocol):
    """The engine, where it decides whether a run may begin."""

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Let the run pass everything, or nothing.

        Raises:
            LeaseLost
        """
        ...

    async def debounce(self, debounce: ResolvedDebounce) -> str:
        """Debounce a run that was created without its key: go_on | waits | canceled.

        Raises:
            LeaseLost
        """
        ...


def has_gates(definition: AnyWorkflow) -> bool:
    """Whether runs of a workflow have to pass anything."""
    options = definition.options
    limited = options.rate_limit is not None or options.throttle is not None
    return limited or options.mutex is not None or options.debounce is not None


async def pass_gates(claim: Claim, definition: AnyWorkflow, data: object, gate: Gate) -> None:
    """Return when the run may begin.

    Args:
        claim: the run; its start becomes the time of its admission.
        definition: its workflow.
        data: the validated input.
        gate: decides.

    Raises:
        NotAdmitted: it has to wait; somebody claims it again.
        RateLimitExceededError: the rate limit of its key is used up.
        Refused: it has no valid key.
        CanceledError: a cancel was requested.
        LeaseLost
    """
    options = definition.options
    new = claim.attempt == 1 and not claim.steps
    # One that was refused by its rate limit, and is retried, has not paid: a retry is no way around a limit.
    first = new or (claim.unpaid and not claim.steps)
    if options.debounce is not None and new:
        _go_on_or_leave(await gate.debounce(_checked(lambda: _debounce(definition, data))))
    elif options.mutex is None and options.rate_limit is None and options.throttle is None:
        return
    request = _checked(lambda: _request(definition, data, first))
    admission = await gate.admit(request)
    if admission.code == "rate_limited":
        message = f"Workflow rate limit exceeded: {definition.name}"
        raise RateLimitExceededError(message, max(1, admission.retry_after_ms))
    _go_on_or_leave(admission.code)
    if first:
        claim.started_at = admission.now_ms


def _go_on_or_leave(code: str) -> None:
    if code == "canceled":
        raise CanceledError()
    if code not in ("admitted", "go_on"):
        raise NotAdmitted(code)


def _checked(compute: Callable[[], T]) -> T:
    try:
        return compute()
    except Exception as exc:
        raise Refused(exc) from exc


def _debounce(definition: AnyWorkflow, data: object) -> ResolvedDebounce:
    debounce = compute_debounce(definition, data)
    assert debounce is not None
    return debounce


def _request(definition: AnyWorkflow, data: object, first: bool) -> AdmissionRequest:
    options = definition.options
    request = AdmissionRequest(first)
    if options.mutex is not None:
        request.mutex = check_key(options.mutex(data), what="mutex")
    if first and options.rate_limit is not None:
        request.rate = _budget(options.rate_limit, data, "rate_limit")
    if first and options.throttle is not None:
        request.throttle = _budget(options.throttle, data, "throttle")
    return request


def _budget(options: WorkflowRateLimitOptions, data: object, what: str) -> Budget:
    window = window_of(options, what)
    return Budget(check_key(options.key(data), what=f"{what}.key"), window.limit, window.period_ms)
