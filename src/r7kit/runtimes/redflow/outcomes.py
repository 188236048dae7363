"""Outcomes of steps that are recorded whatever they are.

redflow calls a step that failed again when its run is resumed. For task operations and activities that would let the
flow see something else on its second pass than on its first. So their errors are recorded as results, and raised from
there on every pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from r7kit.exceptions import NAMED_ERRORS, TaskAlreadyExistsError, TaskNotFoundError
from redflow.errors import RedflowError
from redflow.types import JsonData

_BACK: Final[Mapping[str, type[Exception]]] = {
    **NAMED_ERRORS,
    "TimeoutError": TimeoutError,
    "ValueError": ValueError,
    "TypeError": TypeError,
}
"""What a recorded error's name may become again; no other name is ever looked up."""

_MESSAGE_CHARS: Final = 16 * 1024


def good(value: JsonData) -> dict[str, JsonData]:
    """The outcome of a call that returned."""
    return {"ok": value}


def bad(error: Exception) -> dict[str, JsonData]:
    """The outcome of a call that raised."""
    name = next((name for name, cls in _BACK.items() if isinstance(error, cls)), type(error).__name__)
    return {
        "error": name,
        "message": str(error)[:_MESSAGE_CHARS],
        "task_id": getattr(error, "task_id", ""),
    }


def comes_back(error: Exception) -> bool:
    """Whether the error arrives in the flow as itself; such errors are decisions and are not tried again."""
    return isinstance(error, tuple(_BACK.values()))


def value_of(outcome: Mapping[str, JsonData], what: str) -> JsonData:
    """What a recorded call returned.

    Args:
        outcome: as recorded.
        what: how an error names the call.

    Raises:
        Exception: what it raised: itself if it is one of those that come back, else a RedflowError that names it.
    """
    if "error" not in outcome:
        return outcome["ok"]
    name, message = str(outcome["error"]), str(outcome.get("message", ""))
    cls = _BACK.get(name)
    if cls is None:
        raise RedflowError(f"{what} failed: {name}: {message}")
    error = cls(message)
    if isinstance(error, TaskNotFoundError | TaskAlreadyExistsError):
        error.task_id = str(outcome.get("task_id", ""))
    raise error


def named_cause(error: RedflowError) -> Exception | None:
    """The named error that a failed run ended with, for `__cause__`; None if it was none of them."""
    stored = error.error
    cls = None if stored is None else NAMED_ERRORS.get(stored["name"])
    return None if cls is None or stored is None else cls(stored["message"])
