"""Starts many runs at once; one that can't be started takes no other down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from redflow import telemetry
from redflow._ids import next_run_id
from redflow.debouncing import find_debounce
from redflow.domain.orders import build_order
from redflow.domain.run import RunOrder
from redflow.engine import Engine
from redflow.errors import LimitExceededError
from redflow.registry import WorkflowRegistry
from redflow.types import Durability, ResolvedDebounce, WorkflowCall

MOST_CALLS: Final = 1_000
"""The most runs that one call may start."""

_PORTION: Final = 100
"""So many orders leave together: the server works on them while the next ones are made."""


async def start_many(
    engine: Engine,
    app: str | None,
    calls: Iterable[WorkflowCall],
    registries: Sequence[WorkflowRegistry | None],
    durability_of: Callable[[str], Durability],
) -> list[str | Exception]:
    """Start a run for each call; its public id, or what was wrong with it, in the order of the calls.

    Args:
        engine: where the runs are kept.
        app: of the client.
        calls: at most MOST_CALLS.
        registries: where debounces are looked up.
        durability_of: how safe a new run of a workflow must be.

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
    sent: dict[asyncio.Task[list[str | Exception]], list[int]] = {}
    async with asyncio.TaskGroup() as group:
        for first in range(0, len(wanted), _PORTION):
            plain: dict[int, RunOrder] = {}
            for index, call in enumerate(wanted[first : first + _PORTION], first):
                try:
                    debounce = await find_debounce(call.workflow, call.input, registries)
                    order = _order(call, durability_of)
                except Exception as exc:  # the caller gets it in the place of a handle
                    results[index] = exc
                    continue
                if debounce is None:
                    plain[index] = order
                else:
                    sent[group.create_task(_start_debounced(engine, app, order, debounce))] = [index]
            if plain:
                sent[group.create_task(_start(engine, app, list(plain.values())))] = list(plain)
            await asyncio.sleep(0)  # it leaves now
    for task, indexes in sent.items():
        results.update(zip(indexes, task.result(), strict=True))
    answers = [results[index] for index in range(len(wanted))]
    if telemetry.anybody_listens():
        for answer, call in zip(answers, wanted, strict=True):
            if isinstance(answer, str):
                telemetry.emit(telemetry.RUN_CREATED, run_id=answer, workflow=call.workflow)
    return answers


async def _start(engine: Engine, app: str | None, orders: Sequence[RunOrder]) -> list[str | Exception]:
    try:
        return list(await engine.start_runs(orders, app))
    except Exception as exc:
        return [exc for _ in orders]


async def _start_debounced(
    engine: Engine, app: str | None, order: RunOrder, debounce: ResolvedDebounce
) -> list[str | Exception]:
    try:
        return [await engine.start_run(order, app, debounce)]
    except Exception as exc:
        return [exc]


def _order(call: WorkflowCall, durability_of: Callable[[str], Durability]) -> RunOrder:
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
        durability=durability_of(call.workflow),
    )
