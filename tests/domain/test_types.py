"""The option classes as the contract has them, and the cancel signal."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from redflow import types
from redflow.definitions import BlockingWorkflowHandlerContext, WorkflowHandlerContext
from redflow.types import CancelSignal

REQUIRED = "required"

CLASSES: dict[str, tuple[bool, dict[str, object]]] = {
    "CronTrigger": (True, {"expression": REQUIRED, "timezone": None, "input": None, "id": None}),
    "EventTrigger": (True, {"name": REQUIRED, "id": None}),
    "OnFailureContext": (False, {"error": REQUIRED, "input": REQUIRED, "run": REQUIRED}),
    "RunContext": (
        True,
        {"id": REQUIRED, "workflow": REQUIRED, "queue": REQUIRED, "attempt": REQUIRED, "max_attempts": REQUIRED},
    ),
    "WorkflowRateLimitOptions": (True, {"key": REQUIRED, "limit": REQUIRED, "period": REQUIRED}),
    "WorkflowDebounceOptions": (True, {"key": REQUIRED, "period": REQUIRED, "timeout": None}),
    "RetryPolicyRunContext": (
        True,
        dict.fromkeys(["attempt", "id", "max_attempts", "next_attempt", "queue", "workflow"], REQUIRED),
    ),
    "RetryPolicyContext": (True, {"error": REQUIRED, "input": REQUIRED, "run": REQUIRED}),
    "WorkflowRetryPolicy": (True, {"delay": None, "max_attempts": None, "should_retry": None}),
    "DefineWorkflowOptions": (
        False,
        {
            "name": REQUIRED,
            "queue": "default",
            "max_concurrency": None,
            "max_attempts": None,
            "cron": [],
            "event": [],
            "debounce": None,
            "on_failure": None,
            "mutex": None,
            "rate_limit": None,
            "retries": None,
            "throttle": None,
            "input_schema": None,
            "priority": 0,
            "timeout_ms": None,
            "durability": None,
        },
    ),
    "StepRunOptions": (True, {"name": REQUIRED, "timeout_ms": None}),
    "ListRunsParams": (True, {"status": None, "workflow": None, "cursor": None, "limit": 50, "sort": "desc"}),
    "SearchRunsParams": (
        True,
        {
            **dict.fromkeys(["status", "workflow", "queue", "parent_run_id", "query"]),
            **dict.fromkeys(["created_after", "created_before", "cursor"]),
            "limit": 50,
            "sort": "desc",
            "error": None,
            "scan": 10_000,
        },
    ),
    "ListEventsParams": (
        True,
        {"name": None, "cursor": None, "fanout_status": None, "limit": 50, "sort": "desc"},
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_option_classes(name: str) -> None:
    frozen, fields = CLASSES[name]
    cls: Any = getattr(types, name)
    assert [field.name for field in dataclasses.fields(cls)] == list(fields)
    made = cls(*(index for index, default in enumerate(fields.values()) if default is REQUIRED))
    for field, default in fields.items():
        if default is not REQUIRED:
            assert getattr(made, field) == default
    assert cls.__dataclass_params__.frozen is frozen
    assert not hasattr(made, "__dict__")


def test_lists_of_options_are_not_shared() -> None:
    assert types.DefineWorkflowOptions("a").cron is not types.DefineWorkflowOptions("b").cron


def test_constants() -> None:
    assert types.DEFAULT_MAX_ATTEMPTS == 3
    assert types.IDEMPOTENCY_TTL_SEC == 604_800
    assert set(types.ALL_STATUSES) == {"scheduled", "queued", "running", "succeeded", "failed", "canceled"}
    assert set(types.TERMINAL_STATUSES) == {"succeeded", "failed", "canceled"}


def test_everything_the_contract_names_is_there() -> None:
    names = {
        "AttemptTrace",
        "CronTrigger",
        "DefineWorkflowOptions",
        "EventDelivery",
        "EventRecord",
        "EventTrigger",
        "ListEventsParams",
        "ListRunsParams",
        "ListedEvent",
        "ListedRun",
        "OnFailureContext",
        "RunHandle",
        "RunState",
        "RunStats",
        "RunStatus",
        "SearchRunsParams",
        "SearchRunsResult",
        "StepState",
        "StepTrace",
        "WorkflowMeta",
        "WorkflowRetryPolicy",
        "WorkflowDebounceOptions",
        "WorkflowRateLimitOptions",
        "RunContext",
        "RetryPolicyContext",
        "RetryPolicyRunContext",
        "ReceivedEvent",
        "EventWaitInfo",
        "WorkflowCronMeta",
        "WorkflowEventMeta",
        "StepRunOptions",
        "WorkflowLike",
        "ALL_STATUSES",
        "TERMINAL_STATUSES",
        "DEFAULT_MAX_ATTEMPTS",
        "IDEMPOTENCY_TTL_SEC",
        "StepStatus",
        "EventDeliveryStatus",
        "EventFanoutStatus",
        "StepWaitForTarget",
        "RetryDelayTarget",
        "RetryDelayResolver",
        "ShouldRetryResolver",
    }
    assert names <= set(types.__all__)
    assert all(hasattr(types, name) for name in types.__all__)


@pytest.mark.parametrize("cls", [WorkflowHandlerContext, BlockingWorkflowHandlerContext])
def test_handler_contexts(cls: Any) -> None:
    context = cls(1, 2, 3, 4)
    assert (context.input, context.run, context.step, context.signal) == (1, 2, 3, 4)
    assert context.suspending is False
    assert not hasattr(context, "__dict__")


async def test_the_signal_wakes_tasks_and_threads() -> None:
    signal = CancelSignal()
    assert isinstance(signal, asyncio.Event)
    assert not signal.wait_blocking(0)
    waiting = threading.Semaphore(0)
    woken: list[bool] = []

    def wait() -> None:
        waiting.release()
        woken.append(signal.wait_blocking(30))

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in threads:
        waiting.acquire()
    signal.set()
    await signal.wait()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert woken == [True] * 5
    assert signal.wait_blocking()


async def test_a_signal_that_is_set_before_anyone_waits() -> None:
    signal = CancelSignal()
    signal.set()
    assert signal.wait_blocking()
    signal.clear()
    assert not signal.is_set()
    assert not signal.wait_blocking(0)
