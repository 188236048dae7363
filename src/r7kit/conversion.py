"""JSON values as declared types, the same way on every engine. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from redflow.types import JsonData


def _make_adapter(hint: object) -> TypeAdapter[object]:
    form: Any = hint  # reason: hints are known at run time only
    return TypeAdapter(form)


_adapter: Final = lru_cache(maxsize=1024)(_make_adapter)


def convert(value: JsonData, hint: object | None) -> object:
    """A JSON value as the declared type; None as hint leaves it as it is.

    Raises:
        ValueError: it does not fit.
    """
    if hint is None or hint is object or hint is inspect.Parameter.empty:
        return value
    try:
        adapter = _adapter(hint)
    except TypeError:  # the hint can't be hashed, such as a Literal of lists
        adapter = _make_adapter(hint)
    return adapter.validate_json(orjson.dumps(value))


def convert_all(values: Sequence[JsonData], hints: Sequence[object]) -> list[object]:
    """The arguments of a function as its declared types; more values than hints stay as they are."""
    return [convert(value, hints[place] if place < len(hints) else None) for place, value in enumerate(values)]
