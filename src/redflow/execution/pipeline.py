"""An attempt as a pipeline over one value: validate input -> admission -> run handler -> check output -> decide.

The outcome is what `settle` writes. User code can't change it once the attempt's state has left `running`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from redflow.definitions import AnyWorkflow, BlockingWorkflowHandlerContext, WorkflowHandlerContext
from redflow.domain.outcome import (
    Canceled,
    Failed,
    HandedBack,
    Outcome,
    Retry,
    Succeeded,
    Suspended,
    Waiting,
    decide_failure,
)
from redflow.domain.payload import decode, encode, pack, unpack
from redflow.domain.retry import MAX_JITTER_MS
from redflow.errors import (
    CanceledError,
    InputValidationError,
    OutputSerializationError,
    PayloadTooLargeError,
    error_from_json,
    make_error_json,
)
from redflow.execution.admission import Gate, NotAdmitted, Refused, has_gates, pass_gates
from redflow.execution.attempt import UNWIND_S, Attempt
from redflow.execution.blocking import BlockingSteps
from redflow.execution.journal import Claim, Interruption, LeaseLost
from redflow.execution.retrying import judge
from redflow.execution.threads import result_of
from redflow.types import CancelSignal, OnFailureContext, RetryPolicyContext, RetryPolicyRunContext, RunContext, StepApi

log = logging.getLogger("redflow")


async def run_handler(attempt: Attempt, definition: AnyWorkflow, data: object) -> bytes:
    """Run the handler and encode its output.

    Args:
        attempt: the run.
        definition: its workflow.
        data: its validated input.

    Returns:
        The output as stored JSON.

    Raises:
        Whatever makes the attempt fail; asyncio.CancelledError when it was interrupted.
    """
    output = await _call_handler(attempt, definition, data)
    interrupted = attempt.state != "running"
    attempt.close()
    if attempt.in_flight or attempt.open_waits:
        await end_leftovers(attempt)
    if interrupted:
        raise asyncio.CancelledError("the attempt was interrupted")
    return encode_output(output)


def validate_input(attempt: Attempt, definition: AnyWorkflow) -> object:
    """The handler's input: the stored JSON, through the input schema if there is one."""
    stored = decode(unpack(attempt.claim.input_json))
    schema = definition.options.input_schema
    if schema is None:
        return stored
    try:
        validate: Callable[[object], object] = getattr(schema, "model_validate")  # noqa: B009 - any class that has it
        return validate(stored)
    except InputValidationError:
        raise
    except Exception as exc:
        raise InputValidationError(f"Workflow input validation failed: {exc}", issues=exc) from exc


def encode_output(output: object) -> bytes:
    """A handler's output as stored JSON."""
    try:
        return pack(encode(output, what="output"))
    except PayloadTooLargeError:
        raise
    except (TypeError, ValueError) as exc:
        raise OutputSerializationError(cause_error=exc) from exc


def _call_handler(attempt: Attempt, definition: AnyWorkflow, data: object) -> Awaitable[object]:
    steps = attempt.make_steps(attempt)
    if definition.async_handler is not None:
        context = AttemptContext.of(attempt, data, steps)
        attempt.on_suspend = partial(_set_suspending, context)
        return definition.async_handler(context)
    assert definition.blocking_handler is not None
    run = run_context(attempt.claim)
    blocking = BlockingWorkflowHandlerContext(data, run, BlockingSteps(attempt, steps), attempt.signal)
    attempt.on_suspend = partial(_set_suspending, blocking)
    attempt.thread_handler = attempt.threads.handlers.submit(partial(definition.blocking_handler, blocking))
    return result_of(attempt.thread_handler, UNWIND_S)


class AttemptContext(WorkflowHandlerContext[object]):
    """The context of an attempt. What few handlers look at is made when they do: `run` and `signal`."""

    __slots__ = ("_attempt", "_run", "_signal")
    _attempt: Attempt
    _run: RunContext | None
    _signal: CancelSignal | None

    @classmethod
    def of(cls, attempt: Attempt, data: object, steps: StepApi) -> AttemptContext:
        """The context of an attempt with this input; `__init__` stays that of its base, for `dataclasses.replace`."""
        context = cls.__new__(cls)
        context.input, context.step, context.suspending = data, steps, False
        context._attempt, context._run, context._signal = attempt, None, None
        return context

    @property
    def run(self) -> RunContext:
        """The run."""
        if self._run is None:
            self._run = run_context(self._attempt.claim)
        return self._run

    @run.setter
    def run(self, run: RunContext) -> None:
        self._run = run

    @property
    def signal(self) -> CancelSignal:
        """The signal of the attempt."""
        return self._attempt.signal if self._signal is None else self._signal

    @signal.setter
    def signal(self, signal: CancelSignal) -> None:
        self._signal = signal


def run_context(claim: Claim) -> RunContext:
    """The run as handlers and hooks see it."""
    return RunContext(claim.run_id, claim.workflow, claim.queue, claim.attempt, claim.max_attempts)


def _set_suspending(context: WorkflowHandlerContext[object] | BlockingWorkflowHandlerContext[object]) -> None:
    context.suspending = True


async def end_leftovers(attempt: Attempt) -> None:
    """Steps still open when the handler returns are cancelled; its outcome stands."""
    names = sorted({*attempt.in_flight, *attempt.open_waits})
    if not names:
        return
    if attempt.state == "ended":
        log.warning("run %s ended with open steps, which are canceled: %s", attempt.claim.run_id, ", ".join(names))
    tasks = attempt.cancel_leftovers()
    if tasks:
        await asyncio.wait(tasks, timeout=UNWIND_S)


