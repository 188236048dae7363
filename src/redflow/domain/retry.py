"""What is retried, how often, and after how long."""

from __future__ import annotations

import math

from redflow.errors import (
    CanceledError,
    InputValidationError,
    NonRetriableError,
    OutputSerializationError,
    PayloadDecodeError,
    PayloadKeyMissingError,
    RateLimitExceededError,
    UnknownWorkflowError,
)

MAX_JITTER_MS = 99
"""The largest random part of a default retry delay, in milliseconds."""

_FIRST_DELAY_MS = 250
_LONGEST_DELAY_MS = 30_000
_DOUBLINGS = 7  # 250 * 2**7 is the first to reach the longest delay; more would only make big integers

_FINAL = (
    InputValidationError,
    UnknownWorkflowError,
    OutputSerializationError,
    CanceledError,
    NonRetriableError,
    RateLimitExceededError,
)


def is_retryable_error(error: object) -> bool:
    """Whether a failed attempt may be followed by another: true unless the error is of a final class."""
    if isinstance(error, PayloadDecodeError):
        return isinstance(error, PayloadKeyMissingError)  # another worker may have the key
    return not isinstance(error, _FINAL)


def backoff_ms(attempt: int, jitter: int) -> int:
    """The default delay before the attempt after `attempt`, in milliseconds.

    Args:
        attempt: the attempt that failed, counted from 1.
        jitter: the random part, 0 to MAX_JITTER_MS, in milliseconds; the caller draws it.

    Returns:
        250, 500, 1,000 … up to 30,000, plus `jitter`.
    """
    doublings = min(max(0, attempt - 1), _DOUBLINGS)
    return min(_LONGEST_DELAY_MS, _FIRST_DELAY_MS << doublings) + jitter


def resolve_max_attempts(*candidates: object) -> int | None:
    """The first candidate that is a valid number of attempts, rounded down; None if none is.

    Valid is a finite int or float of at least 1 that is not a bool. Give the more specific setting first:
    `resolve_max_attempts(retries.max_attempts, options.max_attempts)`.
    """
    for value in candidates:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            continue
        if value >= 1:
            return int(value)
    return None
