"""The workflows of crowds: many subscribers, children, waiters, and runs that stand in each other's way."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from redflow import EventTrigger, WorkflowHandlerContext, WorkflowRegistry, define_workflow
from redflow.types import JsonData, WorkflowRateLimitOptions

MODULE: Final = __name__
REGISTRY: Final = WorkflowRegistry()

FANNED_OUT: Final = "fanned-out"
SUBSCRIBERS: Final = 100
OPENED: Final = "opened"
BLOCKS: Final = ("mutex", "max_concurrency", "throttle")
MUTEX_KEY: Final = "the only one"
_LONG: Final = "1h"

Work = dict[str, float]
"""Input of a one-step run: a number, and how long its step waits as if for another service, ms."""


async def _work(data: Work) -> float:
    if data["ms"]:
        await asyncio.sleep(data["ms"] / 1000)
    return 2 * data["n"]


async def _one_step(ctx: WorkflowHandlerContext[Work]) -> float:
    return await ctx.step.run("work", _work, ctx.input)


async def _parent(ctx: WorkflowHandlerContext[Work]) -> float:
    ended = await asyncio.gather(
        *[ctx.step.run_workflow(f"child {n}", "one", ctx.input | {"n": n}) for n in range(int(ctx.input["n"]))]
    )
    return float(sum(ended))


async def _waiter(ctx: WorkflowHandlerContext[int]) -> JsonData:
    return await ctx.step.wait_for_event("gate", OPENED, "all", _LONG)


async def _hold(ctx: WorkflowHandlerContext[float]) -> list[int]:
    """Stay for some ms; when it came in and when it left, ns of the clock that all processes of the machine share."""
    entered = time.monotonic_ns()
    await asyncio.sleep(ctx.input / 1000)
    return [entered, time.monotonic_ns()]


ONE: Final = define_workflow("one", handler=_one_step, registry=REGISTRY)
PARENT: Final = define_workflow("parent", handler=_parent, registry=REGISTRY)
WAITER: Final = define_workflow("waiter", handler=_waiter, registry=REGISTRY)
EXCLUSIVE: Final = define_workflow("exclusive", handler=_hold, mutex=lambda _: MUTEX_KEY, registry=REGISTRY)

define_workflow("blocked by mutex", handler=_hold, mutex=lambda _: "blocked", registry=REGISTRY)
define_workflow("blocked by max_concurrency", handler=_hold, max_concurrency=1, registry=REGISTRY)
define_workflow(
    "blocked by throttle",
    handler=_hold,
    throttle=WorkflowRateLimitOptions(key=lambda _: "blocked", limit=1, period=_LONG),
    registry=REGISTRY,
)
for _number in range(SUBSCRIBERS):
    define_workflow(f"subscriber {_number:03}", handler=_one_step, event=EventTrigger(FANNED_OUT), registry=REGISTRY)
