"""The effects file: what really happened, told by those who did it.

The worker, the client and whoever kills the worker write their events into one append-only file. The judge
decides by this file and the shop's books alone; it never asks Redis.

What proves that a step was durable when its worker died? `await ctx.step.run(...)` returns only after its result
is stored. `WatchedSteps` writes "commit" right after that, so from this line on the step's body may never run
again. A body that ended without that line may have been stored or not: nobody outside can tell, and it is the one
case in which a step may run a second time.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, TypeGuard, TypeVar, overload

from pydantic.dataclasses import dataclass

from examples.orders.appendonly import AppendOnlyFile
from redflow.types import RunContext, StepApi

T = TypeVar("T")

What: TypeAlias = Literal[
    "emitted",  # the client has a handle of the order's run
    "pass",  # the handler started from its first line
    "begin",  # a step's body starts
    "end",  # it has returned
    "failed",  # it has raised; detail: the error's class
    "commit",  # step.run returned after the body ran: the step is stored; detail: digest of the value
    "kept",  # step.run returned without calling the body; detail: digest of the value
    "refused",  # on_failure was called; detail: the error's kind
    "kill",  # a worker was killed and is dead; detail: its process id
    "told",  # the client learned how the run ended; detail: "succeeded", or "failed <kind>"
]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the effects file.

    Attributes:
        at_ms: the machine's monotonic clock, ms.
        pid: the process that wrote it.
        seq: its place among the lines of that process, from 1.
        what: what happened; `What` has the list.
        run: the run's id; "" where there is none.
        order: the order's id; "" where it is not known.
        step: the step's name; "" outside steps.
        attempt: the run's attempt; 0 outside runs.
        detail: see `What`.
    """

    at_ms: float
    pid: int
    seq: int
    what: What
    run: str = ""
    order: str = ""
    step: str = ""
    attempt: int = 0
    detail: str = ""


class EffectsFile:
    """The effects file, for one process to write and to read. Opened when first used.

    Args:
        path: made when missing, with its directories.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seq = 0

    def write(
        self, what: What, *, run: str = "", order: str = "", step: str = "", attempt: int = 0, detail: str = ""
    ) -> None:
        """Add an event; safe in threads."""
        with self._lock:
            self._seq += 1
            self._file.append(
                Event(time.monotonic() * 1000, os.getpid(), self._seq, what, run, order, step, attempt, detail)
            )

    def read_new(self) -> list[Event]:
        """The events of all processes since the last call."""
        return self._file.read_new()

    @functools.cached_property
    def _file(self) -> AppendOnlyFile[Event]:
        return AppendOnlyFile(self._path, Event)

    @property
    def unreadable(self) -> int:
        """How many fragments of lines were read so far."""
        return self._file.unreadable

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class WatchedSteps:
    """`ctx.step` of one pass of a handler, with everything it does told in the effects file.

    Your own workflows call `ctx.step.run` directly; this one has a judge to convince.
    """

    def __init__(self, step: StepApi, run: RunContext, order: str, effects: EffectsFile) -> None:
        self._step = step
        self._run = run
        self._order = order
        self._effects = effects
        self._write("pass")

    @overload
    async def run(self, name: str, fn: Callable[..., Awaitable[T]], /, *args: object) -> T: ...

    @overload
    async def run(self, name: str, fn: Callable[..., T], /, *args: object) -> T: ...

    async def run(self, name: str, fn: Callable[..., object], /, *args: object) -> object:
        """`ctx.step.run(name, fn, *args)`."""
        ran = False

        @contextmanager
        def body() -> Iterator[None]:
            nonlocal ran
            ran = True
            self._write("begin", step=name)
            try:
                yield
            except BaseException as exc:
                self._write("failed", step=name, detail=type(exc).__name__)
                raise
            self._write("end", step=name)

        value = await self._step.run(name, _inside(body, fn), *args)
        digest = hashlib.sha256(repr(value).encode()).hexdigest()[:16]
        self._write("commit" if ran else "kept", step=name, detail=digest)
        return value

    async def wait_for(self, name: str, target: int | str) -> None:
        """`ctx.step.wait_for(name, target)`."""
        await self._step.wait_for(name, target)
        self._write("kept", step=name)

    def _write(self, what: What, *, step: str = "", detail: str = "") -> None:
        self._effects.write(
            what, run=self._run.id, order=self._order, step=step, attempt=self._run.attempt, detail=detail
        )


def _inside(body: Callable[[], AbstractContextManager[None]], fn: Callable[..., object]) -> Callable[..., object]:
    """The function, watched; async stays async, and a plain one still runs in a thread."""
    if _is_async(fn):

        @functools.wraps(fn)
        async def watched(*args: object) -> object:
            with body():
                return await fn(*args)

        return watched

    @functools.wraps(fn)
    def watched_in_thread(*args: object) -> object:
        with body():
            return fn(*args)

    return watched_in_thread


def _is_async(fn: Callable[..., object]) -> TypeGuard[Callable[..., Awaitable[object]]]:
    return inspect.iscoroutinefunction(fn)
