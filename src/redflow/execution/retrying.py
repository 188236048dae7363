"""What a workflow's own retry policy says of a failure (spec 6.3), and the tries of a step that is retried in place."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass

from redflow.domain.duration import resolve_delay_ms
from redflow.domain.retry import MAX_JITTER_MS, backoff_ms, is_retryable_error
from redflow.errors import NonRetriableError, RetryAfterError
from redflow.types import RetryPolicyContext, StepRetry, WorkflowRetryPolicy


@dataclass(slots=True)
class Verdict:
    """Whether an error may be retried, after how long, and which error is the one to record."""

    retryable: bool
    delay_ms: int
    error: BaseException


async def judge(
    policy: WorkflowRetryPolicy | None,
    context: RetryPolicyContext,
    error: BaseException,
    *,
    now_ms: int,
    jitter: Callable[[], int],
) -> Verdict:
    """Ask the policy. A policy that raises, or names a delay that is none, ends the run with its own error."""
    if not isinstance(error, Exception) or not is_retryable_error(error):
        return Verdict(False, 0, error)
    try:
        if policy is not None and policy.should_retry is not None:
            answer: object = policy.should_retry(context)
            if inspect.isawaitable(answer):
                answer = await answer
            if not answer:
                return Verdict(False, 0, error)
        return Verdict(True, await _delay_ms(policy, context, error, now_ms, jitter), error)
    except Exception as exc:
        return Verdict(False, 0, exc)


async def _delay_ms(
    policy: WorkflowRetryPolicy | None,
    context: RetryPolicyContext,
    error: Exception,
    now_ms: int,
    jitter: Callable[[], int],
) -> int:
    if isinstance(error, RetryAfterError):
        return error.retry_after_ms
    if policy is None or policy.delay is None:
        return backoff_ms(context.run.attempt, jitter())
    target: object = policy.delay(context) if callable(policy.delay) else policy.delay
    if inspect.isawaitable(target):
        target = await target
    return resolve_delay_ms(target, now_ms=now_ms, label="retries.delay")


class Tries:
    """The tries of one step within one attempt.

    Args:
        retry: how it is tried again.
        step: its name.
        now_ms: tells the time, epoch ms.

    Raises:
        NonRetriableError: the delay is none.
    """

    def __init__(self, retry: StepRetry, step: str, now_ms: Callable[[], int]) -> None:
        self._retry = retry
        self._label = f"retry delay of step {step!r}"
        self._now_ms = now_ms
        self._made = 0
        if retry.delay is not None:
            try:
                resolve_delay_ms(retry.delay, now_ms=now_ms(), label=self._label)
            except (TypeError, ValueError) as exc:
                raise NonRetriableError(str(exc)) from exc

    def pause_ms(self, error: BaseException) -> int | None:
        """After a try that failed: how long until the next, ms; None if there is none."""
        self._made += 1
        retry = self._retry
        if self._made >= retry.max_attempts:
            return None
        if not isinstance(error, Exception) or not is_retryable_error(error):
            return None
        if isinstance(error, RetryAfterError):
            return error.retry_after_ms
        if retry.delay is None:
            return backoff_ms(self._made, random.randint(0, MAX_JITTER_MS))
        return resolve_delay_ms(retry.delay, now_ms=self._now_ms(), label=self._label)
