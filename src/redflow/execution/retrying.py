"""What a workflow's own retry policy says of a failure (spec 6.3)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from redflow.domain.duration import resolve_delay_ms
from redflow.domain.retry import backoff_ms, is_retryable_error
from redflow.errors import RetryAfterError
from redflow.types import RetryPolicyContext, WorkflowRetryPolicy


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
