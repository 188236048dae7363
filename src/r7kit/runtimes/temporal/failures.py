"""Errors on their way through Temporal: activities name them, flows get them back as themselves."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from typing import Final

from temporalio import exceptions

from r7kit.exceptions import NAMED_ERRORS, TaskAlreadyExistsError, TaskNotFoundError
from r7kit.runtimes.temporal.converter import TOO_LARGE
from redflow.errors import PayloadTooLargeError

MESSAGE_CHARS: Final = 16 * 1024
"""How much of an error's text goes into a history."""

# What a stored error's name may become again; no other name is ever looked up.
_BACK: Final[Mapping[str, type[Exception]]] = {
    **NAMED_ERRORS,
    TOO_LARGE: PayloadTooLargeError,
    "ValueError": ValueError,
    "TypeError": TypeError,
}


ANSWERS: Final = tuple(_BACK)
"""Types of errors that are answers of an activity, and no trouble: they arrive in the flow and are not tried again."""


def to_application_error(error: Exception) -> exceptions.ApplicationError | None:
    """How an activity of ours fails with this error: never tried again; None: an error to be tried again."""
    for name, cls in _BACK.items():
        if isinstance(error, cls):
            task_id = getattr(error, "task_id", "")
            # An answer, not trouble: the flow decides what it means, and the worker's log need not show a stack.
            return exceptions.ApplicationError(
                shorten(str(error)),
                task_id,
                type=name,
                non_retryable=True,
                category=exceptions.ApplicationErrorCategory.BENIGN,
            )
    return None


def too_large(error: BaseException | None) -> PayloadTooLargeError | None:
    """The error as redflow names it, if it says that something is too large for a history."""
    if isinstance(error, exceptions.ApplicationError) and error.type == TOO_LARGE:
        return PayloadTooLargeError(error.message)
    return None


def from_activity_error(error: exceptions.FailureError) -> Exception | None:
    """What the flow gets to see of a failed activity, or of one that could not be called; None: the error itself."""
    if not isinstance(error, exceptions.ActivityError):
        return too_large(error)
    cause = error.cause
    if isinstance(cause, exceptions.TimeoutError):
        return builtins.TimeoutError(f"{error.activity_type} was not done in time")
    name = cause.type if isinstance(cause, exceptions.ApplicationError) else None
    if isinstance(cause, exceptions.ApplicationError) and name is not None and name in _BACK:
        rebuilt = _BACK[name](cause.message)
        if isinstance(rebuilt, TaskNotFoundError | TaskAlreadyExistsError) and cause.details:
            rebuilt.task_id = str(cause.details[0])
        return rebuilt
    return None


def shorten(text: str) -> str:
    """A text that fits into a history."""
    return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}… ({len(text)} characters)"


def fitting(error: BaseException) -> BaseException:
    """What a flow fails with: the error, or one of the same name that Temporal can record.

    A text that is too large for a history could never be recorded, and the flow would be tried for ever. SystemExit and
    its like would take the worker along.
    """
    if isinstance(error, asyncio.CancelledError | GeneratorExit) or type(error).__module__.startswith("temporalio."):
        return error
    try:
        text = str(error)
    except Exception:
        text = "(an error without a readable text)"
    if isinstance(error, Exception) and len(text) <= MESSAGE_CHARS and not text.startswith("(an error without"):
        return error
    short = exceptions.ApplicationError(shorten(text), type=type(error).__name__)
    return short.with_traceback(error.__traceback__)
