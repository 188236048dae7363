"""One exception tree, and the plain form in which exceptions are stored.

Stored errors are data: they are read back by `error_from_json`, which picks one of the classes here by `kind`
from a fixed table and never imports, finds or builds a class by a name that came from storage.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable, Mapping
from typing import ClassVar, TypedDict

from redflow._delay import delay_ms

MAX_DELAY_MS = 10 * 365 * 86_400_000
"""The longest delay or time-out anywhere: ten years of 365 days, in milliseconds."""

MAX_ERROR_MESSAGE_BYTES = 16 * 1024
"""The most of an error's message that is stored, in bytes of UTF-8."""

MAX_ERROR_STACK_BYTES = 32 * 1024
"""The most of an error's traceback that is stored, in bytes of UTF-8."""


class _ErrorFields(TypedDict):
    name: str
    message: str
    kind: str


class SerializedError(_ErrorFields, total=False):
    """An exception as plain data: what users see in `run["error"]`, `step["error"]`, `delivery["error"]`.

    `name` is the class name, `message` the text, `kind` the stable kind to branch on. Present only when
    known: `stack` (traceback text), `code` (of foreign exceptions that carry a text code), `retryAfterMs`,
    and `cause_run_id` (the child run whose failure this is).
    """

    stack: str
    code: str
    retryAfterMs: int  # the name users of the stored form already know
    cause_run_id: str


class RedflowError(Exception):
    """Base of all errors of redflow; raise subclasses of it to give your errors a `kind` of their own.

    Attributes:
        kind: a stable word for the sort of error; class attribute, subclasses may override it.
        error: the stored form this exception was rebuilt from, if it was.
        cause_run_id: the child run whose failure this is, if it is one.
    """

    kind: ClassVar[str] = "error"
    error: SerializedError | None = None
    cause_run_id: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # The default calls the constructor with `args`, which fails for those that take more than a message.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[RedflowError], args: tuple[object, ...], state: Mapping[str, object]) -> RedflowError:
    exc = cls.__new__(cls, *args)
    exc.__dict__.update(state)
    return exc


class InputValidationError(RedflowError):
    """An input or event payload does not fit its schema. Never retried.

    Attributes:
        issues: what the schema objected to: the original exception, or a dict for event payloads.
    """

    kind = "validation"
    issues: object = None

    def __init__(self, message: str = "Workflow input validation failed", issues: object = None) -> None:
        super().__init__(message)
        self.issues = issues


class UnknownWorkflowError(RedflowError):
    """No workflow of that name is known. Never retried.

    Attributes:
        workflow_name: the name that was asked for.
        near_names: known names that look like it; they also stand in the traceback, as a note.
    """

    kind = "unknown_workflow"
    workflow_name: str = ""
    near_names: tuple[str, ...] = ()

    def __init__(self, workflow_name: str, *, near_names: Iterable[str] = ()) -> None:
        super().__init__(f"Unknown workflow: {workflow_name}")
        self.workflow_name = workflow_name
        self.near_names = tuple(near_names)
        if self.near_names:
            self.add_note("Did you mean " + " or ".join(repr(name) for name in self.near_names) + "?")


class CanceledError(RedflowError):
    """The run was canceled. Never retried; a run that ends with it ends canceled."""

    kind = "canceled"

    def __init__(self, message: str = "Run canceled") -> None:
        super().__init__(message)


class TimeoutError(RedflowError):
    """A step, a wait or a client call took longer than it was given. Retried. Not a builtin TimeoutError."""

    kind = "timeout"

    def __init__(self, message: str = "Operation timed out") -> None:
        super().__init__(message)


