"""The debounce of a run that is started by name: from its workflow's definition, where this process has it."""

from __future__ import annotations

from collections.abc import Iterable

from redflow.definitions import compute_debounce, validate_input_with_schema
from redflow.domain.names import check_key
from redflow.domain.options import time_ms
from redflow.errors import InputValidationError
from redflow.registry import WorkflowRegistry
from redflow.types import ResolvedDebounce


async def find_debounce(
    workflow: str, input: object, registries: Iterable[WorkflowRegistry | None]
) -> ResolvedDebounce | None:
    """The debounce of one call, by the first definition of that name.

    Args:
        workflow: its name.
        input: as the caller gave it; the key function gets the validated value.
        registries: where to look, in order.

    Returns:
        None if the workflow is not debounced or not known here, or if the input does not fit its schema: then its
        run fails, and the worker says why.

    Raises:
        ValueError: the key is no key.
        Exception: whatever the key function raises.
    """
    for registry in registries:
        definition = registry.get(workflow) if registry is not None else None
        if definition is None:
            continue
        if definition.options.debounce is None:
            return None
        schema = definition.options.input_schema
        try:
            value = input if schema is None else await validate_input_with_schema(schema, input)
        except InputValidationError:
            return None
        return compute_debounce(definition, value)
    return None


def checked_debounce(debounce: ResolvedDebounce | None) -> ResolvedDebounce | None:
    """A debounce that a caller made by hand, judged like one from a definition.

    Raises:
        ValueError: naming what is wrong with key, period or timeout.
    """
    if debounce is None:
        return None
    if not isinstance(debounce, ResolvedDebounce):
        raise ValueError(f"debounce must be a ResolvedDebounce, got {type(debounce).__name__}")
    period_ms = time_ms(debounce.period_ms, "debounce.period")
    timeout_ms = None if debounce.timeout_ms is None else time_ms(debounce.timeout_ms, "debounce.timeout")
    return ResolvedDebounce(check_key(debounce.key, what="debounce.key"), period_ms, timeout_ms)