class Settler(Gate, Protocol):
    """What the pipeline needs of the engine beside the journal."""

    async def decide_failure(self, error_json: bytes) -> Interruption | None:
        """Record that the run fails for good; what came first, if something did: a cancel request, or the time-out.

        Raises:
            LeaseLost
        """
        ...


async def attempt_outcome(attempt: Attempt, definition: AnyWorkflow, settler: Settler) -> Outcome | None:
    """Everything from a claim to its outcome; None when the lease was lost and nothing may be written."""
    claim = attempt.claim
    if claim.decided_failure is not None:
        return await _finish_decided(attempt, definition, claim.decided_failure)
    try:
        data = validate_input(attempt, definition)
        if has_gates(definition):
            await pass_gates(claim, definition, data, settler)
        return Succeeded(await run_handler(attempt, definition, data))
    except NotAdmitted:
        attempt.close()
        return Waiting()
    except BaseException as exc:
        error = exc
    try:
        return await _ended_by(attempt, definition, settler, error)
    except LeaseLost:
        attempt.interrupt("lost")
        return None
    finally:
        del error  # its traceback holds this frame: the two would be a cycle


async def _ended_by(
    attempt: Attempt, definition: AnyWorkflow, settler: Settler, error: BaseException
) -> Outcome | None:
    interrupted = interrupted_outcome(attempt)
    attempt.close()
    await end_leftovers(attempt)
    if interrupted is not None or attempt.state == "lost":
        return interrupted
    if isinstance(error, CanceledError):
        return Canceled()
    if isinstance(error, asyncio.CancelledError):
        error = RuntimeError("the handler was cancelled by itself: an asyncio.CancelledError left it")
    if isinstance(error, Refused):
        failed = Failed(pack(make_error_json(error.error).encode()))
        return await _fail_for_good(attempt, definition, settler, failed, error.error)
    return await _after_failure(attempt, definition, settler, error)


def interrupted_outcome(attempt: Attempt) -> Outcome | None:
    """The outcome that an interruption has fixed; None if there was none, or if nothing may be written."""
    if attempt.state == "suspended":
        return Suspended(attempt.earliest_wake(), attempt.decided_elsewhere())
    if attempt.state == "canceled":
        return Canceled()
    if attempt.state in ("stopping", "timed_out"):
        return HandedBack()
    return None


async def _after_failure(
    attempt: Attempt, definition: AnyWorkflow, settler: Settler, error: BaseException
) -> Outcome | None:
    claim, policy = attempt.claim, definition.options.retries
    run = RetryPolicyRunContext(
        claim.attempt, claim.run_id, claim.max_attempts, claim.attempt + 1, claim.queue, claim.workflow
    )
    data = _input_or_none(attempt, definition)
    verdict = await judge(
        policy,
        RetryPolicyContext(error, data, run),
        error,
        now_ms=attempt.journal.now_ms(),
        jitter=lambda: random.randint(0, MAX_JITTER_MS),
    )
    outcome = decide_failure(
        error_json=pack(make_error_json(verdict.error).encode()),
        retryable=verdict.retryable,
        attempt=claim.attempt,
        max_attempts=claim.max_attempts,
        delay_ms=verdict.delay_ms,
        now_ms=attempt.journal.now_ms(),
        steps=attempt.unsuccessful,
    )
    if isinstance(outcome, Retry):
        return outcome
    return await _fail_for_good(attempt, definition, settler, outcome, verdict.error)


async def _fail_for_good(
    attempt: Attempt, definition: AnyWorkflow, settler: Settler, outcome: Failed, error: BaseException
) -> Outcome:
    """Tell the workflow, if it wants to know, and end."""
    if definition.options.on_failure is None:
        return outcome
    if interruption := await settler.decide_failure(outcome.error_json):
        return Canceled() if interruption == "canceled" else HandedBack()
    await call_on_failure(attempt, definition, error)
    return HandedBack() if attempt.state == "stopping" else outcome


async def _finish_decided(attempt: Attempt, definition: AnyWorkflow, error_json: bytes) -> Outcome:
    """A run that failed already: its last holder died around on_failure."""
    stored = decode(unpack(error_json))
    error = error_from_json(stored if isinstance(stored, dict) else {})
    await call_on_failure(attempt, definition, error)
    return HandedBack() if attempt.state == "stopping" else Failed(error_json)


async def call_on_failure(attempt: Attempt, definition: AnyWorkflow, error: BaseException) -> None:
    """Tell the workflow of its failure; what that raises is logged and swallowed (spec 6.4)."""
    hook = definition.options.on_failure
    if hook is None:
        return
    claim = attempt.claim
    context = OnFailureContext(error, _input_or_none(attempt, definition), run_context(claim))
    try:
        if inspect.iscoroutinefunction(hook):
            await hook(context)
            return
        answer = await attempt.threads.submit(lambda: hook(context))
        if inspect.isawaitable(answer):
            await answer
    except asyncio.CancelledError:
        if attempt.state not in ("stopping", "lost"):
            log.warning("on_failure of run %s was cancelled", claim.run_id)
    except BaseException:
        log.exception("on_failure of run %s raised; the run fails all the same", claim.run_id)


def _input_or_none(attempt: Attempt, definition: AnyWorkflow) -> object:
    try:
        return validate_input(attempt, definition)
    except Exception:  # the input is what made the run fail: hooks are told None (spec 6.2)
        return None
