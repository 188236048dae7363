"""What the dashboard asks of others: the source of task records, which a package that keeps such records gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Final, Protocol, TypeAlias

from redflow.client import RedflowClient
from redflow.types import JsonValue

GROUP: Final = "redflow.dashboard.tasks"
"""The entry points that make a TaskSource from a client."""


@dataclass(frozen=True, slots=True)
class TaskChange:
    """An entry of the stream of changes. `at` is the text that was stored with it."""

    id: str
    task_id: str
    event: str
    version: int
    at: str
    status: str
    fields: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A task record."""

    id: str
    status: str
    created_at: str
    updated_at: str
    version: int
    deleted_at: str = ""
    payload: dict[str, JsonValue] = field(default_factory=dict)
    attributes: dict[str, JsonValue] = field(default_factory=dict)


class TaskSource(Protocol):
    """Reads task records and their stream of changes."""

    async def changes(self, limit: int) -> list[TaskChange]:
        """The latest changes, newest first."""
        ...

    async def tasks(self, ids: Sequence[str]) -> list[Task | None]:
        """The records of some tasks, without a look-up for each; None for one that is gone."""
        ...


MakeTaskSource: TypeAlias = Callable[[RedflowClient], TaskSource]


def installed_task_source(client: RedflowClient) -> TaskSource | None:
    """The source that an installed package offers; None if there is none."""
    for point in entry_points(group=GROUP):
        make: MakeTaskSource = point.load()
        return make(client)
    return None
