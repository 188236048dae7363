"""What stands in the runs of task flows: their inputs, and values on their way between JSON and declared types."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from r7kit.operations import check_task_id
from r7kit.runtime import NewTask, RetryPolicy
from r7kit.serializer import to_json
from redflow.types import JsonData, JsonValue

APP: Final = "r7kit"
"""The redflow app of all task flows: their queues are `r7kit:<queue>`."""

ACTIVITY_PREFIX: Final = "activity/"
"""What the name of an activity is preceded by where it runs as a run of its own, on another queue."""

UNLIMITED_ATTEMPTS: Final = 1_000_000
"""What `maximum_attempts: 0` is for redflow, whose number of attempts is bounded."""


@dataclass(frozen=True, slots=True)
class FlowInput:
    """The input of a flow's run.

    Attributes:
        task_id: uuid of its task.
        op: operation id of its start.
        args: of handle(), JSON.
        status: first status of its task, where it has one of its own.
        payload: first payload of its task; None: it shares its parent's, or the payload was too large to travel.
        shares_task: whether the task is its parent's.
        retry: of the flow; None: one attempt.
        memo: what the user gave.
    """

    task_id: str
    op: str
    args: list[JsonData]
    status: str = "new"
    payload: dict[str, JsonData] | None = None
    shares_task: bool = False
    retry: RetryPolicy | None = None
    memo: Mapping[str, JsonData] | None = None


_INPUT: Final = TypeAdapter(FlowInput)


def new_input(
    args: Sequence[object],
    *,
    task_id: str,
    op: str,
    own: NewTask | None,
    retry: RetryPolicy | None,
    memo: Mapping[str, object] | None = None,
) -> JsonValue:
    """The input of a run, as JSON.

    Raises:
        TypeError, ValueError: an argument is no JSON; the path is named.
    """
    flow_input = FlowInput(
        task_id,
        op,
        [to_json(arg, what=f"argument {number}") for number, arg in enumerate(args, 1)],
        status=own.status if own is not None else "new",
        payload=own.carried if own is not None else None,
        shares_task=own is None,
        retry=retry,
        memo=None if not memo else {name: to_json(value, what=f"memo {name!r}") for name, value in memo.items()},
    )
    return to_json(flow_input, what="input")


def read_input(stored: object, run_id: str) -> FlowInput:
    """The input of a run. One that redflow's own clients started may be anything: that makes an empty task.

    Args:
        stored: the run's input.
        run_id: the uuid of the task where the input names none.

    Raises:
        ValueError: it looks like ours but is not.
    """
    if isinstance(stored, dict) and isinstance(stored.get("task_id"), str) and isinstance(stored.get("op"), str):
        told = _INPUT.validate_python(stored)
        check_task_id(told.task_id)
        return told
    args = stored if isinstance(stored, list) else [] if stored is None or stored == {} else [stored]
    return FlowInput(run_id, f"start:{run_id}", args, payload={})


def hints_of(fn: Callable[..., object]) -> list[object]:
    """The declared types of a function's positional parameters, `object` where there is none."""
    hints = typing.get_type_hints(fn, include_extras=True)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [hints.get(p.name, object) for p in inspect.signature(fn).parameters.values() if p.kind in kinds]


def attempts(retry: RetryPolicy | None) -> int:
    """How often redflow is to try a flow."""
    if retry is None:
        return 1
    return retry.maximum_attempts or UNLIMITED_ATTEMPTS


def retry_delay_ms(retry: RetryPolicy | None, attempt: int) -> int:
    """The pause after a failed attempt, ms.

    Args:
        retry: of the flow.
        attempt: the one that failed, from 1.
    """
    policy = retry or RetryPolicy()
    longest = 100 * policy.initial_interval if policy.maximum_interval is None else policy.maximum_interval
    try:
        delay = policy.initial_interval * policy.backoff ** (attempt - 1)
    except OverflowError:
        delay = longest
    return int(min(delay, longest) * 1000)
