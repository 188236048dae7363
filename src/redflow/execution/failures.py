"""The error that a failed run becomes for those who wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from redflow.domain.payload import decode, unpack
from redflow.errors import RedflowError, SerializedError, error_from_json

MESSAGE_BYTES: Final = 4096
_SHOWN: Final = ("name", "message", "kind", "code", "retryAfterMs")


def failure_again(content: bytes) -> RedflowError:
    """The error with which a wait ended badly earlier in an attempt, from the step's record.

    When the handler passes the wait again after a sleep, it gets this one again. To wait anew would change what the
    handler did before, and two such waits side by side would wake each other for ever.
    """
    stored = decode(unpack(content))
    error = error_from_json(stored if isinstance(stored, dict) else {})
    error.error = None  # the first time it had none either
    return error


def run_failure(stored: SerializedError | Mapping[str, object] | None, child_run_id: str | None = None) -> RedflowError:
    """`Run failed: …` with the stored error's parts as JSON, its message cut, and without its stack.

    Args:
        stored: the stored error.
        child_run_id: set for a failed child: the parent keeps this id, not a copy of the child's error, so that ten
            levels of nesting don't multiply it.
    """
    shown: dict[str, object] = {name: value for name, value in (stored or {}).items() if name in _SHOWN}
    message = shown.get("message")
    if isinstance(message, str):
        shown["message"] = message.encode("utf-8", "replace")[:MESSAGE_BYTES].decode("utf-8", "ignore")
    error = RedflowError("Run failed: " + orjson.dumps(shown).decode())
    if child_run_id is not None:
        error.cause_run_id = child_run_id
    return error
