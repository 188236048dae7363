"""The four activities that work on task records. They run in the worker, outside of workflow code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, is_dataclass

from temporalio import activity

from r7kit.operations import kind_of
from r7kit.records.store import TaskStore
from r7kit.runtimes.temporal.failures import to_application_error
from r7kit.runtimes.temporal.wire import ACTIVITY_OF, decode
from r7kit.stores import perform

Wire = dict[str, object]
TaskActivity = Callable[[Wire], Awaitable[object]]


def task_activities(store: Callable[[], Awaitable[TaskStore]]) -> list[TaskActivity]:
    """The activities r7kit.create, r7kit.get, r7kit.patch and r7kit.delete.

    Args:
        store: gives the store of the running event loop.
    """
    return [_activity(name, store) for name in dict.fromkeys(ACTIVITY_OF.values())]


def _activity(name: str, store: Callable[[], Awaitable[TaskStore]]) -> TaskActivity:
    @activity.defn(name=name)
    async def operate(wire: Wire) -> object:
        try:
            operation = decode(wire)
            kind = kind_of(operation)
            if ACTIVITY_OF[kind] != name:
                raise ValueError(f"{name} does no {kind}; {ACTIVITY_OF[kind]} does")
            reply = await perform(await store(), operation)
        except Exception as error:
            final = to_application_error(error)
            if final is None:
                raise
            raise final from None
        return asdict(reply) if is_dataclass(reply) else reply

    return operate
