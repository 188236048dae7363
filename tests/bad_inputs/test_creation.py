"""Names, payloads, times and numbers that a call of a client refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from redflow import UnknownWorkflowError, create_client, define_workflow
from redflow.errors import (
    LimitExceededError,
    PayloadTooLargeError,
    RateLimitExceededError,
    RetryAfterError,
)
from redflow.types import ResolvedDebounce, WorkflowCall
from tests.bad_inputs.table import Refused, judge_refusal
from tests.support.world import Context, World

RUN_ID = "run_00000000-0000-7000-8000-000000000000"


async def handler(ctx: Context) -> object:
    return ctx.input


@pytest.fixture
async def known(world: World) -> World:
    """`w` is registered, and an event `paid` with the id `e1` was emitted."""
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    await world.client.emit_event("paid", {"n": 1}, event_id="e1", idempotency_key="k1")
    return world


# --- names ------------------------------------------------------------------------------------------------------

NAMES: dict[str, tuple[Any, type[Exception], tuple[str, ...]]] = {
    "1,001 characters": ("x" * 1001, LimitExceededError, ("255", "1001")),
    "256 bytes of UTF-8": ("é" * 128, LimitExceededError, ("255", "256")),
    "256 characters": ("x" * 256, LimitExceededError, ("255", "256")),
    "a megabyte": ("x" * 1_000_000, LimitExceededError, ("255", "1000000")),
    "blank": ("  ", ValueError, ("blank",)),
    "NUL": ("a\0b", ValueError, ("control", "\\x00")),
    "newline": ("a\nb", ValueError, ("control", "\\n")),
    "escape": ("a\x1b[31mb", ValueError, ("control", "\\x1b")),
    "C1 control": ("\x9b31m", ValueError, ("control",)),
    "delete": ("a\x7f", ValueError, ("control",)),
    "line separator": ("a\u2028b", ValueError, ("control",)),
    "RTL override": ("a\u202eb", ValueError, ("control",)),
    "isolate": ("a\u2066b", ValueError, ("control",)),
    "lone surrogate": ("\ud800", ValueError, ("surrogate",)),
    "number": (5, ValueError, ("string", "int")),
    "bool": (True, ValueError, ("string", "bool")),
    "bytes": (b"w", ValueError, ("string", "bytes")),
    "list": (["w"], ValueError, ("string", "list")),
    "dict": ({"w": 1}, ValueError, ("string", "dict")),
}

FIELDS: dict[str, tuple[str, Callable[[World, Any], Any]]] = {
    "workflow": ("workflow name", lambda w, v: w.client.emit_workflow(v, {})),
    "queue": ("queue", lambda w, v: w.client.run_by_name("w", {}, queue_override=v)),
    "idempotency": ("idempotency_key", lambda w, v: w.client.emit_workflow("w", {}, idempotency_key=v)),
    "parent": ("parent_run_id", lambda w, v: w.client.emit_workflow("w", {}, parent_run_id=v)),
    "event": ("event name", lambda w, v: w.client.emit_event(v, {})),
    "event id": ("event_id", lambda w, v: w.client.emit_event("e", {}, event_id=v)),
    "correlation": ("correlation_key", lambda w, v: w.client.emit_event("e", {}, correlation_key=v)),
    "event key": ("idempotency_key", lambda w, v: w.client.emit_event("e", {}, idempotency_key=v)),
    "event parent": ("parent_run_id", lambda w, v: w.client.emit_event("e", {}, parent_run_id=v)),
    "reason": ("reason", lambda w, v: w.client.cancel_run(RUN_ID, reason=v)),
    "app": ("app", lambda w, v: w.client.sync_registry(w.registry, app=v)),
    "debounce": ("debounce", lambda w, v: w.client.run_by_name("w", {}, debounce=ResolvedDebounce(v, 10, None))),
}
BLANK_MEANS_NONE = {"queue", "event key", "reason"}

NAME_ROWS = [
    Refused(f"{field}: {name}", lambda w, call=call, value=value: call(w, value), error, (*says, said))
    for field, (said, call) in FIELDS.items()
    for name, (value, error, says) in NAMES.items()
    if not (name == "blank" and field in BLANK_MEANS_NONE | {"app"})
    and not (field == "app" and not isinstance(value, str))
]

PREFIX_ROWS = [
    Refused(f"prefix: {text!r}", lambda w, text=text: create_client(url=w.url, prefix=text), ValueError, ("prefix",))
    for text in ("a*", "a?", "[a", "a]", "{a", "a}", "a\\b", "a\0", "a\u202e", "\ud800", "x" * 256)
]

OTHER_NAME_ROWS = [
    Refused("no workflow name", lambda w: w.client.emit_workflow("", {}), ValueError, ("workflow name", "blank")),
    Refused("workflow None", lambda w: w.client.emit_workflow(None, {}), ValueError, ("workflow name", "NoneType")),
    Refused("event None", lambda w: w.client.emit_event(None, {}), ValueError, ("event name", "NoneType")),
    Refused("no app", lambda w: w.client.sync_registry(w.registry, app=" "), ValueError, ("app",)),
    Refused("app 5", lambda w: w.client.sync_registry(w.registry, app=5), ValueError, ("app", "5")),
    Refused("unknown", lambda w: w.client.emit_workflow("ww", {}), UnknownWorkflowError, ("Unknown workflow: ww",)),
    Refused("queue ''", lambda w: w.client.run_by_name("w", 1, queue_override=""), UnknownWorkflowError, ("w",)),
    Refused(
        "event id with other data", lambda w: w.client.emit_event("paid", {"n": 2}, event_id="e1"),
        ValueError, ("e1", "already exists with different event data"),
    ),
    Refused(
        "event id with another name", lambda w: w.client.emit_event("sent", {"n": 1}, event_id="e1"),
        ValueError, ("e1", "already exists with different event data"),
    ),
    Refused(
        "event key with other data", lambda w: w.client.emit_event("paid", {"n": 2}, idempotency_key="k1"),
        ValueError, ("already exists with different event data",),
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", NAME_ROWS + PREFIX_ROWS + OTHER_NAME_ROWS, ids=lambda row: row.name)
async def test_names(known: World, row: Refused) -> None:
    await judge_refusal(known, row)


# --- payloads ---------------------------------------------------------------------------------------------------


def nested(depth: int, wrap: Callable[[object], object] = lambda inner: [inner]) -> object:
    value: object = 1
    for _ in range(depth):
        value = wrap(value)
    return value


CYCLE: dict[str, object] = {}
CYCLE["me"] = CYCLE


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def doubled(times: int) -> object:
    """A value that takes little memory and 2^times places as JSON."""
    value: object = ["x"]
    for _ in range(times):
        value = [value, value]
    return value


PAYLOADS: dict[str, tuple[Callable[[], object], type[Exception] | tuple[type[Exception], ...], tuple[str, ...]]] = {
    "bytes": (lambda: {"a": {"b": b"x"}}, TypeError, ("$.a.b", "bytes")),
    "bytearray": (lambda: [bytearray(b"x")], TypeError, ("$[0]", "bytearray")),
    "datetime": (lambda: {"a": [1, datetime.now(UTC)]}, TypeError, ("$.a[1]", "datetime")),
    "date": (lambda: {"a": date(2024, 1, 1)}, TypeError, ("$.a", "date")),
    "Decimal": (lambda: [Decimal("1.5")], TypeError, ("$[0]", "Decimal")),
    "UUID": (lambda: UUID(int=1), TypeError, ("$", "UUID")),
    "set": (lambda: {"a": {1, 2}}, TypeError, ("$.a", "set")),
    "generator": (lambda: (n for n in [1]), TypeError, ("$", "generator")),
    "object": (lambda: {"a": Odd()}, TypeError, ("$.a", "Odd")),
    "class": (lambda: Odd, TypeError, ("$", "type")),
    "function": (lambda: print, TypeError, ("$", "builtin_function_or_method")),
    "complex": (lambda: 1j, TypeError, ("$", "complex")),
    "exception": (lambda: ValueError("x"), TypeError, ("$", "ValueError")),
    "NaN": (lambda: {"a": float("nan")}, ValueError, ("$.a", "nan")),
    "infinity": (lambda: {"a": float("inf")}, ValueError, ("$.a", "inf")),
    "text 1e400": (lambda: {"a": float("1e400")}, ValueError, ("$.a", "inf")),
    "2^64": (lambda: {"a": 2**64}, ValueError, ("$.a", "65 bits")),
    "-2^63-1": (lambda: {"a": -(2**63) - 1}, ValueError, ("$.a", "64 bits")),
    "10^5000": (lambda: {"a": 10**5000}, ValueError, ("$.a", "16610 bits")),
    "10^5000 as key": (lambda: {10**5000: 1}, ValueError, ("$", "16610 bits")),
    "keys that collide": (lambda: {1: "a", "1": "b"}, ValueError, ("$", "two keys become", '"1"')),
    "True and 'true'": (lambda: {True: 1, "true": 2}, ValueError, ("two keys become", '"true"')),
    "None and 'null'": (lambda: {"x": {None: 1, "null": 2}}, ValueError, ("$.x", '"null"')),
    "key tuple": (lambda: {(1, 2): "a"}, TypeError, ("$", "key of type tuple")),
    "key bytes": (lambda: {b"a": "a"}, TypeError, ("$", "key of type bytes")),
    "key NaN": (lambda: {float("nan"): 1}, ValueError, ("$", "nan")),
    "lone surrogate": (lambda: {"a": "\ud800"}, ValueError, ("$.a", "surrogate")),
    "key with surrogate": (lambda: {"\udfff": 1}, ValueError, ("$", "surrogate")),
    "depth 201": (lambda: nested(201), ValueError, ("200",)),
    "dicts of depth 201": (lambda: nested(201, lambda inner: {"a": inner}), ValueError, ("200",)),
    "tuples of depth 100,000": (lambda: nested(100_000, lambda inner: (inner,)), ValueError, ("200",)),
    "depth 100,000": (lambda: nested(100_000), ValueError, ("200",)),
    "itself": (lambda: CYCLE, ValueError, ("200",)),
    "2^40 places": (lambda: doubled(40), PayloadTooLargeError, ("4194304",)),
    "5 MB": (lambda: "x" * 5_000_000, PayloadTooLargeError, ("4194304", "5000002")),
    "5 MB in a list": (lambda: ["x" * 5_000_000], PayloadTooLargeError, ("4194304", "5000002")),
    "a million keys": (lambda: MILLION, PayloadTooLargeError, ("4194304",)),
}
MILLION = {str(n): n for n in range(1_000_000)}

CARRIERS: dict[str, tuple[str, Callable[[World, object], Any]]] = {
    "input": ("input", lambda w, v: w.client.emit_workflow("w", v)),
    "event": ("event data", lambda w, v: w.client.emit_event("e", v)),
}

PAYLOAD_ROWS = [
    Refused(
        f"{carrier}: {name}",
        lambda w, call=call, make=make: call(w, make()),
        error,
        (*says, said),
        quick=name not in ("depth 100,000", "tuples of depth 100,000", "10^5000"),  # to make them takes its time
    )
    for carrier, (said, call) in CARRIERS.items()
    for name, (make, error, says) in PAYLOADS.items()
]


@pytest.mark.parametrize("row", PAYLOAD_ROWS, ids=lambda row: row.name)
async def test_payloads(known: World, row: Refused) -> None:
    await judge_refusal(known, row)


async def test_a_bad_input_among_many_is_refused_alone(known: World) -> None:
    calls = [WorkflowCall("w", 1), WorkflowCall("w", b"x"), WorkflowCall("w", 2)]
    first, bad, third = await known.client.emit_workflows(calls)
    assert isinstance(bad, TypeError)
    assert "bytes" in str(bad)
    assert not isinstance(first, Exception)
    assert not isinstance(third, Exception)


# --- times and numbers ------------------------------------------------------------------------------------------


def emitted_with(**options: Any) -> Callable[[World], Any]:
    return lambda w: w.client.emit_workflow("w", 1, **options)


def result_within(timeout_ms: Any) -> Callable[[World], Any]:
    return lambda w: w.client.wait_for_result(RUN_ID, timeout_ms=timeout_ms)


TIME_ROWS = [
    *[
        Refused(f"run_at {at!r}", emitted_with(run_at=at), ValueError, ("Invalid runAt date",))
        for at in (5, True, "2024-01-01", date(2024, 1, 1), float("nan"), datetime(9999, 12, 31, tzinfo=UTC))
    ],
    Refused(
        "run_at in 11 years", emitted_with(run_at=datetime.now(UTC) + timedelta(days=11 * 366)),
        LimitExceededError, ("runAt", "10 years"),
    ),
    *[
        Refused(f"priority {value!r}"[:40], emitted_with(priority=value), ValueError, ("priority", "100"))
        for value in (101, -101, 1.5, "5", True, float("nan"), 10**400)
    ],
    *[
        Refused(f"ttl {value!r}"[:40], emitted_with(idempotency_key="k", idempotency_ttl=value),
                ValueError, ("idempotency_ttl",))
        for value in (0, -1, 1.5, "5", True, float("inf"), 10**12, 10**5000)
        if value != 10**5000
    ],
    *[
        Refused(f"run_timeout_ms {value!r}", emitted_with(run_timeout_ms=value), ValueError, ("run_timeout_ms",))
        for value in (0, -1, True, "5", float("nan"), float("inf"), "1e9d", "1h30m", "-1s", "11y", "4000d", [1])
    ],
    *[
        Refused(f"timeout_ms {value!r}", result_within(value), ValueError, ("timeout_ms",))
        for value in (True, "5", None, float("nan"))
    ],
    *[
        Refused(f"{cls.__name__} {value!r}", lambda _, cls=cls, value=value: cls("busy", value),
                ValueError, ("retry_after",))
        for cls in (RetryAfterError, RateLimitExceededError)
        for value in (-1, True, float("nan"), float("inf"), "1e9d", "", "soon", "1h30m", None, [], "4000d")
    ],
]  # fmt: skip


@pytest.mark.parametrize("row", TIME_ROWS, ids=lambda row: row.name)
async def test_times_and_numbers(known: World, row: Refused) -> None:
    await judge_refusal(known, row)


async def test_a_ttl_of_5000_digits_is_refused(known: World) -> None:
    with pytest.raises(ValueError, match="idempotency_ttl"):
        await known.client.emit_workflow("w", 1, idempotency_key="k", idempotency_ttl=10**5000)
    assert sys.get_int_max_str_digits() < 5000


# --- what only looks bad ----------------------------------------------------------------------------------------

SAME_AGAIN = [
    [], {}, "", None, False, 0, 0.0, -0.0, [[]], [{}], {"a": []}, {"a": {}}, {"": ""}, 2**64 - 1, -(2**63), 1e308,
    5e-324, {"__proto__": {"constructor": 1}}, "<script>alert(1)</script>", "\x1b[31m\0\u202e", "é", "e\u0301",
    {"__redflowMissingEventBlob": True}, "@", "z", "@blob:x", ["@", "z"], "None", "null", "😀" * 100, [1, None, 2],
]  # fmt: skip


async def test_values_come_back_as_they_went_in(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.worker()
    handles = [await world.start(value) for value in SAME_AGAIN]
    outputs = [await handle.result() for handle in handles]
    assert [repr(output) for output in outputs] == [repr(value) for value in SAME_AGAIN]
    states = [await handle.get_state() for handle in handles]
    assert [repr(state and state["input"]) for state in states] == [repr(value) for value in SAME_AGAIN]
    assert all("output" in state for state in states if state)


async def test_normal_forms_and_the_text_none_are_names_of_their_own(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    keys = ["é", "e\u0301", "None", "null", "a*b?[c]", "a:b", "{x}", "*", "a b"]
    handles = [await world.client.emit_workflow("w", key, idempotency_key=key) for key in keys]
    assert len({handle.id for handle in handles}) == len(keys)
    again = [await world.client.emit_workflow("w", "other", idempotency_key=key) for key in keys]
    assert [handle.id for handle in again] == [handle.id for handle in handles]


async def test_a_correlation_key_is_never_made_of_none(known: World) -> None:
    assert await known.client.emit_event("paid", 1, correlation_key=None) == []
    listed = await known.client.list_events()
    assert "correlation_key" not in listed[0]
