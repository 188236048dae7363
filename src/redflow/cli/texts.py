"""How values are written for people and programs: nothing from elsewhere ever reaches the terminal as a control."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from unicodedata import combining, east_asian_width

from redflow.types import JsonData

_ESCAPES: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def safe(text: str, *, lines: bool = False) -> str:
    """A text with everything escaped that a terminal might obey: controls, direction marks, lone surrogates.

    Args:
        text: from a user, a server or an error.
        lines: leave ends of lines and tabs as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or (lines and char in "\n\t") else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(value: JsonData, *, indent: int | None = None) -> str:
    """JSON with whatever a terminal might obey as JSON's own escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def cut(text: str, width: int) -> str:
    """A text on one line, of so many characters at most."""
    first = safe(text.strip().partition("\n")[0])
    return first if len(first) <= width else f"{first[: width - 1]}…"


def moment(at_ms: int | None) -> str:
    """A time as people read it, local."""
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(ms: int | None) -> str:
    """A length of time as people read it."""
    if ms is None:
        return "-"
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms} ms"


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines, the heads first; columns are as wide as what stands in them, and nothing is cut."""
    shown = [list(heads), *([safe(cell) for cell in row] for row in rows)]
    widths = [max(_width(row[n]) for row in shown) for n in range(len(heads))]
    return ["  ".join(map(_filled, row, widths)).rstrip() for row in shown]


def _filled(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def pairs(values: Mapping[str, object]) -> list[str]:
    """Names and values, a line each; without those that are None."""
    there = {name: str(value) for name, value in values.items() if value is not None}
    width = max(map(len, there), default=0)
    return [f"{name.ljust(width)}  {safe(value)}" for name, value in there.items()]
