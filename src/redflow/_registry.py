"""The name -> definition store. Apart from `registry`, whose other names come from modules above this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redflow.definitions import AnyWorkflow


class WorkflowRegistry:
    """The workflows a program knows, by name. A name registered again gets the newer definition."""

    # No __len__: an empty registry must never be taken for none in `registry or default`.
    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: dict[str, AnyWorkflow] = {}

    def register(self, definition: AnyWorkflow) -> None:
        """Add a definition, replacing the one of the same name if there is one."""
        self._by_name[definition.name] = definition

    def get(self, name: str) -> AnyWorkflow | None:
        """The definition of that name; None if there is none."""
        return self._by_name.get(name)

    def list(self) -> list[AnyWorkflow]:
        """All definitions, in the order their names were first registered."""
        return [*self._by_name.values()]

    def clear(self) -> None:
        """Forget all definitions."""
        self._by_name.clear()


_default_registry = WorkflowRegistry()


def get_default_registry() -> WorkflowRegistry:
    """The registry where workflows go that name no other; one for the whole process."""
    return _default_registry


def __unstable_reset_default_registry_for_tests() -> None:
    """Empty the default registry in place. For tests only: the name may change."""
    _default_registry.clear()
