"""Delays and durations, within the limit that holds for all of them."""

from __future__ import annotations

from redflow._delay import delay_ms, parse_duration
from redflow.errors import MAX_DELAY_MS, check_delay

__all__ = ["MAX_DELAY_MS", "parse_duration", "resolve_delay_ms"]


def resolve_delay_ms(target: object, *, now_ms: int, label: str) -> int:
    """Turn a delay target into whole milliseconds from now, rounded down.

    Args:
        target: milliseconds (int or float), a duration text such as "1.5h", or a datetime (a naive one is
            local time; one in the past gives 0).
        now_ms: the present, in epoch milliseconds; used for datetimes only.
        label: how an error names the field.

    Returns:
        The delay in milliseconds, 0 or more.

    Raises:
        ValueError: `Invalid <label>: …` for bool, NaN, infinities, negative numbers, texts that are no
            duration, and all other types.
        LimitExceededError: the delay is longer than ten years.

    Example:
        >>> resolve_delay_ms("1.5s", now_ms=0, label="timeout")
        1500
    """
    return check_delay(delay_ms(target, now_ms=now_ms, label=label), label)
