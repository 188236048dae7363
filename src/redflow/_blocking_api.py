"""The step methods for handlers that are plain functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar, overload

from redflow._records import ReceivedEvent
from redflow._step_api import StepOutput, StepRetry, StepWaitForTarget, WorkflowLike

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")
Item = TypeVar("Item")
T = TypeVar("T")


class BlockingStepApi(Protocol):
    """The durable steps of a run for plain functions: `ctx.step` in a handler that is no `async def`.

    The methods of `StepApi`, which has the details, blocking the handler's thread instead of being awaited.
    A wait that puts the run to sleep unwinds the thread by a BaseException: `finally` blocks run, `except
    Exception` does not.
    """

    @overload
    def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> T: ...

    @overload
    def run(
        self,
        name: str,
        fn: Callable[..., T],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> T: ...

    def run(
        self,
        name: str,
        fn: Callable[..., object],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> object:
        """Call a function once and keep its result; see `StepApi.run`."""

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]: ...

    @overload
    def map(
        self,
        name: str,
        fn: Callable[[Item], T],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]: ...

    def map(
        self,
        name: str,
        fn: Callable[[Item], Awaitable[T]] | Callable[[Item], T],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]:
        """Call a function for each item and keep each result; see `StepApi.map`."""

    def wait_for(self, name: str, target: StepWaitForTarget, *, timeout_ms: float | None = None) -> None:
        """Sleep durably; see `StepApi.wait_for`."""

    def wait_for_event(
        self, name: str, event_name: str, correlation_key: str, timeout: StepWaitForTarget
    ) -> ReceivedEvent | None:
        """Sleep durably until an event comes; None when it is too late. See `StepApi.wait_for_event`."""

    @overload
    def run_workflow(
        self,
        name: str,
        workflow: WorkflowLike[InputT, OutputT],
        input: InputT | Mapping[str, object],
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> OutputT: ...

    @overload
    def run_workflow(
        self,
        name: str,
        workflow: str,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> StepOutput: ...

    def run_workflow(
        self,
        name: str,
        workflow: str | WorkflowLike[InputT, OutputT],
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> object:
        """Run another workflow and wait for its output; see `StepApi.run_workflow`."""

    @overload
    def emit_workflow(
        self,
        name: str,
        workflow: WorkflowLike[InputT, object],
        input: InputT | Mapping[str, object],
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str: ...

    @overload
    def emit_workflow(
        self,
        name: str,
        workflow: str,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str: ...

    def emit_workflow(
        self,
        name: str,
        workflow: str | WorkflowLike[InputT, object],
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str:
        """Start another workflow and return its run id; see `StepApi.emit_workflow`."""

    def emit_event(
        self,
        name: str,
        event_name: str,
        input: object,
        *,
        correlation_key: str | None = None,
        event_id: str | None = None,
        timeout_ms: float | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> list[str]:
        """Emit an event once and return the ids of the runs it started; see `StepApi.emit_event`."""
