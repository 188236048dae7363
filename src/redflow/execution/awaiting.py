"""What a task is waiting for, down to the leaves.

The sleep rule asks: is every leaf below the handler's task an open wait? So this walks task -> what it awaits, and
through gather, TaskGroup, asyncio.wait, wait_for and shield to the tasks they stand for. asyncio has no public
answer before Python 3.14, therefore the attributes read here are private ones of CPython 3.11 to 3.13; each is
covered by a test of its own, and whatever is not recognised is a leaf that keeps the run awake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from types import CodeType, CoroutineType, FrameType, FunctionType, GeneratorType
from typing import Final

AnyFuture = asyncio.Future[object]


class Runnable:
    """The leaf of a task that waits for nothing any more: it is about to run."""


RUNNABLE: Final = Runnable()


def _code(name: str) -> CodeType:
    """The code of a private coroutine function of asyncio."""
    code: CodeType = getattr(asyncio.tasks, name).__code__
    return code


_WAIT: Final = _code("_wait")
_CANCEL: Final = _code("_cancel_and_wait")
_TASK_GROUP_EXIT: Final[CodeType] = asyncio.TaskGroup.__aexit__.__code__
_WAIT_FOR: Final[CodeType] = asyncio.wait_for.__code__


def leaves(root: AnyFuture) -> Iterator[AnyFuture | Runnable]:
    """The futures that `root` finally waits for, none of them done.

    RUNNABLE stands for a part that is about to go on: a task that waits for nothing, or something below it has
    ended and the loop has not passed that on yet. Without it, an error that is on its way up to the handler
    would be overlooked, since what still is to be seen beside it may be open waits only.
    """
    if root.done():
        return
    seen: set[int] = set()
    open_futures = [root]
    while open_futures:
        future = open_futures.pop()
        if id(future) in seen:
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
    """The futures, none of them done, that this one stands for; None if it is a leaf."""
    if isinstance(future, asyncio.Task):
        waiter = getattr(future, "_fut_waiter", None)
        if waiter is None or waiter.done():
            return RUNNABLE
        return _below_task(future, waiter)
    children = getattr(future, "_children", None)
    if isinstance(children, list):
        return _below_gather(future, children)
    inner = _shielded(future)
    return None if inner is None else _one(inner)


def _below_task(task: asyncio.Task[object], waiter: AnyFuture) -> list[AnyFuture] | Runnable:
    """The tasks that a TaskGroup, asyncio.wait or wait_for of this task waits for, else the waiter itself."""
    for frame in _frames(task):
        code = frame.f_code
        if code is _TASK_GROUP_EXIT:
            group = frame.f_locals.get("self")
            tasks = getattr(group, "_tasks", None)
            if tasks and waiter is getattr(group, "_on_completed_fut", None):
                # The group drops a task when it is told of its end.
                return RUNNABLE if any(child.done() for child in tasks) else list(tasks)
        elif code is _WAIT and frame.f_locals.get("waiter") is waiter:
            fs, counter = frame.f_locals.get("fs"), frame.f_locals.get("counter")
            if fs and isinstance(counter, int):
                pending = [child for child in fs if not child.done()]
                return pending if len(pending) == counter else RUNNABLE
        elif code in (_WAIT_FOR, _CANCEL) and frame.f_locals.get("waiter") is waiter:
            # From 3.12 on wait_for awaits its future itself, and there is no waiter. In 3.11 one that is canceled
            # cancels its future and waits for the end of that.
            inner = frame.f_locals.get("fut")
            if isinstance(inner, asyncio.Future):
                return _one(inner)
    return [waiter]


def _below_gather(outer: AnyFuture, children: list[AnyFuture]) -> list[AnyFuture] | Runnable | None:
    pending = {id(child): child for child in children if not child.done()}
    if not pending:
        return RUNNABLE
    done = len({id(child) for child in children}) - len(pending)
    if done:
        told = _ends_told(outer, pending.values())
        if told is None:
            return None
        if told != done:
            return RUNNABLE
    return list(pending.values())


def _ends_told(outer: AnyFuture, pending: Iterable[AnyFuture]) -> int | None:
    """How many ends of its children a gather has been told of; None if that can't be found out."""
    for child in pending:
        for variables in _callback_variables(child, "_done_callback"):
            told = variables.get("nfinished")
            if variables.get("outer") is outer and isinstance(told, int):
                return told
    return None


def _one(future: AnyFuture) -> list[AnyFuture] | Runnable:
    return RUNNABLE if future.done() else [future]


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
    for variables in _callback_variables(future, "_outer_done_callback"):
        inner = variables.get("inner")
        if isinstance(inner, asyncio.Future):
            return inner
    return None


def _callback_variables(future: AnyFuture, function_name: str) -> Iterator[dict[str, object]]:
    """The variables that the callbacks of that name, which asyncio has put on a future, share with their maker."""
    for callback, _context in getattr(future, "_callbacks", None) or ():
        if not isinstance(callback, FunctionType) or callback.__module__ != asyncio.tasks.__name__:
            continue
        if callback.__code__.co_name == function_name:
            cells = zip(callback.__code__.co_freevars, callback.__closure__ or (), strict=True)
            yield {name: cell.cell_contents for name, cell in cells}
