"""The errors that users of task flows see by name, on every engine, in workflow code too."""

from __future__ import annotations

from typing import Final


class TaskNotFoundError(ValueError):
    """There is no such task, or it is deleted. Nothing was written; never retried.

    Attributes:
        task_id: the task that was asked for; "" if the error was rebuilt from its text.
    """

    task_id: str = ""

    @classmethod
    def of(cls, task_id: str, why: str = "there is no such task (any more)") -> TaskNotFoundError:
        """The error for a task."""
        error = cls(f"task {task_id!r} not found: {why}")
        error.task_id = task_id
        return error


class TaskAlreadyExistsError(ValueError):
    """A task of that uuid exists; a deleted one counts until its time is over. Nothing was written; never retried.

    Attributes:
        task_id: the uuid that is taken; "" if the error was rebuilt from its text.
    """

    task_id: str = ""

    @classmethod
    def of(cls, task_id: str) -> TaskAlreadyExistsError:
        """The error for a task."""
        error = cls(f"task {task_id!r} already exists: choose another uuid, or leave it out for a new one")
        error.task_id = task_id
        return error


class TemporalNotConnected(RuntimeError):
    """The Temporal server could not be reached."""


class EngineFeatureError(RuntimeError):
    """A feature of one engine was used on another; the text names both, and what to do instead."""


NAMED_ERRORS: Final[dict[str, type[TaskNotFoundError] | type[TaskAlreadyExistsError] | type[TemporalNotConnected]]] = {
    "TaskNotFoundError": TaskNotFoundError,
    "TaskAlreadyExistsError": TaskAlreadyExistsError,
    "TemporalNotConnected": TemporalNotConnected,
}
"""What an engine may turn a stored error's name back into; no other name is ever looked up."""
