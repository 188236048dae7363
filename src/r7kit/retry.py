"""Retry policies as users give them: a RetryPolicy, or a mapping of its fields. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from r7kit.durations import seconds
from r7kit.runtime import RetryPolicy

RetryLike: TypeAlias = RetryPolicy | Mapping[str, object]
"""A RetryPolicy, or a mapping of `initial_interval`, `backoff`, `maximum_interval` and `maximum_attempts`."""

_NAMES: Final = ("initial_interval", "backoff", "maximum_interval", "maximum_attempts")


def check_retry(retry: object) -> RetryPolicy | None:
    """A policy whose values are in their ranges; None stays None, which means one attempt.

    Raises:
        TypeError: neither a policy nor a mapping.
        ValueError: an unknown field, or one out of its range; the message names it.
    """
    if retry is None:
        return None
    if isinstance(retry, Mapping):
        unknown = [name for name in retry if name not in _NAMES]
        if unknown:
            raise ValueError(f"retry: unknown field {str(unknown[0])[:80]!r}; known are {', '.join(_NAMES)}")
        given = dict(retry)
    elif isinstance(retry, RetryPolicy):
        given = {name: getattr(retry, name) for name in _NAMES}
    else:
        raise TypeError(f"retry must be a RetryPolicy or a mapping, got {type(retry).__name__}")
    initial = seconds(given.get("initial_interval", 1.0), what="retry.initial_interval")
    longest = given.get("maximum_interval")
    longest_s = None if longest is None else seconds(longest, what="retry.maximum_interval")
    if longest_s is not None and longest_s < initial:
        raise ValueError(f"retry.maximum_interval must be initial_interval ({initial:g}) or more, got {longest_s:g}")
    backoff = given.get("backoff", 2.0)
    if isinstance(backoff, bool) or not isinstance(backoff, int | float) or not 1 <= backoff <= 1000:
        raise ValueError(f"retry.backoff must be a number from 1 to 1000, got {backoff!r}")
    attempts = given.get("maximum_attempts", 1)
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 0 <= attempts < 2**31:
        raise ValueError(f"retry.maximum_attempts must be a whole number, 0 (unlimited) or more, got {attempts!r}")
    return RetryPolicy(initial, float(backoff), longest_s, attempts)
