"""What a workflow's handler gets, and the two sorts of handlers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeGuard, TypeVar

from redflow.types import BlockingStepApi, CancelSignal, RunContext, StepApi

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


@dataclass(slots=True)
class WorkflowHandlerContext(Generic[InputT]):
    """What an `async def` handler gets.

    Attributes:
        input: the run's input; an instance of `input_schema` if the workflow has one.
        run: the run's id, workflow, scoped queue and attempts.
        step: the durable steps.
        signal: set when the run is canceled or its worker must let go of it.
        suspending: whether the run is just being put to sleep; `finally` blocks may want to know.
    """

    input: InputT
    run: RunContext
    step: StepApi
    signal: CancelSignal
    suspending: bool = False


@dataclass(slots=True)
class BlockingWorkflowHandlerContext(Generic[InputT]):
    """What a handler that is a plain function gets: the same, with steps that block its thread."""

    input: InputT
    run: RunContext
    step: BlockingStepApi
    signal: CancelSignal
    suspending: bool = False


AsyncHandler: TypeAlias = Callable[[WorkflowHandlerContext[InputT]], Awaitable[OutputT]]
"""An `async def` handler."""

BlockingHandler: TypeAlias = Callable[[BlockingWorkflowHandlerContext[InputT]], OutputT]
"""A handler that is a plain function; it runs in a thread."""

Handler: TypeAlias = AsyncHandler[InputT, OutputT] | BlockingHandler[InputT, OutputT]
"""Either sort of handler."""


def is_async(handler: Handler[InputT, OutputT]) -> TypeGuard[AsyncHandler[InputT, OutputT]]:
    # A callable object is async if its __call__ is.
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def is_blocking(handler: Handler[InputT, OutputT]) -> TypeGuard[BlockingHandler[InputT, OutputT]]:
    return not is_async(handler)
