"""Judging a workflow's options when it is defined, so that no bad one is found out by a failing run.

Every refusal is a ValueError that names the field, what is allowed and what it got.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, TypeVar

from redflow.domain.cron import validate_cron
from redflow.domain.duration import resolve_delay_ms
from redflow.domain.names import DEFAULT_QUEUE, check_name
from redflow.domain.payload import encode
from redflow.errors import LimitExceededError
from redflow.types import (
    CronTrigger,
    DefineWorkflowOptions,
    Durability,
    EventTrigger,
    WorkflowDebounceOptions,
    WorkflowRateLimitOptions,
    WorkflowRetryPolicy,
)

MAX_ATTEMPTS_LIMIT = 1_000_000
"""The most attempts a workflow may ask for."""

MAX_PRIORITY = 100
"""Priorities go from minus this to this; the scores of ready lines have room for no more."""

MAX_COUNT = 1_000_000_000
"""The largest limit or concurrency a workflow may ask for."""

T = TypeVar("T")


class Window(NamedTuple):
    """What a rate limit or throttle allows: `limit` starts in each `period_ms` milliseconds."""

    limit: int
    period_ms: int


class DebounceTimes(NamedTuple):
    """A debounce's times in milliseconds; `timeout_ms` None is no limit."""

    period_ms: int
    timeout_ms: int | None


def check_options(options: DefineWorkflowOptions, *, now_ms: int) -> DefineWorkflowOptions:
    """Judge all options of a workflow.

    Args:
        options: as the user gave them.
        now_ms: the present in epoch milliseconds, for a retry delay that is a datetime.

    Returns:
        The same options, with a blank queue replaced by "default" and event names stripped.

    Raises:
        ValueError: the first option that cannot work.
    """
    check_name(options.name, what="workflow name")
    queue = _check_queue(options.queue)
    _check_max_concurrency(options.max_concurrency)
    _check_max_attempts(options.max_attempts, "max_attempts")
    check_priority(options.priority)
    if options.durability is not None:
        check_durability(options.durability)
    if options.timeout_ms is not None:
        positive_ms(options.timeout_ms, "timeout_ms")
    check_cron_triggers(options.cron)
    check_event_triggers(options.event)
    _check_callable(options.mutex, "mutex")
    _check_callable(options.on_failure, "on_failure")
    if debounce := _instance(options.debounce, WorkflowDebounceOptions, "debounce"):
        debounce_times(debounce)
    if rate_limit := _instance(options.rate_limit, WorkflowRateLimitOptions, "rate_limit"):
        window_of(rate_limit, "rate_limit")
    if throttle := _instance(options.throttle, WorkflowRateLimitOptions, "throttle"):
        window_of(throttle, "throttle")
    if retries := _instance(options.retries, WorkflowRetryPolicy, "retries"):
        _check_retries(retries, now_ms)
    event = [replace(trigger, name=trigger.name.strip()) for trigger in options.event]
    return replace(options, queue=queue, event=event)


def check_handler(handler: object) -> None:
    """Raise ValueError unless this can be a handler: a function, and no generator function."""
    _check_callable(handler, "handler", required=True)
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise ValueError("handler must be a function that returns its result, got a generator function")


def trigger_list(value: object, cls: type[T], what: str) -> list[T]:
    """Triggers as a list, given one of them, several, or None.

    Raises:
        ValueError: something else is among them.
    """
    if value is None:
        return []
    if isinstance(value, cls):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{what} must be a {cls.__name__} or a list of them, got {type(value).__name__}")
    triggers: list[T] = []
    for index, item in enumerate(value):
        if not isinstance(item, cls):
            raise ValueError(f"{what}[{index}] must be a {cls.__name__}, got {type(item).__name__}")
        triggers.append(item)
    return triggers


def check_cron_triggers(triggers: Iterable[CronTrigger]) -> None:
    """Raise ValueError unless every trigger can fire, its input is JSON, and no two of them are the same."""
    seen: set[object] = set()
    for index, trigger in enumerate(triggers):
        what = f"cron[{index}]"
        validate_cron(trigger.expression, trigger.timezone, what=what)
        try:
            stored_input = encode({} if trigger.input is None else trigger.input, what=f"{what}.input")
        except TypeError as exc:
            raise ValueError(str(exc)) from exc
        shown = f"{trigger.expression!r} in {trigger.timezone or 'the local time zone'}"
        _check_new(
            seen,
            "cron trigger",
            what,
            trigger.id,
            (trigger.expression, trigger.timezone, stored_input),
            shown,
        )


def check_event_triggers(triggers: Iterable[EventTrigger]) -> None:
    """Raise ValueError unless every trigger names an event, and no two of them are the same."""
    seen: set[object] = set()
    for index, trigger in enumerate(triggers):
        what = f"event[{index}]"
        name = check_name(trigger.name, what=f"{what}.name").strip()
        _check_new(seen, "event trigger", what, trigger.id, name, repr(name))


