"""What handlers and steps do wrong: their own run fails cleanly, the worker lives and the next run succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from redflow import define_workflow
from redflow.errors import RetryAfterError
from redflow.types import WorkflowRateLimitOptions, WorkflowRetryPolicy
from tests.bad_inputs.table import Fails
from tests.support.exceptions import Cyclic, Unprintable
from tests.support.world import Context, World

NAN = float("nan")


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


async def fine() -> int:
    return 1


def gives(make: Callable[[], object]) -> Callable[[Context], Any]:
    async def handler(ctx: Context) -> object:
        return make()

    return handler


def step_gives(make: Callable[[], object]) -> Callable[[Context], Any]:
    async def handler(ctx: Context) -> object:
        return await ctx.step.run("s", make)

    return handler


def raises(make: Callable[[], BaseException]) -> Callable[[Context], Any]:
    async def handler(ctx: Context) -> None:
        raise make()

    return handler


def step_raises(make: Callable[[], BaseException]) -> Callable[[Context], Any]:
    def step() -> None:
        raise make()

    async def handler(ctx: Context) -> None:
        await ctx.step.run("s", step)

    return handler


def does(call: Callable[[Context], Awaitable[object]]) -> Callable[[Context], Any]:
    async def handler(ctx: Context) -> object:
        return await call(ctx)

    return handler


class EvilCode(Exception):
    @property
    def code(self) -> str:
        raise RuntimeError("no code")


class Unpicklable(Exception):
    def __init__(self, lock: object) -> None:
        super().__init__("locked")
        self.lock = lock

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("can't be pickled")


async def async_values() -> AsyncIterator[int]:
    yield 1


def values() -> Iterator[int]:
    yield 1


async def step_in_step(ctx: Context) -> None:
    async def outer() -> None:
        await ctx.step.run("inner", fine)

    await ctx.step.run("outer", outer)


async def twice(ctx: Context) -> None:
    await ctx.step.run("s", fine)
    await ctx.step.run("s", fine)


NOT_JSON: dict[str, Callable[[], object]] = {
    "bytes": lambda: b"x",
    "datetime": lambda: {"at": datetime.now(UTC)},
    "Decimal": lambda: [Decimal(1)],
    "NaN": lambda: NAN,
    "infinity": lambda: [float("inf")],
    "set": lambda: {1},
    "object": object,
    "depth 201": lambda: nested(201),
    "depth 100,000": lambda: nested(100_000),
    "surrogate": lambda: "\ud800",
    "2^64": lambda: 2**64,
    "10^5000": lambda: 10**5000,
    "keys that collide": lambda: {1: 1, "1": 2},
}

OUTPUTS = [
    *[Fails(f"output {name}", gives(make), "serialization", ("not JSON",)) for name, make in NOT_JSON.items()],
    *[Fails(f"step {name}", step_gives(make), "serialization", ("JSON", ": s")) for name, make in NOT_JSON.items()],
    Fails("output of 5 MB", gives(lambda: "x" * 5_000_000), "payload_too_large", ("4194304", "5000002")),
    Fails("step of 5 MB", step_gives(lambda: "x" * 5_000_000), "payload_too_large", ("4194304", "5000002")),
    Fails("a generator", step_gives(values), "non_retriable", ("'s'", "generator")),
    Fails("an async generator", step_gives(async_values), "non_retriable", ("'s'", "generator")),
    Fails("a generator as output", gives(values), "serialization", ("not JSON",)),
]

EXCEPTIONS: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "unprintable": (Unprintable, "error", "str() of Unprintable failed"),
    "cyclic": (Cyclic, "error", "cyclic"),
    "no code": (lambda: EvilCode("evil"), "error", "Unknown error"),
    "unpicklable": (lambda: Unpicklable(object()), "error", "locked"),
    "surrogate": (lambda: ValueError("a\ud800b"), "error", "a?b"),
    "controls and markup": (lambda: ValueError("\x1b[31m<script>\0\u202e"), "error", "<script>"),
    "10 MB": (lambda: ValueError("x" * 10_000_000), "error", "[cut: 10000000 bytes, limit 16384]"),
    "BaseException": (lambda: BaseException("base"), "error", "base"),
    "SystemExit": (lambda: SystemExit(3), "", "3"),
    "KeyboardInterrupt": (KeyboardInterrupt, "", ""),
    "GeneratorExit": (GeneratorExit, "error", ""),
    "StopIteration": (lambda: StopIteration(1), "error", ""),
    "a group": (lambda: ExceptionGroup("many", [ValueError("one")]), "error", "many"),
    "RecursionError": (lambda: RecursionError("deep"), "error", "deep"),
    "MemoryError": (lambda: MemoryError("full"), "error", "full"),
}

ERRORS = [
    *[Fails(f"raises {name}", raises(make), kind, (said,)) for name, (make, kind, said) in EXCEPTIONS.items()],
    *[
        Fails(f"step raises {name}", step_raises(make), kind, (said,))
        for name, (make, kind, said) in EXCEPTIONS.items()
    ],
]


def waits(target: Any, **options: Any) -> Callable[[Context], Any]:
    return does(lambda ctx: ctx.step.wait_for("nap", target, **options))


def listens(event: Any, key: Any, timeout: Any) -> Callable[[Context], Any]:
    return does(lambda ctx: ctx.step.wait_for_event("ear", event, key, timeout))


BAD_TIMES: tuple[Any, ...] = (
    -1,
    True,
    NAN,
    float("inf"),
    "",
    "soon",
    "5",
    "1h30m",
    "-1s",
    "1e9d",
    "4000d",
    None,
    [],
    b"1s",
)

CALLS = [
    Fails("step in step", step_in_step, "non_retriable", ("'inner'", "'outer'", "can't contain")),
    Fails("a name twice", twice, "error", ("Duplicate step name", "'s'")),
    Fails("a coroutine", does(lambda ctx: ctx.step.run("s", fine())), "non_retriable", ("'s'", "coroutine")),
    Fails("no function", does(lambda ctx: ctx.step.run("s", 5)), "non_retriable", ("'s'", "int")),
    *[Fails(f"step name {name!r}"[:40], does(lambda ctx, name=name: ctx.step.run(name, fine)), "", ("step name",))
      for name in ("", " ", "a\0", "\u202e", "x" * 256, 5, None, b"s", "\ud800")],
    *[Fails(f"timeout_ms {v!r}", does(lambda ctx, v=v: ctx.step.run("s", fine, timeout_ms=v)), "non_retriable",
            ("timeout_ms", repr(v)))
      for v in (0, -1, True, "5", NAN, float("inf"))],
    *[Fails(f"wait {v!r}", waits(v), "", ("'nap'",)) for v in BAD_TIMES],
    *[Fails(f"wait's timeout_ms {v!r}", waits(1, timeout_ms=v), "non_retriable", ("timeout_ms",))
      for v in (0, -1, True, "5", NAN)],
    *[Fails(f"event time {v!r}", listens("e", "k", v), "", ("'ear'",)) for v in BAD_TIMES],
    *[Fails(f"event name {v!r}"[:40], listens(v, "k", 1), "", ("event name",))
      for v in ("", " ", "a\0", "x" * 256, 5, None, "\ud800")],
    *[Fails(f"event key {v!r}"[:40], listens("e", v, 1), "", ("correlation_key",))
      for v in ("", " ", "a\0", "x" * 256, 5, None, "\ud800")],
    *[Fails(f"emits event {v!r}"[:40], does(lambda ctx, v=v: ctx.step.emit_event("s", v, 1)), "", ("event name",))
      for v in ("", " ", "a\0", "x" * 256, 5, None, b"e")],
    Fails("emits bytes", does(lambda ctx: ctx.step.emit_event("s", "e", b"x")), "", ("event data", "bytes")),
    Fails("unknown child", does(lambda ctx: ctx.step.run_workflow("s", "nobody", 1)), "unknown_workflow", ("nobody",)),
    Fails("unknown emitted", does(lambda ctx: ctx.step.emit_workflow("s", "nobody", 1)), "unknown_workflow",
          ("nobody",)),
    Fails("child None", does(lambda ctx: ctx.step.run_workflow("s", None, 1)), "", ("workflow",)),
    Fails("child 5", does(lambda ctx: ctx.step.emit_workflow("s", 5, 1)), "", ("workflow",)),
    Fails("child of bytes", does(lambda ctx: ctx.step.run_workflow("s", "w", b"x")), "", ("input", "bytes")),
    Fails("child with a bad time", does(lambda ctx: ctx.step.emit_workflow("s", "w", 1, run_at=5)), "", ("runAt",)),
    Fails("map without function", does(lambda ctx: ctx.step.map("m", 5, [1])), "non_retriable", ("'m[0]'", "int")),
    Fails("map of nothing", does(lambda ctx: ctx.step.map("m", str, None)), "", ("NoneType",)),
]  # fmt: skip


def mutex(make: Callable[[], Any]) -> dict[str, Any]:
    return {"mutex": lambda input: make()}


def limit(option: str, make: Callable[[], Any]) -> dict[str, Any]:
    return {option: WorkflowRateLimitOptions(lambda input: make(), 1, "1s")}


def boom() -> Any:
    raise RuntimeError("boom")


async def handle(ctx: Context) -> object:
    return 1


BAD_KEYS: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (boom, "boom"), "None": (lambda: None, "NoneType"), "blank": (lambda: " ", "blank"),
    "dict": (dict, "dict"), "number": (lambda: 5, "int"), "bytes": (lambda: b"k", "bytes"),
    "NUL": (lambda: "a\0", "control"), "256": (lambda: "x" * 256, "255"), "surrogate": (lambda: "\ud800", "surrogate"),
}  # fmt: skip

OPTIONS = [
    *[Fails(f"mutex {name}", handle, "", (said,), mutex(make)) for name, (make, said) in BAD_KEYS.items()],
    *[Fails(f"{option} {name}", handle, "", (said,), limit(option, make))
      for option in ("throttle", "rate_limit") for name, (make, said) in BAD_KEYS.items()],
    Fails("delay raises", raises(lambda: ValueError("x")), "", ("boom",),
          {"retries": WorkflowRetryPolicy(delay=lambda _: boom(), max_attempts=2), "max_attempts": None}),
    *[Fails(f"delay gives {v!r}", raises(lambda: ValueError("x")), "", ("delay",),
            {"retries": WorkflowRetryPolicy(delay=lambda _, v=v: v, max_attempts=2), "max_attempts": None})
      for v in (-1, True, NAN, float("inf"), "soon", [], "4000d")],
    Fails("should_retry raises", raises(lambda: ValueError("x")), "", ("boom",),
          {"retries": WorkflowRetryPolicy(should_retry=lambda _: boom(), max_attempts=2), "max_attempts": None}),
    Fails("on_failure raises", raises(lambda: ValueError("mine")), "error", ("mine",),
          {"on_failure": lambda _: boom()}),
    Fails("on_failure exits", raises(lambda: ValueError("mine")), "error", ("mine",),
          {"on_failure": lambda _: exec("raise SystemExit(3)")}),
    Fails("a bad delay of its own", raises(lambda: RetryAfterError("x", -1)), "error", ("retry_after",)),
]  # fmt: skip


@pytest.mark.parametrize("row", OUTPUTS + ERRORS + CALLS + OPTIONS, ids=lambda row: row.name)
async def test_fails_alone(world: World, row: Fails) -> None:
    options = {"max_attempts": 1} | row.options
    define_workflow("bad", handler=row.handler, registry=world.registry, **options)
    define_workflow("w", handler=handle, registry=world.registry)
    worker = await world.worker()
    loops = dict(worker._loops)
    handle_ = await world.start(row.input, name="bad")
    assert await world.ended(handle_) == "failed"
    state = await handle_.get_state()
    assert state is not None
    error = state["error"]
    assert error["kind"] == (row.kind or error["kind"])
    assert not [text for text in row.says if text not in error["message"]], error["message"]
    assert len(error["message"].encode()) <= 16 * 1024
    assert len(error.get("stack", "").encode()) <= 32 * 1024
    assert await world.run() == 1
    assert worker._loops == loops, "a loop of the worker had to start again"
    assert not [name for name, task in loops.items() if task.done()]


async def test_a_wait_of_no_time_gives_none(world: World) -> None:
    define_workflow("w", handler=listens("e", "k", "0s"), registry=world.registry)
    assert await world.run() is None


async def test_ten_thousand_and_one_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redflow.execution.steps.MAX_STEPS", 20)

    async def many(ctx: Context) -> None:
        await asyncio.gather(*[ctx.step.run(f"s{n}", fine) for n in range(30)])

    define_workflow("w", handler=many, registry=world.registry, max_attempts=1)
    handle_ = await world.begin()
    assert await world.ended(handle_) == "failed"
    state = await handle_.get_state()
    assert state is not None
    assert state["error"]["kind"] == "limit_exceeded"
