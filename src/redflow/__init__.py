"""Durable workflows in plain Python, with their state in Redis."""

from __future__ import annotations

from importlib.metadata import version

from redflow import config, telemetry
from redflow.client import (
    RedflowClient,
    create_client,
    default_prefix,
    is_terminal_status,
    validate_input_with_schema,
)
from redflow.default import get_default_client, set_default_client
from redflow.errors import (
    CanceledError,
    InputValidationError,
    NonRetriableError,
    OutputSerializationError,
    RedflowError,
    TimeoutError,
    UnknownWorkflowError,
)
from redflow.handle import RunHandle
from redflow.registry import (
    WorkflowDefinition,
    WorkflowHandlerContext,
    WorkflowRegistry,
    __unstable_reset_default_registry_for_tests,
    define_workflow,
    get_default_registry,
    workflow,
)
from redflow.testing import InlineRunResult, InlineStepResult, run_inline
from redflow.types import (
    AttemptTrace,
    CronTrigger,
    DefineWorkflowOptions,
    EventDelivery,
    EventRecord,
    EventTrigger,
    ListedEvent,
    ListedRun,
    ListEventsParams,
    ListRunsParams,
    OnFailureContext,
    RunExplanation,
    RunState,
    RunStats,
    RunStatus,
    SearchRunsParams,
    SearchRunsResult,
    StepRetry,
    StepState,
    StepTrace,
    WorkflowCall,
    WorkflowMeta,
)
from redflow.worker import StartWorkerOptions, WorkerHandle, start_worker

__version__ = version("redflow")

if config.log_enabled():
    telemetry.enable_debug_log()

__all__ = [  # noqa: RUF022 - the order of the contract; own additions follow
    "AttemptTrace",
    "CanceledError",
    "CronTrigger",
    "DefineWorkflowOptions",
    "EventDelivery",
    "EventRecord",
    "EventTrigger",
    "InlineRunResult",
    "InlineStepResult",
    "InputValidationError",
    "ListEventsParams",
    "ListRunsParams",
    "ListedEvent",
    "ListedRun",
    "NonRetriableError",
    "OnFailureContext",
    "OutputSerializationError",
    "RedflowClient",
    "RedflowError",
    "RunHandle",
    "RunState",
    "RunStats",
    "RunStatus",
    "SearchRunsParams",
    "SearchRunsResult",
    "StartWorkerOptions",
    "StepState",
    "StepTrace",
    "TimeoutError",
    "UnknownWorkflowError",
    "WorkerHandle",
    "WorkflowDefinition",
    "WorkflowHandlerContext",
    "WorkflowMeta",
    "WorkflowRegistry",
    "__unstable_reset_default_registry_for_tests",
    "create_client",
    "default_prefix",
    "define_workflow",
    "get_default_client",
    "get_default_registry",
    "is_terminal_status",
    "run_inline",
    "set_default_client",
    "start_worker",
    "validate_input_with_schema",
    "workflow",
    "__version__",
    "RunExplanation",
    "StepRetry",
    "WorkflowCall",
]
