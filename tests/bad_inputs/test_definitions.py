"""Options that a workflow can't have: judged where it is defined, with the field, the limit and what it got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from redflow import CronTrigger, EventTrigger, define_workflow
from redflow.errors import LimitExceededError, PayloadTooLargeError
from redflow.types import WorkflowDebounceOptions, WorkflowRateLimitOptions, WorkflowRetryPolicy
from tests.bad_inputs.table import Refused, judge_refusal
from tests.support.world import Context, World


async def handler(ctx: Context) -> object:
    return ctx.input


def defined(name: Any = "x", handler: Any = handler, **options: Any) -> Callable[[World], Any]:
    return lambda w: define_workflow(name, handler=handler, registry=w.registry, **options)


def key(input: object) -> str:
    return "k"


def limited(option: str, **values: Any) -> Callable[[World], Any]:
    given = {"key": key, "limit": 1, "period": "1s"} | values
    return lambda w: defined(**{option: WorkflowRateLimitOptions(**given)})(w)


def debounced(**values: Any) -> Callable[[World], Any]:
    given = {"key": key, "period": "1s"} | values
    return lambda w: defined(debounce=WorkflowDebounceOptions(**given))(w)


def cron(expression: Any, timezone: Any = None, **more: Any) -> Callable[[World], Any]:
    return lambda w: defined(cron=CronTrigger(expression, timezone, **more))(w)


async def generator(ctx: Context) -> Any:
    yield 1


BAD_CRONS = {
    "": "fields",
    " ": "fields",
    "* * * *": "fields",
    "* * * * * * *": "fields",
    "*/0 * * * *": "*/0 * * * *",
    "0 0 30 2 *": "0 0 30 2 *",
    "60 * * * *": "60 * * * *",
    "* 24 * * *": "* 24 * * *",
    "0 0 0 * *": "0 0 0 * *",
    "0 0 * 13 *": "0 0 * 13 *",
    "5-1 * * * *": "5-1 * * * *",
    "a b c d e": "a b c d e",
    "* * * * MOO": "MOO",
    "@fortnightly": "@fortnightly",
    "0 0 * * *\n": None,
    "0 0 \0 * *": "expression",
    "* " * 1000: "1000",
    "1" * 5000 + " * * * *": "1000",
    "٣ * * * *": None,
}

CRON_ROWS = [
    *[
        Refused(f"expression {text!r}"[:60], cron(text), ValueError, ("cron[0].expression", said))
        for text, said in BAD_CRONS.items()
        if said is not None
    ],
    *[Refused(f"expression {e!r}", cron(e), ValueError, ("cron[0].expression",)) for e in (None, 5, b"* * * * *", [])],
    *[
        Refused(f"zone {zone!r}"[:60], cron("0 0 * * *", zone), ValueError, ("cron[0].timezone",))
        for zone in ("Mars/X", "../../etc/passwd", "/etc/passwd", "", " ", "Europe/Berlin\0", "x" * 1000, 5,
                     b"UTC", "Europe", "zone.tab", "\ud800")
    ],
    *[
        Refused(f"input {name}", cron("0 0 * * *", None, input=value), ValueError, ("cron[0].input", said))
        for name, value, said in (("bytes", {"a": b"x"}, "$.a"), ("NaN", [float("nan")], "$[0]"), ("set", {1}, "set"))
    ],
    Refused("a large input", cron("0 0 * * *", None, input="x" * 5_000_000), PayloadTooLargeError, ("cron[0].input",)),
    Refused("a text for a trigger", defined(cron="0 0 * * *"), ValueError, ("cron must be a CronTrigger", "str")),
    Refused("a text among triggers", defined(cron=[CronTrigger("0 0 * * *"), 5]), ValueError, ("cron[1]", "int")),
    Refused(
        "twice the same", defined(cron=[CronTrigger("0 0 * * *")] * 2),
        ValueError, ("Duplicate cron trigger", "cron[1]"),
    ),
    Refused(
        "one id twice", defined(cron=[CronTrigger("0 0 * * *", id="a"), CronTrigger("1 0 * * *", id="a")]),
        ValueError, ("Duplicate cron trigger id 'a'",),
    ),
    Refused("id with NUL", cron("0 0 * * *", None, id="a\0"), ValueError, ("cron[0].id", "control")),
    Refused("id 5", cron("0 0 * * *", None, id=5), ValueError, ("cron[0].id", "int")),
]  # fmt: skip

EVENT_ROWS = [
    *[
        Refused(f"event {name!r}"[:40], lambda w, name=name: defined(event=EventTrigger(name))(w), ValueError,
                ("event[0].name",))
        for name in ("", " ", None, 5, b"x", "a\0", "\u202e", "\ud800", "x" * 256)
    ],
    Refused("a text for an event", defined(event="paid"), ValueError, ("event must be a EventTrigger", "str")),
    Refused("the same event twice", defined(event=[EventTrigger("a"), EventTrigger(" a ")]), ValueError,
            ("Duplicate event trigger",)),
]  # fmt: skip

NAME_ROWS = [
    Refused(f"name {name!r}"[:40], defined(name), ValueError, ("workflow name",))
    for name in ("", " ", None, 5, b"w", "a\0", "a\nb", "\u202e", "\ud800", "x" * 256)
] + [
    Refused(f"queue {queue!r}"[:40], defined(queue=queue), ValueError, ("queue",))
    for queue in (5, b"q", "a\0", "\u202e", "\ud800", "x" * 256)
]

BAD_COUNTS = (0, -1, 0.5, float("nan"), float("inf"), -float("inf"), 10**9 + 1, 10**5000, "5", b"5", [1])

NUMBER_ROWS = [
    *[
        Refused(f"{field} {value!r}"[:40] if value != 10**5000 else f"{field} 10^5000",
                defined(**{field: value}), ValueError, (field,))
        for field in ("max_attempts", "max_concurrency")
        for value in BAD_COUNTS
        if value != 10**5000
    ],
    Refused("max_attempts 10^9", defined(max_attempts=10**9), ValueError, ("max_attempts", "1000000", "1000000000")),
    *[Refused(f"{field} of 5,000 digits", defined(**{field: 10**5000}), ValueError, (field, "16610 bits"))
      for field in ("max_attempts", "max_concurrency", "priority")],
    Refused("max_concurrency 1.5", defined(max_concurrency=1.5), ValueError, ("max_concurrency", "1.5")),
    Refused("max_concurrency True", defined(max_concurrency=True), ValueError, ("max_concurrency", "True")),
    *[Refused(f"priority {v!r}", defined(priority=v), ValueError, ("priority", "-100 to 100", repr(v)))
      for v in (101, -101, 1.5, True, "5", None)],
    *[Refused(f"timeout_ms {v!r}", defined(timeout_ms=v), ValueError, ("timeout_ms",))
      for v in (0, -1, True, "5", float("nan"), float("inf"), "1e9d", "4000d", "0s", [])],
    *[Refused(f"{o}.limit {v!r}"[:40], limited(o, limit=v), ValueError, (f"{o}.limit",))
      for o in ("throttle", "rate_limit") for v in (0, -1, 0.5, True, "5", None, float("nan"), float("inf"), 10**10)],
    *[Refused(f"{o}.period {v!r}"[:40], limited(o, period=v), ValueError, (f"{o}.period",))
      for o in ("throttle", "rate_limit") for v in (0, -1, True, "5", None, float("nan"), float("inf"), "0s", "1e9d")],
    *[Refused(f"{o}.key {v!r}", limited(o, key=v), ValueError, (f"{o}.key", "function"))
      for o in ("throttle", "rate_limit") for v in ("k", None, 5)],
    *[Refused(f"{o} is a dict", defined(**{o: {"limit": 1}}), ValueError, (o, "dict"))
      for o in ("throttle", "rate_limit", "debounce", "retries")],
    *[Refused(f"debounce.period {v!r}", debounced(period=v), ValueError, ("debounce.period",))
      for v in (-1, True, "5", None, float("nan"), float("inf"), "1e9d", "4000d")],
    *[Refused(f"debounce.timeout {v!r}", debounced(timeout=v), ValueError, ("debounce.timeout",))
      for v in (-1, True, "5", float("nan"), float("inf"), "1e9d", 999, "0.5s")],
    Refused("debounce.key 5", debounced(key=5), ValueError, ("debounce.key", "function", "int")),
    *[Refused(f"retries.max_attempts {v!r}", defined(retries=WorkflowRetryPolicy(max_attempts=v)), ValueError,
              ("retries.max_attempts",)) for v in (0, -1, 0.5, "5", 10**9, float("nan"))],
    *[Refused(f"retries.delay {v!r}", defined(retries=WorkflowRetryPolicy(delay=v)), ValueError, ("retries.delay",))
      for v in (-1, True, "5", float("nan"), float("inf"), "1e9d", "4000d", [])],
    Refused("retries.should_retry 5", defined(retries=WorkflowRetryPolicy(should_retry=5)),
            ValueError, ("retries.should_retry", "int")),
]  # fmt: skip

FUNCTION_ROWS = [
    *[Refused(f"handler {v!r}", defined(handler=v), ValueError, ("handler", "function")) for v in (None, 5, "f")],
    Refused("a generator", defined(handler=generator), ValueError, ("handler", "generator")),
    *[Refused(f"{o} {v!r}", defined(**{o: v}), ValueError, (o, "function", type(v).__name__))
      for o in ("mutex", "on_failure") for v in ("k", 5, {})],
]  # fmt: skip


@pytest.mark.parametrize(
    "row", CRON_ROWS + EVENT_ROWS + NAME_ROWS + NUMBER_ROWS + FUNCTION_ROWS, ids=lambda row: row.name
)
async def test_refused(world: World, row: Refused) -> None:
    await judge_refusal(world, row)
    assert world.registry.list() == []


async def test_legal_though_rare(world: World) -> None:
    define_workflow("leap", handler=handler, registry=world.registry, cron=CronTrigger("0 0 29 2 1#5", "UTC"))
    define_workflow("floored", handler=handler, registry=world.registry, max_attempts=1.5)
    await world.client.sync_registry(world.registry, app="app")
    meta = await world.client.get_workflow_meta("leap")
    assert meta is not None
    assert meta["cron"][0]["next_run_at"] % 1000 == 0


def test_a_delay_over_ten_years_is_a_limit() -> None:
    with pytest.raises(LimitExceededError, match=r"10 years.*345600000000"):
        define_workflow("x", handler=handler, timeout_ms="4000d")
