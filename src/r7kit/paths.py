"""Paths into a payload, such as "mathematic.input" or "items.0.price". Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redflow.domain.names import check_name
from redflow.types import JsonData


def top_keys(paths: Iterable[str]) -> list[str]:
    """The top-level keys that may hold what the paths lead to: of "a.b" both "a.b" and "a".

    Raises:
        TypeError, ValueError: a path is no text, or blank.
    """
    keys: dict[str, None] = {}
    for path in paths:
        check_name(path, what="path")
        parts = path.split(".")
        for length in range(len(parts), 0, -1):
            keys[".".join(parts[:length])] = None
    return list(keys)


def look_up(payload: Mapping[str, JsonData], path: str, default: object) -> object:
    """The value at the path. The longest top-level key that fits is taken.

    Args:
        payload: where to look.
        path: keys and list positions, with dots between.
        default: for a path that leads nowhere; `...`: none.

    Raises:
        KeyError: the path leads nowhere, and there is no default.
    """
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if key in payload:
            found, value = _descend(payload[key], parts[length:])
            if found:
                return value
    if default is ...:
        raise KeyError(f"the payload has nothing at {path!r}, and no default was given")
    return default


def _descend(value: JsonData, parts: list[str]) -> tuple[bool, JsonData]:
    for part in parts:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) < 10:
            if int(part) >= len(value):
                return False, None
            value = value[int(part)]
        else:
            return False, None
    return True, value
