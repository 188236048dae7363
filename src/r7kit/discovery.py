"""What a package contains: its flows, its activities, and whatever else is defined in its modules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TypeAlias

from r7kit.registry import activity_of, definition_of
from r7kit.runtime import ActivityDefinition, FlowDefinition

Named: TypeAlias = type | Callable[..., object]

_state = threading.local()


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found.

    Attributes:
        flows: classes under @taskflow.
        activities: functions under @activity.
        members: every other class and function that is defined in these modules.
    """

    flows: tuple[FlowDefinition, ...]
    activities: tuple[ActivityDefinition, ...]
    members: tuple[object, ...]


def discovering() -> bool:
    """Whether this thread is importing a package for a worker right now."""
    return bool(getattr(_state, "active", False))


def discover(package: str) -> Contents:
    """Import a package or module and everything in it, and say what it contains.

    What a module merely imports from elsewhere does not count, nor does a subclass of a flow that has no @taskflow of
    its own. `__main__` modules are left out. A worker that a module starts while it is imported here is not started.

    Args:
        package: its dotted name.

    Raises:
        ImportError: it, or something in it, can't be imported; the message names the module.
        ValueError: two flows or two activities have the same name.
        RuntimeError: it is called by what it imports.
    """
    if discovering():
        raise RuntimeError(f"discover({package!r}) inside of another discover")
    _state.active = True
    try:
        modules = list(_modules(package))
    finally:
        _state.active = False
    return contents_of(modules)


def contents_of(modules: Iterable[ModuleType]) -> Contents:
    """What these modules contain.

    Raises:
        ValueError: two flows or two activities have the same name.
    """
    flows: dict[str, FlowDefinition] = {}
    activities: dict[str, ActivityDefinition] = {}
    members: dict[int, object] = {}
    for module in modules:
        for member in list(vars(module).values()):
            if getattr(member, "__module__", None) != module.__name__:
                continue
            if (flow := definition_of(member)) is not None:
                known = flows.setdefault(flow.name, flow)
                _check_same("flows", flow.name, known.cls, flow.cls)
            elif (found := activity_of(member)) is not None:
                same = activities.setdefault(found.name, found)
                _check_same("activities", found.name, same.fn, found.fn)
            elif isinstance(member, type) or inspect.isfunction(member):
                members[id(member)] = member
    return Contents(tuple(flows.values()), tuple(activities.values()), tuple(members.values()))


def _check_same(kind: str, name: str, one: Named, other: Named) -> None:
    if one is not other:
        places = f"{one.__module__}.{one.__qualname__} and {other.__module__}.{other.__qualname__}"
        raise ValueError(f"two {kind} are called {name!r}: {places}")


def _modules(package: str) -> Iterator[ModuleType]:
    root = _import(package)
    yield root
    for found in pkgutil.walk_packages(getattr(root, "__path__", ()), f"{package}.", onerror=_failed):
        if found.name.rpartition(".")[2] != "__main__":
            yield _import(found.name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            raise ImportError(f"the worker's package can't be imported: there is no module {exc.name!r}") from exc
        raise ImportError(f"the worker can't import {name}: {exc}") from exc
    except Exception as exc:
        raise ImportError(f"the worker can't import {name}: {type(exc).__name__}: {exc}") from exc


def _failed(name: str) -> None:
    # walk_packages imports packages by itself and would pass over one that fails.
    raise ImportError(f"the worker can't import {name}") from sys.exc_info()[1]