def window_of(options: WorkflowRateLimitOptions, what: str) -> Window:
    """The limit, rounded down, and the period of a rate limit or throttle.

    Args:
        options: the limit as the user gave it.
        what: how an error names the option.

    Raises:
        ValueError: the limit is no number of at least 1, the period no positive time, or the key no function.
    """
    _check_callable(options.key, f"{what}.key", required=True)
    limit = _floored(options.limit, f"{what}.limit", MAX_COUNT)
    return Window(limit, positive_ms(options.period, f"{what}.period"))


def debounce_times(options: WorkflowDebounceOptions) -> DebounceTimes:
    """The times of a debounce.

    Raises:
        ValueError: a time is none, the time-out is shorter than the period, or the key is no function.
    """
    _check_callable(options.key, "debounce.key", required=True)
    period_ms = time_ms(options.period, "debounce.period")
    if options.timeout is None:
        return DebounceTimes(period_ms, None)
    timeout_ms = time_ms(options.timeout, "debounce.timeout")
    if timeout_ms < period_ms:
        raise ValueError(
            f"debounce.timeout must not be shorter than debounce.period, got {options.timeout!r} and {options.period!r}"
        )
    return DebounceTimes(period_ms, timeout_ms)


def check_priority(value: object) -> int:
    """The priority of a run.

    Raises:
        ValueError: it is no whole number from -100 to 100.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not -MAX_PRIORITY <= value <= MAX_PRIORITY:
        raise ValueError(
            f"priority must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, got {shown_number(value)}"
        )
    return value


def check_durability(value: object) -> Durability:
    """How safe a write must be.

    Raises:
        ValueError: it is no Durability.
    """
    if not isinstance(value, Durability):
        raise ValueError(
            f"durability must be one of {', '.join(f'Durability.{one.name}' for one in Durability)}, got {value!r:.100}"
        )
    return value


def time_ms(value: object, what: str) -> int:
    """A length of time in whole milliseconds, from milliseconds or a duration text.

    Raises:
        ValueError: it is neither, negative, or longer than ten years; the message starts with `what`.
    """
    if isinstance(value, (int, float, str)):
        try:
            return resolve_delay_ms(value, now_ms=0, label=what)
        except LimitExceededError:
            raise
        except ValueError as exc:
            raise ValueError(str(exc).removeprefix("Invalid ")) from None
    raise ValueError(f"{what}: expected milliseconds or a duration text, got {type(value).__name__}")


def positive_ms(value: object, what: str) -> int:
    """A length of time of at least 1 ms.

    Raises:
        ValueError: it is none, or longer than ten years; the message starts with `what`.
    """
    length_ms = time_ms(value, what)
    if length_ms == 0:
        raise ValueError(f"{what} must be longer than 0 ms, got {value!r}")
    return length_ms


def _check_queue(queue: object) -> str:
    if queue is None or (isinstance(queue, str) and not queue.strip()):
        return DEFAULT_QUEUE
    return check_name(queue, what="queue")


def _check_max_concurrency(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"max_concurrency must be a whole number or None, got {value!r}")
    _floored(value, "max_concurrency", MAX_COUNT)


def _check_max_attempts(value: object, what: str) -> None:
    # A bool is passed over, here as where attempts are resolved: the contract has it count as not given.
    if value is not None and not isinstance(value, bool):
        _floored(value, what, MAX_ATTEMPTS_LIMIT)


def _check_retries(retries: WorkflowRetryPolicy, now_ms: int) -> None:
    _check_max_attempts(retries.max_attempts, "retries.max_attempts")
    _check_callable(retries.should_retry, "retries.should_retry")
    if retries.delay is not None and not callable(retries.delay):
        resolve_delay_ms(retries.delay, now_ms=now_ms, label="retries.delay")


def _check_callable(value: object, what: str, *, required: bool = False) -> None:
    if (value is not None or required) and not callable(value):
        raise ValueError(f"{what} must be a function, got {type(value).__name__}")


def _floored(value: object, what: str, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must be a number, got {type(value).__name__}")
    # Compared before it is rounded, so that neither NaN nor an infinity gets that far.
    if not 1 <= value < largest + 1:
        raise ValueError(f"{what} must be a number from 1 to {largest}, got {shown_number(value)}")
    return int(value)


def shown_number(value: object) -> str:
    """What was given in place of a number, for a message."""
    # Python refuses to write integers of more than 4,300 digits.
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _instance(value: object, cls: type[T], what: str) -> T | None:
    if value is None or isinstance(value, cls):
        return value
    raise ValueError(f"{what} must be a {cls.__name__}, got {type(value).__name__}")


def _check_new(seen: set[object], kind: str, what: str, trigger_id: object, definition: object, shown: str) -> None:
    """Raise ValueError if a trigger of that id or, without ids, of that definition was seen; remember it."""
    if trigger_id is None:
        if ("definition", definition) in seen:
            raise ValueError(f"Duplicate {kind} definition: {what} repeats {shown}; give them ids to keep both")
        seen.add(("definition", definition))
        return
    checked = check_name(trigger_id, what=f"{what}.id")
    if ("id", checked) in seen:
        raise ValueError(f"Duplicate {kind} id {checked!r}: {what} repeats it")
    seen.add(("id", checked))
