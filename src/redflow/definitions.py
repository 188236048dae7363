"""Workflow definitions: a handler, its options, and starting runs of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, TypedDict, TypeVar, Unpack, overload

from redflow._handlers import (
    AsyncHandler,
    BlockingHandler,
    BlockingWorkflowHandlerContext,
    Handler,
    WorkflowHandlerContext,
    is_async,
    is_blocking,
)
from redflow._registry import WorkflowRegistry, get_default_registry
from redflow.domain.names import DEFAULT_QUEUE, check_key
from redflow.domain.options import check_handler, check_options, debounce_times, trigger_list
from redflow.domain.retry import resolve_max_attempts
from redflow.errors import InputValidationError
from redflow.types import (
    CronTrigger,
    DefineWorkflowOptions,
    Durability,
    EventTrigger,
    FailureHook,
    KeyFunction,
    ResolvedDebounce,
    RunHandle,
    WorkflowDebounceOptions,
    WorkflowRateLimitOptions,
    WorkflowRetryPolicy,
)

__all__ = [
    "AnyWorkflow",
    "AsyncHandler",
    "BlockingHandler",
    "BlockingWorkflowHandlerContext",
    "Handler",
    "RunStarter",
    "WorkflowDefinition",
    "WorkflowHandlerContext",
    "compute_debounce",
    "define_workflow",
    "set_client_provider",
    "validate_input_with_schema",
    "workflow",
]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class RunStarter(Protocol):
    """What `defn.run` needs of a client."""

    async def run_by_name(
        self,
        workflow_name: str,
        input: object,
        *,
        debounce: ResolvedDebounce | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        max_attempts_override: int | None = None,
        parent_run_id: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        durability: Durability | None = None,
    ) -> RunHandle[Any]:  # reason: a client starts runs by name and so cannot know the type of their output
        """Start a run of the workflow of that name."""


_client_provider: Callable[[], RunStarter] | None = None


def set_client_provider(provider: Callable[[], RunStarter]) -> None:
    """Say where `defn.run` gets its client. `redflow.default`, which stands above this module, does."""
    global _client_provider
    _client_provider = provider


class WorkflowDefinition(Generic[InputT, OutputT]):
    """A workflow: its options and its handler.

    `define_workflow` and `workflow`, which judge the options, make them.

    Attributes:
        options: everything but the handler.
        handler: the function that does the work.
        async_handler: the handler, if it is `async def`; else None.
        blocking_handler: the handler, if it is a plain function; else None.
    """

    __slots__ = ("async_handler", "blocking_handler", "handler", "options")

    def __init__(self, options: DefineWorkflowOptions, handler: Handler[InputT, OutputT]) -> None:
        self.options = options
        self.handler = handler
        self.async_handler: AsyncHandler[InputT, OutputT] | None = None
        self.blocking_handler: BlockingHandler[InputT, OutputT] | None = None
        if is_async(handler):
            self.async_handler = handler
        elif is_blocking(handler):
            self.blocking_handler = handler

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.options.name

    @property
    def max_attempts(self) -> int | None:
        """How often a run is tried, the first time included; None where the definition does not say."""
        retries = self.options.retries
        return resolve_max_attempts(retries.max_attempts if retries else None, self.options.max_attempts)

    def __repr__(self) -> str:
        return f"<WorkflowDefinition {self.name!r}>"

    async def run(
        self,
        input: InputT | Mapping[str, object],
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        parent_run_id: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
    ) -> RunHandle[OutputT]:
        """Start a run through the default client. Works before any worker knows the workflow.

        Args:
            input: the input; with an input_schema, an instance of it or what it can be made of.
            idempotency_key: a second run with the same key returns the first one's handle, unless that run
                failed or was canceled.
            idempotency_ttl: how long the key holds, in seconds; 7 days by default.
            run_at: when it starts; a naive datetime is local time.
            queue_override: another queue than the workflow's.
            parent_run_id: the run it belongs to, if any.
            priority: -100 to 100, higher first; None is that of the workflow.
            run_timeout_ms: how long it may take from its first start, ms or a duration text; None is the workflow's
                `timeout_ms`.

        Returns:
            A handle to wait for the result with.

        Raises:
            InputValidationError: the input does not fit the schema. Nothing was sent.
            ValueError: the debounce key is no key, or another argument cannot be.
            TypeError: the input is not JSON.

        Example:
            >>> handle = await send_invoice.run({"order": 17})
            >>> await handle.result()
        """
        schema = self.options.input_schema
        value: object = input if schema is None else await validate_input_with_schema(schema, input)
        debounce = compute_debounce(self, value)
        if _client_provider is None:
            raise RuntimeError("redflow.definitions has no client provider: import redflow first")
        return await _client_provider().run_by_name(
            self.name,
            _plain_input(value),
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            run_at=run_at,
            queue_override=queue_override or self.options.queue or DEFAULT_QUEUE,
            max_attempts_override=self.max_attempts,
            parent_run_id=parent_run_id,
            debounce=debounce,
            **_limits(self.options, priority, run_timeout_ms),
        )


class _Limits(TypedDict, total=False):
    """Keywords that `defn.run` passes on only if they say something: a stand-in client needn't know them."""

    priority: int
    run_timeout_ms: float | str
    durability: Durability


