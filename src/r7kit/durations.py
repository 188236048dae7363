"""Times as users of task flows give them: seconds as numbers, or timedeltas."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final, TypeAlias

Seconds: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""

_MAX_S: Final = 10 * 365 * 86_400


def seconds(value: object, *, what: str, least: float = 0.0) -> float:
    """A time in seconds.

    Args:
        value: seconds, or a timedelta.
        what: how an error names it.
        least: the smallest that is allowed; 0 itself is allowed only for a `least` below 0.

    Raises:
        ValueError: no number, not finite, too small, or more than 10 years.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{what} must be seconds or a timedelta, got {str(value)[:80]!r}")
    if number <= least or number > _MAX_S:
        raise ValueError(f"{what} must be more than {least:g} and at most {_MAX_S} seconds, got {number:g}")
    return float(number)


def timeout_s(value: Seconds | None) -> float | None:
    """A timeout in seconds; None: none given.

    Raises:
        ValueError: it is none; see `seconds`.
    """
    return None if value is None else seconds(value, what="timeout")
