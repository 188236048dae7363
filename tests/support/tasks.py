"""Tasks that wait for futures of a test, brought to rest without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from redflow.execution.awaiting import Runnable, leaves

Future = asyncio.Future[None]
Task = asyncio.Task[object]

PASSES = 50
"""More passes of the loop than any of these constructs needs to come to rest."""


def is_about_to_run(task: Task) -> bool:
    """Whether something below the task goes on without being woken."""
    return any(isinstance(leaf, Runnable) for leaf in leaves(task))


async def at_rest(main: Awaitable[object]) -> Task:
    """A task, once it and all below it wait, or have ended."""
    task = start(main)
    await rest(task)
    return task


def start(main: Awaitable[object]) -> Task:
    """A task whose error is looked at, so that asyncio does not complain of it."""
    task = asyncio.create_task(as_coroutine(main))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def rest(task: Task) -> None:
    """Let the loop go on until nothing of the task is about to run."""
    for _ in range(PASSES):
        if not is_about_to_run(task):
            return
        await asyncio.sleep(0)
    raise AssertionError("the task does not come to rest")


async def as_coroutine(main: Awaitable[object]) -> object:
    """Any awaitable as a coroutine, which tasks are made of."""
    return await main


async def end_all(futures: list[Future]) -> None:
    """Cancel every future and task that is left, and look at every error."""
    for future in futures:
        future.cancel()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*futures, *tasks, return_exceptions=True)


def seen(task: Task) -> set[object]:
    """The leaves below a task."""
    return set(leaves(task))