class OutputSerializationError(RedflowError):
    """What a step or handler returned is not JSON. Never retried.

    Attributes:
        cause_error: the exception that says which part is not JSON and why.
    """

    kind = "serialization"
    cause_error: BaseException | None = None

    def __init__(
        self,
        message: str = "Workflow output is not JSON-serializable",
        cause_error: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.cause_error = cause_error


class NonRetriableError(RedflowError):
    """Raise it in a handler or step to fail the run at once, whatever attempts are left."""

    kind = "non_retriable"


class _DelayedError(RedflowError):
    retry_after_ms: int = 0

    def __init__(self, message: str, retry_after: object) -> None:
        super().__init__(message)
        now_ms = time.time_ns() // 1_000_000
        self.retry_after_ms = check_delay(delay_ms(retry_after, now_ms=now_ms, label="retry_after"), "retry_after")


class RetryAfterError(_DelayedError):
    """Raise it in a handler or step to choose when the next attempt starts.

    Args:
        message: the error's text.
        retry_after: milliseconds, a duration text such as "30s", or a datetime.

    Attributes:
        retry_after_ms: the delay, in milliseconds from construction.

    Raises:
        ValueError: `retry_after` is no delay.
        LimitExceededError: it is longer than ten years.

    Example:
        >>> RetryAfterError("the API is busy", "30s").retry_after_ms
        30000
    """

    kind = "retry_after"


class RateLimitExceededError(_DelayedError):
    """A workflow's rate limit refused the run. Never retried.

    Takes the same arguments as RetryAfterError; `retry_after_ms` is what is left of the window.
    """

    kind = "rate_limited"


class LimitExceededError(RedflowError, ValueError):
    """A value is beyond a limit; the message names the field, the limit and the size. Nothing was written.

    It is a ValueError too: what is refused for its size is refused like any other bad value.
    """

    kind = "limit_exceeded"


class PayloadTooLargeError(LimitExceededError):
    """A JSON payload is larger than allowed. Nothing was written."""

    kind = "payload_too_large"


class QueueFullError(RedflowError):
    """Redis is out of memory and took no new work. Nothing was written; try again once runs have drained."""

    kind = "queue_full"


class NotDurableError(RedflowError):
    """A write was applied, but nobody confirmed in time that it is as durable as was asked for.

    It may still become so. Nothing is to be undone: the run was started, the event was emitted, the step is recorded.

    Attributes:
        run_id: the run that was started, or that the step belongs to; None for events.
        event_id: the event that was emitted, if it was one.
    """

    kind = "not_durable"
    run_id: str | None = None
    event_id: str | None = None

    def __init__(self, *args: object, run_id: str | None = None, event_id: str | None = None) -> None:
        super().__init__(*args)
        self.run_id = run_id
        self.event_id = event_id


class DurabilityUnsupportedError(RedflowError):
    """The server can't make a write as durable as was asked for, and the message says why. Nothing was written."""

    kind = "durability_unsupported"


class MissingExtraError(RedflowError, ImportError):
    """Something needs a package that is not installed; the message says how to install it."""

    kind = "missing_extra"


class PayloadDecodeError(RedflowError, ValueError):
    """A stored payload can't be decrypted: it was changed, moved from elsewhere, or is plain where it must not be.

    Never retried.

    Attributes:
        key_id: the id of the key it was encrypted with; None if it is not encrypted.
    """

    kind = "payload_decode"
    key_id: str | None = None

    def __init__(self, message: str = "", *, key_id: str | None = None) -> None:
        super().__init__(message)
        self.key_id = key_id


class PayloadKeyMissingError(PayloadDecodeError):
    """A stored payload is encrypted, and this program has no codec, or not the key. `key_id` says which it needs."""

    kind = "payload_key_missing"


class ConnectionError(RedflowError):
    """Redis cannot be reached, or cannot be used. Not a builtin ConnectionError."""

    kind = "connection"


class ServerTooOldError(RedflowError):
    """The server is older than the oldest version redflow works with."""

    kind = "server_too_old"


class ShardMismatchError(RedflowError):
    """The prefix is spread over another number of shards than this client was told."""

    kind = "shard_mismatch"


class NotFoundError(RedflowError):
    """There is no run, queue, workflow, schedule or worker of that name; near names are told."""

    kind = "not_found"


class RunStateError(RedflowError):
    """The run is in a state in which this can't be done to it.

    Attributes:
        status: the state it is in.
    """

    kind = "run_state"

    def __init__(self, *args: object, status: str = "") -> None:
        super().__init__(*args)
        self.status = status


class NotSupportedError(RedflowError):
    """The engine behind this client can't do that."""

    kind = "not_supported"


class PoisonError(RedflowError):
    """The run's worker died several times in a row without a step of progress."""

    kind = "poison"


class StepTypeError(RedflowError):
    """A stored step value no longer fits the type its function promises. Retried."""

    kind = "step_type"


def check_delay(ms: int, label: str) -> int:
    """Return `ms` if it is within the limit for delays, else raise LimitExceededError naming `label`."""
    if ms > MAX_DELAY_MS:
        shown = f"{ms} ms" if ms.bit_length() <= 128 else "far more"
        raise LimitExceededError(f"{label} is too long: at most {MAX_DELAY_MS} ms (10 years), got {shown}")
    return ms


def serialize_error(error: object) -> SerializedError:
    """Turn an exception, or anything else that was used as an error, into plain data.

    Args:
        error: an exception; anything else becomes an `Error` with its text as message.

    Returns:
        name, message and kind; for exceptions also stack; code, retryAfterMs and cause_run_id if there are
        any. Texts are whole: only `make_error_json` cuts them.
    """
    if not isinstance(error, BaseException):
        return {"name": "Error", "message": _value_text(error), "kind": RedflowError.kind}
    data: SerializedError = {
        "name": type(error).__name__,
        "message": _exception_text(error),
        "kind": RedflowError.kind,
    }
    if isinstance(error, RedflowError):
        data["kind"] = error.kind
        retry_after_ms = getattr(error, "retry_after_ms", None)
        if isinstance(retry_after_ms, int) and not isinstance(retry_after_ms, bool):
            data["retryAfterMs"] = retry_after_ms
        if error.cause_run_id is not None:
            data["cause_run_id"] = error.cause_run_id
    else:
        code = getattr(error, "code", None)
        if isinstance(code, str):
            data["code"] = code
    data["stack"] = "".join(traceback.format_exception(error))
    return data


def make_error_json(error: object) -> str:
    """The JSON text of `serialize_error(error)`, with message and stack cut to what is stored of them.

    Never raises for the error's sake: one that cannot be described becomes a fixed generic error. The text is
    always valid UTF-8 once encoded; a text that was cut says so.
    """
    try:
        data = serialize_error(error)
        data["message"] = _cut(data["message"], MAX_ERROR_MESSAGE_BYTES)
        if "stack" in data:
            data["stack"] = _cut(data["stack"], MAX_ERROR_STACK_BYTES)
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except Exception:
        return '{"name":"Error","message":"Unknown error (it could not be described)","kind":"error"}'
    return _valid_unicode(text)


_CLASS_BY_KIND: Mapping[str, type[RedflowError]] = {
    cls.kind: cls
    for cls in (
        InputValidationError,
        UnknownWorkflowError,
        CanceledError,
        TimeoutError,
        OutputSerializationError,
        NonRetriableError,
        RetryAfterError,
        RateLimitExceededError,
        LimitExceededError,
        PayloadTooLargeError,
        QueueFullError,
        NotDurableError,
        DurabilityUnsupportedError,
        MissingExtraError,
        PayloadDecodeError,
        PayloadKeyMissingError,
        ConnectionError,
        ServerTooOldError,
        ShardMismatchError,
        NotFoundError,
        RunStateError,
        NotSupportedError,
        PoisonError,
        StepTypeError,
    )
}


def error_from_json(data: Mapping[str, object]) -> RedflowError:
    """Rebuild an exception from its stored form.

    Args:
        data: what `serialize_error` made; fields that are missing or of a wrong type are left at their
            defaults.

    Returns:
        An exception of the class that belongs to `kind`, or a plain RedflowError where the kind is not ours.
        `str()` of it is the stored message; `.error` is the stored form.
    """
    kind, message = data.get("kind"), data.get("message")
    cls = _CLASS_BY_KIND.get(kind, RedflowError) if isinstance(kind, str) else RedflowError
    # Not through the constructors: they want what is not stored (a delay target, a workflow's name).
    exc = cls.__new__(cls, message if isinstance(message, str) else "")
    exc.error = _as_serialized(data)
    exc.cause_run_id = exc.error.get("cause_run_id")
    if isinstance(exc, _DelayedError):
        exc.retry_after_ms = exc.error.get("retryAfterMs", 0)
    return exc


def _as_serialized(data: Mapping[str, object]) -> SerializedError:
    """The known fields of stored data that have the type they should have."""

    def text(key: str, default: str) -> str:
        value = data.get(key)
        return value if isinstance(value, str) else default

    known: SerializedError = {
        "name": text("name", "Error"),
        "message": text("message", ""),
        "kind": text("kind", RedflowError.kind),
    }
    if isinstance(stack := data.get("stack"), str):
        known["stack"] = stack
    if isinstance(code := data.get("code"), str):
        known["code"] = code
    if isinstance(cause := data.get("cause_run_id"), str):
        known["cause_run_id"] = cause
    delay = data.get("retryAfterMs")
    if isinstance(delay, int) and not isinstance(delay, bool):
        known["retryAfterMs"] = delay
    return known


def _exception_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as exc:
        # A broken __str__ must not hide that, and where, the exception was raised.
        return f"<str() of {type(error).__name__} failed with {type(exc).__name__}>"


def _value_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _valid_unicode(text: str) -> str:
    """`text` with lone surrogates, which have no UTF-8, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    """`text` within `limit` bytes of UTF-8; of a longer one, start and end with a remark between them."""
    if len(text) * 4 <= limit:
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    remark = f"\n... [cut: {len(data)} bytes, limit {limit}] ...\n"
    half = (limit - len(remark)) // 2
    return data[:half].decode("utf-8", "ignore") + remark + data[-half:].decode("utf-8", "ignore")
