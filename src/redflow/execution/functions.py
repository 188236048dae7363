"""What a step's function looks like: is it async, does it want a signal, which type does it promise.

Looked up once per code object, since `inspect.signature` costs as much as a step.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from functools import partial
from typing import Final, Union

from pydantic import BaseModel, TypeAdapter

_CACHE_LIMIT: Final = 4096


@dataclasses.dataclass(slots=True, frozen=True)
class FunctionFacts:
    """What the step runner needs to know of a function.

    Attributes:
        is_async: calling it gives an awaitable without doing the work, so no thread is needed.
        wants_signal: it has a parameter `signal` or takes any keyword.
        adapter: how to store and read its result, if it promises a model or a dataclass.
    """

    is_async: bool
    wants_signal: bool
    adapter: TypeAdapter[object] | None


_facts: dict[object, FunctionFacts] = {}


def function_facts(function: Callable[..., object]) -> FunctionFacts:
    """The facts of a function, from a cache where its code object allows that."""
    code = getattr(function, "__code__", None)
    key = (code, _annotation_key(function)) if code is not None else None
    if key is not None and (known := _facts.get(key)) is not None:
        return known
    facts = _look_at(function)
    if key is not None:
        if len(_facts) >= _CACHE_LIMIT:
            _facts.clear()
        _facts[key] = facts
    return facts


def _annotation_key(function: Callable[..., object]) -> object:
    annotation = getattr(function, "__annotations__", {}).get("return")
    return annotation if isinstance(annotation, str | type | None) else id(annotation)


def _look_at(function: Callable[..., object]) -> FunctionFacts:
    return FunctionFacts(_is_async(function), _wants_signal(function), _result_adapter(function))


def _is_async(function: Callable[..., object]) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    if isinstance(function, partial):
        return _is_async(function.func)
    return inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _wants_signal(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False  # a builtin that does not tell its signature
    return any(p.kind is p.VAR_KEYWORD or (p.name == "signal" and p.kind is not p.POSITIONAL_ONLY) for p in parameters)


def _result_adapter(function: Callable[..., object]) -> TypeAdapter[object] | None:
    plain = function.func if isinstance(function, partial) else function
    try:
        annotation = typing.get_type_hints(plain).get("return")
    except (NameError, TypeError, AttributeError):
        return None  # an annotation that can't be resolved here promises nothing we could hold it to
    if annotation is None or not _mentions_model(annotation):
        return None
    return TypeAdapter(annotation)


def _mentions_model(annotation: object) -> bool:
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType, list, tuple, dict):
        return any(_mentions_model(part) for part in typing.get_args(annotation))
    target = origin if isinstance(origin, type) else annotation
    return isinstance(target, type) and (issubclass(target, BaseModel) or dataclasses.is_dataclass(target))
