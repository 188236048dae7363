"""What a task is waiting for, down to the leaves.

The sleep rule asks: is every leaf below the handler's task an open wait? So this walks task -> what it awaits, and
through gather, TaskGroup, asyncio.wait, wait_for and shield to the tasks they stand for. asyncio has no public
answer before Python 3.14, therefore the attributes read here are private ones of CPython 3.11 to 3.13; each is
covered by a test of its own, and whatever is not recognised is a leaf that keeps the run awake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import CodeType, CoroutineType, FrameType, GeneratorType
from typing import Final

AnyFuture = asyncio.Future[object]


class Runnable:
    """The leaf of a task that waits for nothing: it is about to run."""


RUNNABLE: Final = Runnable()

_TASK_GROUP_EXIT: Final[CodeType] = asyncio.TaskGroup.__aexit__.__code__
_WAIT: Final[CodeType] = getattr(asyncio.tasks, "_wait").__code__  # noqa: B009 - private, so unknown to type checkers
_WAIT_FOR: Final[CodeType] = asyncio.wait_for.__code__


def leaves(root: AnyFuture) -> Iterator[AnyFuture | Runnable]:
    """The futures that `root` finally waits for; RUNNABLE for a task that waits for none."""
    seen: set[int] = set()
    open_futures = [root]
    while open_futures:
        future = open_futures.pop()
        if id(future) in seen or future.done():
            continue
        seen.add(id(future))
        below = _below(future)
        if below is None:
            yield future
        elif isinstance(below, Runnable):
            yield below
        else:
            open_futures.extend(below)


def _below(future: AnyFuture) -> list[AnyFuture] | Runnable | None:
    """What one future stands for; None if it is a leaf."""
    if isinstance(future, asyncio.Task):
        waiter = getattr(future, "_fut_waiter", None)
        if waiter is None:
            return RUNNABLE
        return _through_frames(future, waiter)
    children = getattr(future, "_children", None)
    if isinstance(children, list):
        return [child for child in children if isinstance(child, asyncio.Future)]
    inner = _shielded(future)
    return [inner] if inner is not None else None


def _through_frames(task: asyncio.Task[object], waiter: AnyFuture) -> list[AnyFuture]:
    """The tasks that a TaskGroup, asyncio.wait or wait_for of this task waits for, else the waiter itself."""
    found: AnyFuture | None = None
    for frame in _frames(task):
        if frame.f_code is _TASK_GROUP_EXIT:
            group = frame.f_locals.get("self")
            tasks = getattr(group, "_tasks", None)
            if tasks and waiter is getattr(group, "_on_completed_fut", None):
                return list(tasks)
        elif frame.f_code is _WAIT:
            fs = frame.f_locals.get("fs")
            if fs and frame.f_locals.get("waiter") is waiter:
                return list(fs)
        elif frame.f_code is _WAIT_FOR:
            fut = frame.f_locals.get("fut")
            if isinstance(fut, asyncio.Future) and frame.f_locals.get("waiter") is waiter:
                found = fut
    return [found if found is not None else waiter]


def _frames(task: asyncio.Task[object]) -> Iterator[FrameType]:
    """The frames of a task's coroutines from the outermost to the one that awaits."""
    current: object = task.get_coro()
    while current is not None:
        if isinstance(current, CoroutineType):
            frame, current = current.cr_frame, current.cr_await
        elif isinstance(current, GeneratorType):
            frame, current = current.gi_frame, current.gi_yieldfrom
        else:
            # async generators are awaited through a wrapper that shows nothing of what is inside
            return
        if frame is not None:
            yield frame


def _shielded(future: AnyFuture) -> AnyFuture | None:
    """The inner future of asyncio.shield, found in the callback the outer one carries."""
    for callback, _context in getattr(future, "_callbacks", None) or ():
        code = getattr(callback, "__code__", None)
        if code is None or code.co_name != "_outer_done_callback" or "inner" not in code.co_freevars:
            continue
        cell = callback.__closure__[code.co_freevars.index("inner")]
        inner = cell.cell_contents
        if isinstance(inner, asyncio.Future):
            return inner
    return None
