"""Starts many runs at once; one that can't be started takes no other down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from redflow import telemetry
from redflow._ids import next_run_id
from redflow.debouncing import find_debounce
from redflow.domain.orders import build_order
from redflow.domain.run import RunOrder
from redflow.engine import Engine
from redflow.errors import LimitExceededError
from redflow.registry import WorkflowRegistry
from redflow.types import ResolvedDebounce, WorkflowCall

MOST_CALLS: Final = 1_000
"""The most runs that one call may start."""


async def start_many(
    engine: Engine, app: str | None, calls: Iterable[WorkflowCall], registries: Sequence[WorkflowRegistry | None]
) -> list[str | Exception]:
    """Start a run for each call; its public id, or what was wrong with it, in the order of the calls.

    Args:
        engine: where the runs are kept.
        app: of the client.
        calls: at most MOST_CALLS.
        registries: where debounces are looked up.

    Raises:
        LimitExceededError: there are more calls; nothing was started.
        TypeError: one of them is no WorkflowCall; nothing was started.
    """
    wanted = list(calls)
    if len(wanted) > MOST_CALLS:
        raise LimitExceededError(f"calls: at most {MOST_CALLS} runs may be started at once, got {len(wanted)}")
    for index, call in enumerate(wanted):
        if not isinstance(call, WorkflowCall):
            raise TypeError(f"calls[{index}] must be a WorkflowCall, got {type(call).__name__}")
    results: dict[int, str | Exception] = {}
    plain: dict[int, RunOrder] = {}
    debounced: dict[int, tuple[RunOrder, ResolvedDebounce]] = {}
    for index, call in enumerate(wanted):
        try:
            debounce = await find_debounce(call.workflow, call.input, registries)
            order = _order(call)
        except Exception as exc:  # the caller gets it in the place of a handle
            results[index] = exc
            continue
        if debounce is None:
            plain[index] = order
        else:
            debounced[index] = (order, debounce)
    alone = [engine.start_run(order, app, debounce) for order, debounce in debounced.values()]
    together, *apart = await asyncio.gather(
        engine.start_runs(list(plain.values()), app), *alone, return_exceptions=True
    )
    if isinstance(together, BaseException):
        raise together
    assert isinstance(together, list)
    results.update(zip(plain, together, strict=True))
    for index, alone_answer in zip(debounced, apart, strict=True):
        assert isinstance(alone_answer, (str, Exception))
        results[index] = alone_answer
    answers = [results[index] for index in range(len(wanted))]
    if telemetry.anybody_listens():
        for answer, call in zip(answers, wanted, strict=True):
            if isinstance(answer, str):
                telemetry.emit(telemetry.RUN_CREATED, run_id=answer, workflow=call.workflow)
    return answers


def _order(call: WorkflowCall) -> RunOrder:
    now_ms = int(time.time() * 1000)
    return build_order(
        next_run_id(now_ms),
        call.workflow,
        call.input,
        now_ms=now_ms,
        idempotency_key=call.idempotency_key,
        idempotency_ttl=call.idempotency_ttl,
        run_at=call.run_at,
        parent_run_id=call.parent_run_id,
        priority=call.priority,
        run_timeout_ms=call.run_timeout_ms,
    )
