"""What is seen of a step's function before it is called."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from pydantic import BaseModel

from redflow.execution.functions import function_facts

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


class Order(BaseModel):
    number: int


@dataclass
class Point:
    x: int


async def an_async_function() -> None: ...


def a_plain_function() -> None: ...


class WithAsyncCall:
    async def __call__(self) -> None: ...


class WithPlainCall:
    def __call__(self) -> None: ...


class Service:
    async def fetch(self, *, signal: asyncio.Event) -> Order:
        return Order(number=1)

    @classmethod
    async def of_class(cls) -> None: ...

    @staticmethod
    def static() -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        an_async_function,
        functools.partial(an_async_function),
        functools.partial(functools.partial(an_async_function)),
        WithAsyncCall(),
        functools.partial(WithAsyncCall()),
        Service().fetch,
        Service.of_class,
    ],
)
def test_async(function: Callable[..., object]) -> None:
    assert function_facts(function).is_async


@pytest.mark.parametrize(
    "function",
    [
        a_plain_function,
        functools.partial(a_plain_function),
        WithPlainCall(),
        Service.static,
        lambda: an_async_function(),
        len,
        dict,
        [].append,
        MagicMock(),
    ],
)
def test_not_async(function: Callable[..., object]) -> None:
    facts = function_facts(function)
    assert not facts.is_async
    assert facts.adapter is None


def test_signal() -> None:
    def by_name(signal: object) -> None: ...
    def by_keyword(*, signal: object = None) -> None: ...
    def any_keyword(**kwargs: object) -> None: ...
    def by_position(signal: object, /) -> None: ...
    def other(signals: object, *args: object) -> None: ...

    assert function_facts(by_name).wants_signal
    assert function_facts(by_keyword).wants_signal
    assert function_facts(any_keyword).wants_signal
    assert function_facts(Service().fetch).wants_signal
    assert function_facts(functools.partial(by_name)).wants_signal
    assert function_facts(AsyncMock()).wants_signal
    assert not function_facts(by_position).wants_signal
    assert not function_facts(other).wants_signal
    assert not function_facts(functools.partial(by_name, None)).wants_signal
    assert not function_facts(print).wants_signal


def logged(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> None:
        await function(*args, **kwargs)

    return wrapper


def test_functions_in_the_same_wrapper_are_told_apart() -> None:
    @logged
    async def with_signal(signal: object) -> None: ...

    @logged
    async def without() -> None: ...

    assert function_facts(with_signal).wants_signal
    assert not function_facts(without).wants_signal


def one() -> Order: ...  # type: ignore[empty-body]
def maybe() -> Order | None: ...
def several() -> list[Order]: ...  # type: ignore[empty-body]
def by_name() -> dict[str, Order]: ...  # type: ignore[empty-body]
def both() -> tuple[Order, Point]: ...  # type: ignore[empty-body]
def nested() -> dict[str, list[Order | None]]: ...  # type: ignore[empty-body]
async def in_async() -> Point: ...  # type: ignore[empty-body]
def to_await() -> Awaitable[Order]: ...  # type: ignore[empty-body]
def to_run() -> Coroutine[Any, Any, Order]: ...  # type: ignore[empty-body]
def with_hidden_parameter(amount: OnlyForCheckers) -> Order: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    "function",
    [
        one,
        maybe,
        several,
        by_name,
        both,
        nested,
        in_async,
        to_await,
        to_run,
        with_hidden_parameter,
        Service().fetch,
    ],
)
def test_results_that_are_models(function: Callable[..., object]) -> None:
    assert function_facts(function).adapter is not None
    assert function_facts(functools.partial(function)).adapter is not None


def number() -> int: ...  # type: ignore[empty-body]
def numbers() -> list[dict[str, int]]: ...  # type: ignore[empty-body]
def anything() -> Any: ...
def hidden() -> OnlyForCheckers: ...  # type: ignore[empty-body]
def unannotated(): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("function", [number, numbers, anything, hidden, unannotated])
def test_results_that_are_none(function: Callable[..., object]) -> None:
    assert function_facts(function).adapter is None


def test_the_adapter_restores_what_it_wrote() -> None:
    adapter = function_facts(nested).adapter
    assert adapter is not None
    value = {"a": [Order(number=1), None]}
    assert adapter.validate_json(adapter.dump_json(value)) == value


def test_local_classes_with_the_same_name() -> None:
    def make(field: str) -> tuple[type[BaseModel], Callable[[], object]]:
        class Local(BaseModel):
            __annotations__ = {field: int}

        def produce() -> Local:
            return Local(**{field: 1})

        return Local, produce

    for field in ("a", "b"):
        cls, produce = make(field)
        adapter = function_facts(produce).adapter
        assert adapter is not None
        assert isinstance(adapter.validate_python({field: 1}), cls)


def test_annotations_are_told_apart_when_their_objects_are_gone() -> None:
    def make(item: type) -> Callable[[], object]:
        async def produce() -> object: ...

        produce.__annotations__["return"] = list[item]  # type: ignore[valid-type]
        return produce

    for _ in range(20):
        assert function_facts(make(int)).adapter is None
        assert function_facts(make(Order)).adapter is not None
