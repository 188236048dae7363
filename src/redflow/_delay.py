"""Delays as users write them: numbers of milliseconds, duration texts, points in time.

This stands at the very bottom, beside `errors` and `types`, because the constructors of two exceptions take
such a delay. Everything else uses `redflow.domain.duration`, which adds the limit.
"""

from __future__ import annotations

import math
import re
from datetime import datetime

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# ASCII digits only, and a bounded number of them, so that no text can make the arithmetic below slow.
_DURATION = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))?(ms|s|m|h|d)", re.IGNORECASE | re.ASCII)


def parse_duration(text: str) -> int:
    """Turn a duration text into whole milliseconds, rounded down.

    The text is digits, an optional fraction and one of the units ms, s, m, h, d. Space around it and the
    case of the unit do not matter; signs, inner spaces and compounds such as `1h30m` are refused.

    Raises:
        ValueError: the text is no duration.

    Example:
        >>> parse_duration("1.5h")
        5400000
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration such as 500ms, 2s, 1.5h: {_shown(text)}")
    whole, fraction, unit = match.groups(default="")
    # Integers, because floats lose whole milliseconds: 0.29 * 100 is 28.999…
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * _UNIT_MS[unit.lower()] // scale


def delay_ms(target: object, *, now_ms: int, label: str) -> int:
    """Turn a delay target into whole milliseconds from now.

    Args:
        target: milliseconds (int or float), a duration text, or a datetime; a naive datetime is local time.
        now_ms: the present, in epoch milliseconds; used for datetimes only.
        label: how an error names the field.

    Returns:
        The delay, 0 or more. A datetime in the past gives 0.

    Raises:
        ValueError: `Invalid <label>: …` for bool, NaN, infinities, negative numbers, texts that are no
            duration, and all other types.
    """
    if isinstance(target, datetime):
        return max(0, math.floor(_epoch_ms(target, label) - now_ms))
    if isinstance(target, str):
        try:
            return parse_duration(target)
        except ValueError as exc:
            raise ValueError(f"Invalid {label}: {exc}") from None
    if isinstance(target, bool) or not isinstance(target, (int, float)):
        got = type(target).__name__
        raise ValueError(f"Invalid {label}: expected milliseconds, a duration text or a datetime, got {got}")
    if isinstance(target, float) and not math.isfinite(target):
        raise ValueError(f"Invalid {label}: expected a finite number of milliseconds, got {target}")
    if target < 0:
        raise ValueError(f"Invalid {label}: expected 0 or more milliseconds, got {_shown(target)}")
    return int(target)


def _epoch_ms(moment: datetime, label: str) -> float:
    try:
        return moment.timestamp() * 1000
    except (OverflowError, ValueError, OSError) as exc:
        # The year 1 or 9999 in a zone far from UTC has no timestamp.
        raise ValueError(f"Invalid {label}: the point in time {moment.isoformat()} is out of range") from exc


def _shown(value: str | int | float) -> str:
    """A short form for messages; huge ints have no cheap text (and none at all beyond 4,300 digits)."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
