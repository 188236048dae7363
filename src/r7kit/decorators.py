"""@taskflow and @activity.

Neither needs an engine: what an engine makes of a class or a function (a Temporal workflow, say) is made by
`r7kit.runtimes` when that engine can be imported.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar, overload

from r7kit import config
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.registry import ACTIVITY_MARK, FLOW_MARK, handle_hints, handle_signature, register
from r7kit.runtime import ActivityDefinition, FlowDefinition
from r7kit.runtimes import adopt_activity, adopt_flow
from redflow.domain.names import check_name

C = TypeVar("C", bound=type)
P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["activity", "taskflow"]


@overload
def taskflow(queue: C) -> C: ...
@overload
def taskflow(queue: str | None = None) -> Callable[[C], C]: ...
def taskflow(queue: C | str | None = None) -> C | Callable[[C], C]:
    """Make a class a task flow of the class's name.

    The class derives from BaseTaskWorkflow and has `async def handle(self, ...)`. With temporalio installed it is a
    real Temporal workflow as well, with the hints of handle(): signals, queries and updates on it work.

    Args:
        queue: it runs on; None: `<class name lower>-queue`.

    Raises:
        TypeError: not on such a class, or hints of handle() can't be resolved.
        ValueError: a blank queue.

    Example:
        >>> @taskflow(queue="producer-queue")
        ... class MyFlow(BaseTaskWorkflow):
        ...     async def handle(self) -> int:
        ...         return 42
    """
    if isinstance(queue, type):
        return _define(queue, None)
    if queue is not None:
        if not isinstance(queue, str):
            raise TypeError(f"@taskflow goes on a class, got {type(queue).__name__}")
        check_name(queue, what="queue")
    name = queue

    def decorate(cls: C) -> C:
        return _define(cls, name)

    return decorate


def _define(cls: C, queue: str | None) -> C:
    if not isinstance(cls, type):
        raise TypeError(f"@taskflow goes on a class, got {type(cls).__name__}")
    if not issubclass(cls, BaseTaskWorkflow):
        raise TypeError(f"@taskflow: {cls.__qualname__} must derive from BaseTaskWorkflow")
    handle = inspect.getattr_static(cls, "handle")
    if handle is BaseTaskWorkflow.__dict__["handle"] or not inspect.iscoroutinefunction(handle):
        raise TypeError(f"@taskflow: {cls.__qualname__} must have `async def handle(self, ...)`")
    if "run" in vars(cls):
        raise TypeError(f"@taskflow: {cls.__qualname__}.run is made from handle(); call yours something else")
    parameters = handle_signature(cls).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise TypeError(f"{cls.__qualname__}.handle: {parameter.name} is keyword-only; arguments go by position")
    hints = handle_hints(cls, handle)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    definition = FlowDefinition(
        name=check_name(cls.__name__, what="flow name"),
        cls=cls,
        queue=queue,
        argument_types=tuple(hints.get(p.name, object) for p in positional),
        result_type=hints.get("return"),
    )
    setattr(cls, FLOW_MARK, definition)
    adopt_flow(definition)
    if not config.is_frozen():  # a workflow sandbox's copies are not this process's flows
        register(definition)
    return cls


@overload
def activity(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def activity(*, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def activity(
    fn: Callable[P, R] | None = None, /, *, name: str | None = None
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function an activity, to be called by name with `r7kit.tasks.act` in a flow. With or without parentheses.

    Plain functions run in threads of the worker. The function itself stays as it is and can be called directly.

    Args:
        fn: the function.
        name: of the activity; None: the function's name.

    Raises:
        TypeError: not on a function.

    Example:
        >>> @activity
        ... def charge(amount: int) -> str:
        ...     return "receipt"
    """

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        if not inspect.isfunction(fn):
            raise TypeError(f"@activity goes on a function, got {type(fn).__name__}")
        definition = ActivityDefinition(check_name(name or fn.__name__, what="activity name"), fn)
        setattr(fn, ACTIVITY_MARK, definition)
        if "temporalio" in sys.modules:  # else the worker does it, when it has loaded it
            adopt_activity(definition)
        return fn

    return decorate if fn is None else decorate(fn)
