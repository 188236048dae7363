"""How numbers, times and stored texts are shown. Pure; times are epoch ms."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from redflow.types import JsonValue

MOST_SHOWN: Final = 20_000
"""Characters of a payload that a page shows; the rest is behind a link."""

MASKED: Final = "••••••"
"""What stands in place of a masked value."""

EVERYTHING: Final = "*"
"""As the name of a key to mask: all of a payload."""

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def duration(ms: float | None) -> str:
    """A length of time in at most two units: 340 ms, 1.2 s, 3 min 4 s, 2 d 5 h."""
    if ms is None:
        return ""
    whole = max(0, round(ms))
    if whole < 1_000:
        return f"{whole} ms"
    if whole < 60_000:
        return f"{whole / 1000:.1f}".rstrip("0").rstrip(".") + " s"
    for (size, unit), (smaller, small) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {small}" if rest else f"{whole // size} {unit}"
    return f"{whole} ms"


def coarse(ms: int) -> str:
    """About how long: one unit, so that a page doesn't change all the time."""
    if ms < 1_000:
        return "below 1 s"
    for size, unit in _UNITS:
        if ms >= size:
            return f"{ms // size} {unit}"
    return "0 s"


def iso(ms: int) -> str:
    """A time as ISO 8601 in UTC; what no calendar has is told as its number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def moment(ms: int | None) -> Markup:
    """A time as an element: its text is absolute, the page's script makes it relative and keeps it so."""
    if ms is None:
        return Markup('<span class="none">–</span>')
    at = iso(ms)
    shown = at[:19].replace("T", " ") + " UTC" if at.endswith("Z") else at
    return Markup('<time datetime="{}" data-ms="{}" title="{}">{}</time>').format(at, ms, at, shown)


def count(number: int) -> str:
    """A number with its thousands apart: 1 234 567."""
    return f"{number:,}".replace(",", "\u202f")


def visible(text: str) -> str:
    """A text in which nothing is invisible or turns the direction of what follows: such signs are written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign if sign in "\n\t\u202f" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co") else _escape(sign)
        for sign in text
    )


def _escape(sign: str) -> str:
    number = ord(sign)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def short_id(run_id: str) -> str:
    """The part of an id that tells it from its neighbours."""
    return f"…{run_id[-8:]}" if len(run_id) > 14 else run_id


def one_line(text: str, most: int = 160) -> str:
    """A text on one line, cut."""
    flat = " ".join(text[: most * 4].split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def pretty(value: object) -> str:
    """A stored value as JSON for people."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def cut(text: str) -> str:
    """As much of a text as a page shows."""
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN]


def masked(value: JsonValue, keys: Collection[str]) -> JsonValue:
    """The value with what stands under one of the keys (lower case) hidden, at any depth; EVERYTHING hides all."""
    if EVERYTHING in keys:
        return MASKED
    return _masked(value, keys) if keys else value


def _masked(value: JsonValue, keys: Collection[str]) -> JsonValue:
    if isinstance(value, dict):
        return {key: MASKED if key.lower() in keys else _masked(inner, keys) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, keys) for inner in value]
    return value


def unmasked(value: JsonValue, original: JsonValue, keys: Collection[str]) -> JsonValue:
    """An edited copy of a masked value, with what was left masked as it was in the original."""
    if EVERYTHING in keys and value == MASKED:
        return original
    if isinstance(value, dict) and isinstance(original, dict):
        return {
            key: original[key]
            if inner == MASKED and key.lower() in keys and key in original
            else unmasked(inner, original.get(key), keys)
            for key, inner in value.items()
        }
    if isinstance(value, list) and isinstance(original, list):
        rest = original + [None] * (len(value) - len(original))
        return [unmasked(inner, of, keys) for inner, of in zip(value, rest, strict=False)]
    return value
