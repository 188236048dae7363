"""`ctx.step` for handlers that are plain functions: each call goes to the event loop and blocks the handler's thread.

A wait that puts the run to sleep unwinds the thread by a BaseException: `finally` blocks run, `except Exception`
doesn't see it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import TypeVar

from redflow._step_api import AnyWorkflowLike, StepOutput
from redflow.errors import CanceledError
from redflow.execution.attempt import Attempt
from redflow.types import ReceivedEvent, StepApi, StepRetry, StepWaitForTarget

Item = TypeVar("Item")
T = TypeVar("T")


class HandlerUnwound(BaseException):
    """Ends a handler's thread whose attempt is over: asleep, handed back or lost."""


class BlockingSteps:
    """The step methods of one attempt for its handler's thread. See `redflow.types.BlockingStepApi`."""

    def __init__(self, attempt: Attempt, steps: StepApi) -> None:
        self._attempt = attempt
        self._steps = steps
        self._loop = asyncio.get_running_loop()

    def run(
        self, name: str, fn: Callable[..., object], /, *args: object, timeout_ms: float | None = None, **kwargs: object
    ) -> StepOutput:
        """See `StepApi.run`."""
        return self._wait(lambda: self._steps.run(name, fn, *args, timeout_ms=timeout_ms, **kwargs))

    def map(
        self,
        name: str,
        fn: Callable[[Item], object],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[StepOutput]:
        """See `StepApi.map`."""
        return self._wait(
            lambda: self._steps.map(name, fn, items, concurrency=concurrency, timeout_ms=timeout_ms, retry=retry)
        )

    def wait_for(self, name: str, target: StepWaitForTarget, *, timeout_ms: float | None = None) -> None:
        """See `StepApi.wait_for`."""
        self._wait(lambda: self._steps.wait_for(name, target, timeout_ms=timeout_ms))

    def wait_for_event(
        self, name: str, event_name: str, correlation_key: str, timeout: StepWaitForTarget
    ) -> ReceivedEvent | None:
        """See `StepApi.wait_for_event`."""
        return self._wait(lambda: self._steps.wait_for_event(name, event_name, correlation_key, timeout))

    def run_workflow(
        self,
        name: str,
        workflow: AnyWorkflowLike,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> StepOutput:
        """See `StepApi.run_workflow`."""
        return self._wait(
            lambda: self._steps.run_workflow(
                name,
                workflow,
                input,
                timeout_ms=timeout_ms,
                run_at=run_at,
                queue_override=queue_override,
                priority=priority,
                run_timeout_ms=run_timeout_ms,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
        )

    def emit_workflow(
        self,
        name: str,
        workflow: AnyWorkflowLike,
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
        """See `StepApi.emit_workflow`."""
        return self._wait(
            lambda: self._steps.emit_workflow(
                name,
                workflow,
                input,
                timeout_ms=timeout_ms,
                run_at=run_at,
                queue_override=queue_override,
                priority=priority,
                run_timeout_ms=run_timeout_ms,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
        )

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
        """See `StepApi.emit_event`."""
        return self._wait(
            lambda: self._steps.emit_event(
                name,
                event_name,
                input,
                correlation_key=correlation_key,
                event_id=event_id,
                timeout_ms=timeout_ms,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
        )

    def _wait(self, call: Callable[[], Coroutine[object, object, T]]) -> T:
        attempt = self._attempt

        async def on_loop() -> T:
            attempt.thread_call = asyncio.current_task()
            try:
                return await call()
            finally:
                attempt.thread_call = None

        if attempt.state != "running":
            raise self._over()
        try:
            return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            raise self._over() from None

    def _over(self) -> BaseException:
        """What the thread is ended by, now that the attempt is over."""
        if self._attempt.state == "canceled":
            return CanceledError()
        return HandlerUnwound(f"the attempt is over: {self._attempt.state}")
