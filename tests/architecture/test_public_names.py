"""The public names: what can be imported from where, and with which signatures (spec 0 and 2)."""

from __future__ import annotations

import importlib
import inspect
from typing import Final

import pytest

import redflow
from redflow import InlineRunResult, RedflowClient, RunHandle, errors, handle, testing, types
from redflow.client import compute_retry_delay_ms, is_retryable_error, make_error_json
from redflow.types import StepApi

IN_ORDER: Final = """
AttemptTrace CanceledError CronTrigger DefineWorkflowOptions EventDelivery EventRecord EventTrigger InlineRunResult
InlineStepResult InputValidationError ListEventsParams ListRunsParams ListedEvent ListedRun NonRetriableError
OnFailureContext OutputSerializationError RedflowClient RedflowError RunHandle RunState RunStats RunStatus
SearchRunsParams SearchRunsResult StartWorkerOptions StepState StepTrace TimeoutError UnknownWorkflowError WorkerHandle
WorkflowDefinition WorkflowHandlerContext WorkflowMeta WorkflowRegistry __unstable_reset_default_registry_for_tests
create_client default_prefix define_workflow get_default_client get_default_registry is_terminal_status run_inline
set_default_client start_worker validate_input_with_schema workflow
"""

SUBMODULES: Final = {
    "client": "RedflowClient create_client default_prefix get_default_client set_default_client is_terminal_status "
    "validate_input_with_schema ConcreteRunHandle compute_retry_delay_ms is_retryable_error make_error_json",
    "default": "get_default_client set_default_client",
    "registry": "WorkflowDefinition WorkflowHandlerContext WorkflowRegistry define_workflow workflow "
    "get_default_registry __unstable_reset_default_registry_for_tests",
    "worker": "StartWorkerOptions WorkerHandle start_worker",
    "testing": "run_inline InlineRunResult InlineStepResult",
    "errors": "RedflowError InputValidationError UnknownWorkflowError CanceledError TimeoutError "
    "OutputSerializationError NonRetriableError RetryAfterError RateLimitExceededError serialize_error SerializedError "
    "PayloadTooLargeError LimitExceededError QueueFullError NotDurableError ConnectionError ServerTooOldError",
}


def test_the_package_exports_the_names_of_the_contract_first_and_in_order() -> None:
    names = IN_ORDER.split()
    assert redflow.__all__[: len(names)] == names
    assert all(hasattr(redflow, name) for name in redflow.__all__)


@pytest.mark.parametrize("module", SUBMODULES)
def test_each_submodule_has_its_names(module: str) -> None:
    there = vars(importlib.import_module(f"redflow.{module}"))
    assert set(SUBMODULES[module].split()) <= there.keys()


def test_two_errors_are_not_in_the_root() -> None:
    assert not {"RetryAfterError", "RateLimitExceededError"} & vars(redflow).keys()


def test_the_handle_of_the_package_is_the_concrete_class() -> None:
    assert RunHandle is handle.RunHandle is redflow.client.ConcreteRunHandle
    assert not getattr(RunHandle, "_is_protocol", False)
    assert getattr(types.RunHandle, "_is_protocol", False)


def test_the_helpers_of_the_client_module() -> None:
    for attempt, delay in ((0, 250), (1, 250), (2, 500), (3, 1000), (100, 30_000)):
        assert delay <= compute_retry_delay_ms(attempt) <= delay + 99
    assert is_retryable_error(errors.TimeoutError()) is True
    assert is_retryable_error(errors.CanceledError()) is False
    assert make_error_json("x") == '{"name": "Error", "message": "x", "kind": "error"}'


def test_three_statuses_are_final() -> None:
    final = [status for status in types.ALL_STATUSES if redflow.is_terminal_status(status)]
    assert sorted(final) == ["canceled", "failed", "succeeded"]
    assert not redflow.is_terminal_status("done")


ADDED: Final = {
    "priority": None,
    "run_timeout_ms": None,
    "durability": None,
    "durability_timeout_ms": 1000,
    "codec": None,
}
"""Our own additions to calls of the contract, keywords all of them, with their defaults."""


def parameters(function: object) -> str:
    """The parameters of the contract as they are written, without types: `a, *, b=1`."""
    assert callable(function)
    signature = inspect.signature(function)
    bare = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in signature.parameters.values()
        if not (p.kind is p.KEYWORD_ONLY and p.name in ADDED and p.default == ADDED[p.name])
    ]
    return str(inspect.Signature(bare))[1:-1].removeprefix("self, ")


START: Final = "idempotency_key=None, idempotency_ttl=None, run_at=None"
BY_NAME: Final = (
    f"workflow_name, input, *, debounce=None, {START}, queue_override=None, max_attempts_override=None, "
    "parent_run_id=None"
)
INLINE: Final = (
    "definition, input=None, *, run_id='test-run-1', attempt=1, max_attempts=3, timeout_s=30.0, step_overrides=None, "
    "skip_time=False"
)
CHILD: Final = (
    "name, workflow, input, *, timeout_ms=None, run_at=None, queue_override=None, idempotency_key=None, "
    "idempotency_ttl=None"
)
EVENT: Final = "event_name, input, *, correlation_key=None, event_id=None"


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (redflow.create_client, "*, app=None, redis=None, url=None, prefix=None, shards=None"),
        (RedflowClient.__init__, "redis, prefix, app=None, run_history_retention_ms=None"),
        (RedflowClient.emit_workflow, f"workflow_name, input, *, {START}, parent_run_id=None"),
        (
            RedflowClient.run_by_name,
            BY_NAME,
        ),
        (RedflowClient.wait_for_result, "run_id, *, timeout_ms=30000"),
        (RunHandle.result, "*, timeout_ms=30000"),
        (RedflowClient.cancel_run, "run_id, *, reason=''"),
        (
            RedflowClient.emit_event,
            f"{EVENT}, idempotency_key=None, idempotency_ttl=None, parent_run_id=None",
        ),
        (RedflowClient.list_runs, "params=None"),
        (RedflowClient.list_events, "params=None"),
        (RedflowClient.cleanup_expired_runs_now, "*, reference_time_ms=None, limit=None"),
        (RedflowClient.cleanup_expired_events_now, "*, reference_time_ms=None, limit=None"),
        (RedflowClient.sync_registry, "registry, *, app"),
        (redflow.start_worker, "options"),
        (
            redflow.run_inline,
            INLINE,
        ),
        (InlineRunResult, "output=None, error=None, steps=<factory>"),
        (testing.InlineStepResult, "name, status, output=None, error=None"),
        (StepApi.run, "name, fn, /, *args, timeout_ms=None, **kwargs"),
        (StepApi.wait_for, "name, target, *, timeout_ms=None"),
        (StepApi.wait_for_event, "name, event_name, correlation_key, timeout"),
        (
            StepApi.run_workflow,
            CHILD,
        ),
        (
            StepApi.emit_event,
            f"name, {EVENT}, timeout_ms=None, idempotency_key=None, idempotency_ttl=None",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__qualname__,
)
def test_signatures_and_defaults(function: object, told: str) -> None:
    assert parameters(function) == told


def test_steps_that_start_workflows_take_the_same_options() -> None:
    assert parameters(StepApi.emit_workflow) == parameters(StepApi.run_workflow)
