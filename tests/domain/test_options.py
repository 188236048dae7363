"""Judging options when a workflow is defined."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.domain.options import (
    check_handler,
    check_options,
    debounce_times,
    time_ms,
    trigger_list,
    window_of,
)
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

NOW_MS = 1_700_000_000_000


def key(value: object) -> str:
    return str(value)


def check(name: object = "w", **options: Any) -> DefineWorkflowOptions:  # reason: bad types are what is tested
    given_options = DefineWorkflowOptions("w")
    for field, value in {"name": name, **options}.items():
        setattr(given_options, field, value)
    return check_options(given_options, now_ms=NOW_MS)


def test_a_name_is_enough() -> None:
    assert check() == DefineWorkflowOptions("w")


def test_everything_at_once() -> None:
    options = DefineWorkflowOptions(
        name="w",
        queue="mail",
        max_concurrency=5,
        max_attempts=7,
        cron=[CronTrigger("@daily", "Europe/Berlin", {"a": 1}), CronTrigger("@daily", id="x")],
        event=[EventTrigger("a"), EventTrigger("a", "x"), EventTrigger("b")],
        debounce=WorkflowDebounceOptions(key, "1s", 1000),
        on_failure=print,
        mutex=key,
        rate_limit=WorkflowRateLimitOptions(key, 5, "1m"),
        throttle=WorkflowRateLimitOptions(key, 1, 1),
        retries=WorkflowRetryPolicy("1s", 3, lambda ctx: True),
        priority=-100,
        timeout_ms="1.5h",
        durability=Durability.REPLICATED,
    )
    assert check_options(options, now_ms=NOW_MS) == options
    assert all(getattr(options, f.name) is not None for f in fields(options) if f.name != "input_schema")


@pytest.mark.parametrize("queue", ["", "  ", None])
def test_a_blank_queue_is_the_default_one(queue: object) -> None:
    assert check(queue=queue).queue == "default"


def test_event_names_are_stripped() -> None:
    assert check(event=[EventTrigger(" a ")]).event == [EventTrigger("a")]


@pytest.mark.parametrize("attempts", [True, False, 4.9, 1, 1_000_000, None])
def test_odd_but_harmless_numbers_of_attempts_pass(attempts: object) -> None:
    assert check(max_attempts=attempts).max_attempts == attempts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": " "}, "workflow name must not be blank"),
        ({"name": "a\nb"}, "workflow name must not contain control characters"),
        ({"name": 5}, "workflow name must be a string, got int"),
        ({"queue": "a\0"}, "queue must not contain control characters"),
        ({"queue": 5}, "queue must be a string, got int"),
        ({"max_concurrency": 0}, "max_concurrency must be a number from 1 to 1000000000, got 0"),
        ({"max_concurrency": True}, "max_concurrency must be a whole number or None, got True"),
        ({"max_concurrency": 2.0}, "max_concurrency must be a whole number or None, got 2.0"),
        ({"max_concurrency": 10**5000}, "max_concurrency must be a number from 1 to 1000000000, got an integer"),
        ({"max_attempts": 0}, "max_attempts must be a number from 1 to 1000000, got 0"),
        ({"max_attempts": -1}, "max_attempts must be a number from 1 to 1000000, got -1"),
        ({"max_attempts": 10**9}, "max_attempts must be a number from 1 to 1000000, got 1000000000"),
        ({"max_attempts": float("nan")}, "max_attempts must be a number from 1 to 1000000, got nan"),
        ({"max_attempts": float("inf")}, "max_attempts must be a number from 1 to 1000000, got inf"),
        ({"max_attempts": "3"}, "max_attempts must be a number, got str"),
        ({"cron": [CronTrigger("* * * *")]}, "cron[0].expression must have 5 fields"),
        ({"cron": [CronTrigger("@daily", "Mars/X")]}, "cron[0].timezone is not an IANA time zone"),
        ({"cron": [CronTrigger("@daily", input=b"x")]}, "cron[0].input is not JSON at $: bytes"),
        ({"cron": [CronTrigger("@daily", id=" ")]}, "cron[0].id must not be blank"),
        (
            {"cron": [CronTrigger("@daily", id="x"), CronTrigger("@hourly", id="x")]},
            "Duplicate cron trigger id 'x': cron[1] repeats it",
        ),
        (
            {"cron": [CronTrigger("@daily"), CronTrigger("@hourly"), CronTrigger("@daily", input={})]},
            "Duplicate cron trigger definition: cron[2] repeats '@daily' in the local time zone",
        ),
        ({"event": [EventTrigger(" ")]}, "event[0].name must not be blank"),
        ({"event": [EventTrigger("a", id="")]}, "event[0].id must not be blank"),
        ({"event": [EventTrigger("a", "x"), EventTrigger("b", "x")]}, "Duplicate event trigger id 'x'"),
        ({"event": [EventTrigger("a"), EventTrigger(" a ")]}, "Duplicate event trigger definition: event[1]"),
        ({"mutex": "order"}, "mutex must be a function, got str"),
        ({"on_failure": 5}, "on_failure must be a function, got int"),
        ({"debounce": "1s"}, "debounce must be a WorkflowDebounceOptions, got str"),
        ({"debounce": WorkflowDebounceOptions(key, "soon")}, "debounce.period: not a duration"),
        ({"debounce": WorkflowDebounceOptions(key, -1)}, "debounce.period: expected 0 or more milliseconds, got -1"),
        ({"debounce": WorkflowDebounceOptions(key, 1, "x")}, "debounce.timeout: not a duration"),
        (
            {"debounce": WorkflowDebounceOptions(key, "2s", 1999)},
            "debounce.timeout must not be shorter than debounce.period, got 1999 and '2s'",
        ),
        ({"rate_limit": (1, 2)}, "rate_limit must be a WorkflowRateLimitOptions, got tuple"),
        ({"rate_limit": WorkflowRateLimitOptions(key, 0, 1)}, "rate_limit.limit must be a number from 1 to"),
        ({"throttle": WorkflowRateLimitOptions(key, 1, 0)}, "throttle.period must be longer than 0 ms, got 0"),
        ({"throttle": WorkflowRateLimitOptions(key, 1, "0.1ms")}, "throttle.period must be longer than 0 ms"),
        ({"retries": {"max_attempts": 3}}, "retries must be a WorkflowRetryPolicy, got dict"),
        ({"retries": WorkflowRetryPolicy(max_attempts=0)}, "retries.max_attempts must be a number from 1"),
        ({"retries": WorkflowRetryPolicy(delay="soon")}, "Invalid retries.delay: not a duration"),
    ],
)
def test_bad_options_name_the_field_and_what_it_got(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check(**options)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("bad", [None, "order", 5])
def test_keys_of_limits_must_be_functions(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"throttle\.key must be a function"):
        window_of(WorkflowRateLimitOptions(bad, 1, 1), "throttle")
    with pytest.raises(ValueError, match=r"debounce\.key must be a function"):
        debounce_times(WorkflowDebounceOptions(bad, 1))
    with pytest.raises(ValueError, match=r"handler must be a function"):
        check_handler(bad)


def test_a_retry_delay_may_be_a_datetime_in_reach() -> None:
    soon = WorkflowRetryPolicy(delay=datetime.fromtimestamp(NOW_MS / 1000 + 60, UTC))
    assert check(retries=soon).retries is soon
    with pytest.raises(LimitExceededError, match=r"retries\.delay is too long"):
        check(retries=replace(soon, delay=datetime(2100, 1, 1, tzinfo=UTC)))


def test_windows_are_resolved() -> None:
    options = WorkflowRateLimitOptions(key, 2, "1.5s")
    assert window_of(options, "throttle") == (2, 1500)
    fraction: Any = 2.9
    assert window_of(replace(options, limit=fraction), "throttle") == (2, 1500)


def test_debounce_times_are_resolved() -> None:
    assert debounce_times(WorkflowDebounceOptions(key, "1s")) == (1000, None)
    assert debounce_times(WorkflowDebounceOptions(key, 0, 0)) == (0, 0)
    assert debounce_times(WorkflowDebounceOptions(key, "1s", "1m")) == (1000, 60_000)


@pytest.mark.parametrize("bad", [True, float("nan"), -1, "x", None, datetime.now(UTC), [1]])
def test_times_of_options(bad: object) -> None:
    with pytest.raises(ValueError, match=r"^throttle\.period: "):
        time_ms(bad, "throttle.period")


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_whatever_an_option_is_it_is_a_value_error_or_fine(value: object) -> None:
    for field in ("queue", "max_concurrency", "max_attempts", "mutex", "debounce", "rate_limit", "retries"):
        try:
            check(**{field: value})
        except ValueError as exc:
            assert str(exc).startswith(field)  # noqa: PT017 - most values are fine for one field or another


def test_trigger_lists() -> None:
    daily = CronTrigger("@daily")
    assert trigger_list(None, CronTrigger, "cron") == []
    assert trigger_list(daily, CronTrigger, "cron") == [daily]
    assert trigger_list((daily, daily), CronTrigger, "cron") == [daily, daily]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("@daily", "cron must be a CronTrigger or a list of them, got str"),
        ({"expression": "@daily"}, "cron must be a CronTrigger or a list of them, got dict"),
        (["@daily"], "cron[0] must be a CronTrigger, got str"),
        ([CronTrigger("@daily"), EventTrigger("a")], "cron[1] must be a CronTrigger, got EventTrigger"),
        (EventTrigger("a"), "cron must be a CronTrigger or a list of them, got EventTrigger"),
    ],
)
def test_other_triggers_are_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"^cron") as caught:
        trigger_list(value, CronTrigger, "cron")
    assert str(caught.value) == message