def _limits(options: DefineWorkflowOptions, priority: int | None, run_timeout_ms: float | str | None) -> _Limits:
    limits: _Limits = {}
    if priority is not None:
        limits["priority"] = priority
    elif options.priority:
        limits["priority"] = options.priority
    if run_timeout_ms is None:
        run_timeout_ms = options.timeout_ms
    if run_timeout_ms is not None:
        limits["run_timeout_ms"] = run_timeout_ms
    if options.durability is not None:
        limits["durability"] = options.durability
    return limits


AnyWorkflow: TypeAlias = WorkflowDefinition[Any, Any]  # reason: a registry holds workflows of all input types
"""A workflow definition whose types do not matter."""


async def validate_input_with_schema(schema: object, input: object) -> object:
    """Make an instance of a schema from an input.

    Args:
        schema: a class with `model_validate`, such as a pydantic model.
        input: what to validate.

    Returns:
        What `schema.model_validate(input)` returns.

    Raises:
        InputValidationError: it raised, or the schema has no such method; `issues` is the original exception.
    """
    try:
        validate: Callable[[object], object] = getattr(schema, "model_validate")  # noqa: B009 - typed as object
        return validate(input)
    except InputValidationError:
        raise
    except Exception as exc:
        raise InputValidationError(issues=exc) from exc


def compute_debounce(definition: AnyWorkflow, input: object) -> ResolvedDebounce | None:
    """The debounce of one call of a workflow.

    Args:
        definition: the workflow.
        input: the call's input, validated if the workflow has a schema; the key is computed from it.

    Returns:
        The key and the times; None if the workflow is not debounced.

    Raises:
        ValueError: the key is not a string, or is blank, or a time is none.
        Exception: whatever the key function raises.
    """
    options = definition.options.debounce
    if options is None:
        return None
    times = debounce_times(options)
    key: object = options.key(input)
    if not isinstance(key, str):
        raise ValueError(f"debounce.key must return a string, got {type(key).__name__}")
    return ResolvedDebounce(check_key(key, what="debounce.key"), times.period_ms, times.timeout_ms)


