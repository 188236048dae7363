"""What a step's function looks like: is it async, does it want a signal, which type does it promise.

Looked up once per code object, since `inspect.signature` costs as much as a step.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
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
_by_function: dict[Callable[..., object], FunctionFacts] = {}


def function_facts(function: Callable[..., object]) -> FunctionFacts:
    """The facts of a function, from a cache where its code object allows that."""
    if type(function) is not types.FunctionType:
        return _facts_by_code(function)
    if (known := _by_function.get(function)) is not None:
        return known
    facts = _facts_by_code(function)
    # Functions of a module live as long as it does; those made within others come and go, and are known by their code.
    if "<locals>" not in function.__qualname__:
        if len(_by_function) >= _CACHE_LIMIT:
            _by_function.clear()
        _by_function[function] = facts
    return facts


def _facts_by_code(function: Callable[..., object]) -> FunctionFacts:
    key = _cache_key(function)
    if key is not None and (known := _facts.get(key)) is not None:
        return known
    facts = _look_at(function)
    if key is not None:
        if len(_facts) >= _CACHE_LIMIT:
            _facts.clear()
        _facts[key] = facts
    return facts


def _cache_key(function: Callable[..., object]) -> object:
    """What the facts depend on; None if that can't be told."""
    # All wrappers that one decorator makes share their code: what they wrap tells them apart.
    inner = inspect.unwrap(function)
    codes = getattr(function, "__code__", None), getattr(inner, "__code__", None)
    annotation = _declared(function)
    if isinstance(annotation, str) and any(name in annotation for name in _closure(inner)):
        return None  # the same text may name another class in another closure of the same code
    try:
        hash(annotation)
    except TypeError:
        return None
    return None if None in codes else (codes, annotation)


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
        annotation = _return_annotation(plain)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None  # an annotation that can't be resolved here promises nothing we could hold it to
    if typing.get_origin(annotation) in (Awaitable, Coroutine):
        annotation = typing.get_args(annotation)[-1]
    if annotation is None or not _mentions_model(annotation):
        return None
    return TypeAdapter(annotation)


def _declared(function: Callable[..., object]) -> object:
    """The annotation of the result as it is written; None where there is none."""
    annotations = getattr(function, "__annotations__", None)
    return annotations.get("return") if isinstance(annotations, dict) else None


def _return_annotation(function: Callable[..., object]) -> type[object] | None:
    """The type of the result, resolved alone: a parameter's type may exist for type checkers only."""
    inner = inspect.unwrap(function)
    holder = types.SimpleNamespace(__annotations__={"return": _declared(function)})
    return typing.get_type_hints(holder, getattr(inner, "__globals__", {}), _closure(inner)).get("return")


def _closure(function: Callable[..., object]) -> dict[str, object]:
    """The variables a function has from the functions around it, as far as they are set."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    variables: dict[str, object] = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            variables[name] = cell.cell_contents
        except ValueError:
            continue  # assigned later
    return variables


def _mentions_model(annotation: object) -> bool:
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType, list, tuple, dict):
        return any(_mentions_model(part) for part in typing.get_args(annotation))
    target = origin if isinstance(origin, type) else annotation
    return isinstance(target, type) and (issubclass(target, BaseModel) or dataclasses.is_dataclass(target))
