"""What Temporal makes of a class under @taskflow and of a function under @activity."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from typing import TYPE_CHECKING, Final

from temporalio import activity, workflow

from r7kit import config
from r7kit.registry import handle_hints
from r7kit.runtime import ActivityDefinition, FlowDefinition, add_finder
from r7kit.runtimes import TemporalAttribute
from r7kit.runtimes.temporal.flow import TemporalRuntime, find_flow
from redflow.types import JsonData

if TYPE_CHECKING:
    from collections.abc import Callable

    from r7kit.base_task_workflow import BaseTaskWorkflow

# A sandbox imports the user's modules anew for every flow; what `configure` says there is the worker's to decide.
config.ignore_where(workflow.unsafe.in_sandbox)
add_finder(find_flow)


_SIGNATURE: Final = "__signature__"
_RUN: Final = "run"
_DEFINITION: Final = "__temporal_workflow_definition"


class UserError(Exception, metaclass=ABCMeta):
    """Every exception that fails a flow: all but a flow that does not fit its history any more.

    That one is a fault of a deployment, not of the flow: Temporal keeps the flow and tries again, until code that fits
    is there.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        """Whether exceptions of that class fail the flow."""
        return issubclass(subclass, Exception) and not issubclass(subclass, workflow.NondeterminismError)


def define_workflow(definition: FlowDefinition) -> None:
    """Make the class a Temporal workflow of its name, with a `run` that has handle()'s parameters and hints.

    `run` is made on each class: Temporal does not take an inherited one.
    """
    cls = definition.cls
    if not isinstance(vars(cls).get(_RUN), TemporalAttribute):
        return
    delattr(cls, _RUN)
    delattr(cls, _DEFINITION)
    handle = inspect.getattr_static(cls, "handle")

    async def run(self: BaseTaskWorkflow, *args: object) -> object:
        return await TemporalRuntime.current().run(self, args)

    run.__module__ = cls.__module__
    run.__qualname__ = f"{cls.__name__}.run"
    run.__doc__ = handle.__doc__
    run.__annotations__ = handle_hints(cls, handle)
    setattr(run, _SIGNATURE, _as_run(inspect.signature(handle)))
    setattr(cls, _RUN, workflow.run(run))
    # A class inside a function can't be imported by the sandbox.
    sandboxed = "<locals>" not in cls.__qualname__
    workflow.defn(name=definition.name, sandboxed=sandboxed, failure_exception_types=[UserError])(cls)


def define_activity(definition: ActivityDefinition) -> None:
    """Make the function a Temporal activity of its name."""
    if not is_activity(definition.fn):
        activity.defn(name=definition.name)(definition.fn)


def workflow_definition(cls: object) -> JsonData:
    """Temporal's definition of a class, if it is its own; else None."""
    found = getattr(cls, _DEFINITION, None)
    return found if found is not None and found.cls is cls else None


def is_activity(fn: Callable[..., object]) -> bool:
    """Whether a function is a Temporal activity."""
    return hasattr(fn, "__temporal_activity_definition")


def _as_run(signature: inspect.Signature) -> inspect.Signature:
    """handle()'s signature as Temporal reads it: the first parameter is called self and has no hint."""
    first, *others = signature.parameters.values()
    return signature.replace(parameters=[first.replace(name="self", annotation=inspect.Parameter.empty), *others])