def _plain_input(value: object) -> object:
    """The input as JSON types, if it is a pydantic model; else as it is."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else value


class _Options(TypedDict, total=False):
    """The keywords of `define_workflow` and `workflow`, for type checkers."""

    queue: str
    max_concurrency: int | None
    max_attempts: int | None
    cron: CronTrigger | Sequence[CronTrigger] | None
    event: EventTrigger | Sequence[EventTrigger] | None
    debounce: WorkflowDebounceOptions | None
    mutex: KeyFunction | None
    rate_limit: WorkflowRateLimitOptions | None
    retries: WorkflowRetryPolicy | None
    throttle: WorkflowRateLimitOptions | None
    on_failure: FailureHook | None
    registry: WorkflowRegistry | None
    priority: int
    timeout_ms: float | str | None
    durability: Durability | None


@overload
def define_workflow(
    name: str,
    *,
    handler: AsyncHandler[InputT, OutputT],
    input_schema: type[InputT] | None = None,
    **options: Unpack[_Options],
) -> WorkflowDefinition[InputT, OutputT]: ...


@overload
def define_workflow(
    name: str,
    *,
    handler: BlockingHandler[InputT, OutputT],
    input_schema: type[InputT] | None = None,
    **options: Unpack[_Options],
) -> WorkflowDefinition[InputT, OutputT]: ...


def define_workflow(
    name: str,
    *,
    handler: Handler[InputT, OutputT],
    queue: str = DEFAULT_QUEUE,
    max_concurrency: int | None = None,
    max_attempts: int | None = None,
    cron: CronTrigger | Sequence[CronTrigger] | None = None,
    event: EventTrigger | Sequence[EventTrigger] | None = None,
    debounce: WorkflowDebounceOptions | None = None,
    mutex: KeyFunction | None = None,
    rate_limit: WorkflowRateLimitOptions | None = None,
    retries: WorkflowRetryPolicy | None = None,
    throttle: WorkflowRateLimitOptions | None = None,
    on_failure: FailureHook | None = None,
    input_schema: type[InputT] | None = None,
    registry: WorkflowRegistry | None = None,
    priority: int = 0,
    timeout_ms: float | str | None = None,
    durability: Durability | None = None,
) -> WorkflowDefinition[InputT, OutputT]:
    """Define a workflow and register it. A name that is defined again gets the newer definition.

    Args:
        name: at most 255 bytes of UTF-8 without control characters.
        handler: `async def f(ctx: WorkflowHandlerContext[In]) -> Out`, or a plain function that takes a
            BlockingWorkflowHandlerContext and runs in a thread.
        queue: the queue its runs wait in.
        max_concurrency: how many runs of it may run at once, over all workers; None is no limit.
        max_attempts: how often a run is tried, the first time included; None is 3.
        cron: one or more times to start runs at.
        event: one or more events to start runs for.
        debounce: merges calls that follow each other closely into one run.
        mutex: computes a key from the input; of all workflows' runs with the same key one runs at a time.
        rate_limit: at most so many runs per key and period; those above it fail.
        retries: how failed attempts are retried; its max_attempts beats the other.
        throttle: at most so many starts per key and period; those above it wait.
        on_failure: called once when a run has failed for good, at least once over crashes.
        input_schema: a pydantic model, or another class with `model_validate`; inputs become instances of it.
        registry: where to register it; None is the default registry.
        priority: of its runs, -100 to 100: of the ready runs of a queue those with a higher one start first.
        timeout_ms: how long a run may take from its first start to its end, ms or a duration text; then it fails with
            kind `timeout`. Retries, sleeps and waits count; None is no limit.
        durability: how safe its runs and their steps must be before redflow goes on; None is that of the client for
            its runs, and NONE for their steps.

    Returns:
        The definition, to start runs of it with `run`.

    Raises:
        ValueError: an option that cannot work; names the field, what is allowed and what it got.
    """
    check_handler(handler)
    options = DefineWorkflowOptions(
        name=name,
        queue=queue,
        max_concurrency=max_concurrency,
        max_attempts=max_attempts,
        cron=trigger_list(cron, CronTrigger, "cron"),
        event=trigger_list(event, EventTrigger, "event"),
        debounce=debounce,
        on_failure=on_failure,
        mutex=mutex,
        rate_limit=rate_limit,
        retries=retries,
        throttle=throttle,
        input_schema=input_schema,
        priority=priority,
        timeout_ms=timeout_ms,
        durability=durability,
    )
    checked = check_options(options, now_ms=time.time_ns() // 1_000_000)
    definition = WorkflowDefinition(checked, handler)
    (get_default_registry() if registry is None else registry).register(definition)
    return definition


class WorkflowDecorator(Protocol):
    """Turns a handler into a workflow definition."""

    @overload
    def __call__(self, handler: AsyncHandler[InputT, OutputT], /) -> WorkflowDefinition[InputT, OutputT]: ...

    @overload
    def __call__(self, handler: BlockingHandler[InputT, OutputT], /) -> WorkflowDefinition[InputT, OutputT]: ...


class SchemaWorkflowDecorator(Protocol[InputT]):
    """Turns a handler whose input is an instance of the schema into a workflow definition."""

    @overload
    def __call__(self, handler: AsyncHandler[InputT, OutputT], /) -> WorkflowDefinition[InputT, OutputT]: ...

    @overload
    def __call__(self, handler: BlockingHandler[InputT, OutputT], /) -> WorkflowDefinition[InputT, OutputT]: ...


@overload
def workflow(name: str, *, input_schema: None = None, **options: Unpack[_Options]) -> WorkflowDecorator: ...


@overload
def workflow(
    name: str, *, input_schema: type[InputT], **options: Unpack[_Options]
) -> SchemaWorkflowDecorator[InputT]: ...


def workflow(
    name: str,
    *,
    input_schema: type[InputT] | None = None,
    **options: Unpack[_Options],
) -> WorkflowDecorator | SchemaWorkflowDecorator[InputT]:
    """Define a workflow by decorating its handler; takes what `define_workflow` takes, but for the handler.

    Returns:
        A decorator that returns the WorkflowDefinition, not the function.

    Example:
        >>> @workflow("send-invoice", max_concurrency=5)
        ... async def send_invoice(ctx: WorkflowHandlerContext[dict[str, int]]) -> str:
        ...     return await ctx.step.run("send", post_invoice, ctx.input["order"])
    """

    def decorate(handler: Handler[InputT, OutputT]) -> WorkflowDefinition[InputT, OutputT]:
        return define_workflow(name, handler=handler, input_schema=input_schema, **options)

    return decorate
