"""The engines that run flows, chosen by name and imported when they are first needed.

An engine is a module with two functions, which connect to nothing by themselves:

    def open_engine(settings: Settings) -> FlowEngine
    def open_server(settings: Settings) -> FlowServer
"""

from __future__ import annotations

import importlib
from typing import Final, Protocol

from r7kit.config import Settings
from r7kit.runtime import ActivityDefinition, FlowDefinition, FlowEngine, FlowServer

_MODULES: Final = {"temporal": "r7kit.runtimes.temporal", "redflow": "r7kit.runtimes.redflow"}


class EngineModule(Protocol):
    """What such a module has."""

    def open_engine(self, settings: Settings) -> FlowEngine:
        """The client side, for the running event loop."""
        ...

    def open_server(self, settings: Settings) -> FlowServer:
        """The worker side."""
        ...


def engine_module(name: str) -> EngineModule:
    """The engine of that name.

    Raises:
        ValueError: there is none of that name.
        ImportError: it needs an extra that is not installed; the message says which.
    """
    module = _MODULES.get(name)
    if module is None:
        raise ValueError(f"engine must be one of {', '.join(_MODULES)}, got {name!r}")
    found: EngineModule = importlib.import_module(module)
    return found


class TemporalAttribute:
    """An attribute that makes a flow's class a Temporal workflow when Temporal first asks for it.

    So `@taskflow` needs no temporalio, and the workflow sandbox, which imports a flow's module anew for every flow that
    it runs, makes only the one that it needs.

    Args:
        definition: the flow.
        name: of the attribute.
    """

    def __init__(self, definition: FlowDefinition, name: str) -> None:
        self._definition = definition
        self._name = name

    def __get__(self, instance: object, owner: type) -> object:
        """What stands there afterwards, on the flow's own class."""
        from r7kit.runtimes.temporal.definition import define_workflow

        define_workflow(self._definition)
        return vars(self._definition.cls)[self._name]


def adopt_flow(definition: FlowDefinition) -> None:
    """Let a flow's class become a Temporal workflow as well, once it is used as one."""
    for name in ("run", "__temporal_workflow_definition"):
        setattr(definition.cls, name, TemporalAttribute(definition, name))


def adopt_activity(definition: ActivityDefinition) -> None:
    """Make an activity's function a Temporal activity as well."""
    from r7kit.runtimes.temporal.definition import define_activity

    define_activity(definition)
