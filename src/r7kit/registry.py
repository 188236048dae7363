"""Which flows and activities this process knows, and what a flow given by class, path or name means."""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from r7kit.runtime import ActivityDefinition, FlowDefinition, default_queue
from redflow.domain.names import check_name

FLOW_MARK: Final = "__r7kit_flow__"
ACTIVITY_MARK: Final = "__r7kit_activity__"

FlowLike: TypeAlias = type | str
"""A flow as users give it: a class, a dotted path to one, or the name of its type."""

_flows: dict[str, FlowDefinition] = {}


@dataclass(frozen=True, slots=True)
class FlowTarget:
    """What is to be started.

    Attributes:
        name: of the flow type.
        queue: to run it on.
        result_type: what the result is converted to; None: JSON as it is.
        signature: of handle() without self, to judge arguments by; None: unknown here.
    """

    name: str
    queue: str
    result_type: object | None
    signature: inspect.Signature | None = None


def definition_of(cls: object) -> FlowDefinition | None:
    """The definition of a class that is itself under @taskflow; a subclass of one has none of its own."""
    if not isinstance(cls, type):
        return None
    found = cls.__dict__.get(FLOW_MARK)
    return found if isinstance(found, FlowDefinition) else None


def activity_of(fn: object) -> ActivityDefinition | None:
    """The definition of a function under @activity."""
    found = getattr(fn, ACTIVITY_MARK, None)
    return found if isinstance(found, ActivityDefinition) else None


def register(definition: FlowDefinition) -> None:
    """Remember a flow by its name; a later one of the same name takes its place."""
    _flows[definition.name] = definition


def find_flow(name: str) -> FlowDefinition | None:
    """The flow of that name that was defined last in this process."""
    return _flows.get(name)


def resolve(wf: FlowLike, queue: str | None = None, *, may_import: bool = True) -> FlowTarget:
    """What a flow given by class, dotted path or type name means.

    Args:
        wf: the flow.
        queue: argument > decorator > `<name lower>-queue`.
        may_import: whether a dotted path may be imported; a running flow only looks among what is imported.

    Raises:
        TypeError: a class that is not under @taskflow, or neither a class nor a text.
        ValueError: a blank name or queue, or a path where there is no flow.
    """
    if queue is not None:
        check_name(queue, what="queue")
    definition: FlowDefinition | None
    if isinstance(wf, type):
        definition = definition_of(wf)
        if definition is None:
            raise TypeError(f"{wf.__qualname__} is not a flow of its own: put @taskflow() on the class")
    elif isinstance(wf, str):
        name = check_name(wf, what="flow")
        definition = _by_path(name, may_import=may_import) if "." in name else _by_name(name)
        if definition is None:
            return FlowTarget(name, queue or default_queue(name), None)
    else:
        raise TypeError(f"a flow is given by class, dotted path or type name, got {type(wf).__name__}")
    return FlowTarget(
        definition.name,
        queue or definition.default_queue,
        definition.result_type,
        handle_signature(definition.cls),
    )


def handle_signature(cls: type) -> inspect.Signature:
    """The signature of the class's handle() without self."""
    signature = inspect.signature(inspect.getattr_static(cls, "handle"))
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def handle_hints(cls: type, handle: Callable[..., object]) -> dict[str, object]:
    """The resolved type hints of a class's handle().

    Raises:
        TypeError: one names something that is not there at run time.
    """
    try:
        return dict(typing.get_type_hints(handle, localns={cls.__name__: cls}, include_extras=True))
    except NameError as exc:
        raise TypeError(
            f"{cls.__qualname__}.handle: the type hints can't be resolved: {exc}; arguments and results are converted "
            "to them, so what they name must be imported at run time (not under TYPE_CHECKING) and at module level"
        ) from exc


def _by_name(name: str) -> FlowDefinition | None:
    """The flow of that name, as the modules that are loaded here have it.

    A workflow sandbox has its own copy of the user's modules: the class there, with its types, is the one to use.
    """
    known = _flows.get(name)
    if known is None:
        return None
    module = sys.modules.get(known.cls.__module__)
    return definition_of(getattr(module, known.cls.__name__, None)) or known


def _by_path(path: str, *, may_import: bool) -> FlowDefinition | None:
    """The flow at `package.module.Class`.

    Outside of a running flow it must be there. In one, the last part of a path that is not loaded is the type's name.
    """
    module_name, _, attribute = path.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None and may_import:
        try:
            module = importlib.import_module(module_name)
        except ImportError as exc:
            raise ValueError(f"flow {path!r}: can't import {module_name!r}: {exc}") from exc
    if module is None:
        return _by_name(attribute)
    definition = definition_of(getattr(module, attribute, None))
    if definition is None:
        raise ValueError(f"flow {path!r}: {module_name} has no class {attribute!r} under @taskflow")
    return definition
