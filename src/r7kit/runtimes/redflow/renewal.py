"""Keeping tasks alive while their flows run, however long those sleep or wait for a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

from r7kit.records.store import TaskStore
from r7kit.runtimes.redflow.values import read_input
from redflow.client import RedflowClient
from redflow.errors import RedflowError
from redflow.types import ListRunsParams, RunState, RunStatus

log = logging.getLogger("r7kit")

_UNFINISHED: Final[tuple[RunStatus, ...]] = ("scheduled", "queued", "running")
_PAGE: Final = 200
_SHORTEST_S: Final = 0.25


async def keep_tasks(
    client: RedflowClient, store: Callable[[], Awaitable[TaskStore]], flows: Iterable[str], task_ttl_s: int
) -> None:
    """Renew the tasks of all unfinished runs of these flows, four times in a task's life. Runs until it is cancelled.

    Every worker does so. A renewal writes nothing but the time to live, so that more of them do no harm.
    """
    names = list(flows)
    while True:
        await asyncio.sleep(max(_SHORTEST_S, task_ttl_s / 4))
        try:
            async for task_ids in _tasks(client, names):
                await (await store()).renew(task_ids)
        except RedflowError as error:
            log.warning("the lives of tasks were not renewed, trying again: %s", error)


def _task_of(run: RunState) -> str | None:
    """The task of a run; None if its input is none of ours."""
    try:
        return read_input(run["input"], run["id"]).task_id
    except ValueError as error:
        log.debug("run %s has no task: %s", run["id"], error)
        return None


async def _tasks(client: RedflowClient, flows: list[str]) -> AsyncIterator[list[str]]:
    """The tasks of unfinished runs, a page at a time."""
    for flow in flows:
        for status in _UNFINISHED:
            cursor: str | None = None
            while True:
                page = await client.list_runs(ListRunsParams(status, flow, cursor, _PAGE, "asc"))
                states = [await client.get_run(run["id"]) for run in page]
                yield [task for state in states if state is not None and (task := _task_of(state)) is not None]
                if len(page) < _PAGE:
                    break
                cursor = page[-1]["id"]
