"""The workflows of the chaos tests: every primitive, and each body tells the ledger what it does.

Inputs are objects with a number `n` that no other order has, so that a run is known by its input even when the reply to
its order was lost.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from redflow import (
    CronTrigger,
    EventTrigger,
    NonRetriableError,
    OnFailureContext,
    WorkerHandle,
    WorkflowRegistry,
    define_workflow,
)
from redflow.definitions import WorkflowHandlerContext
from redflow.domain.run import stored_run_id
from redflow.types import WorkflowDebounceOptions, WorkflowRateLimitOptions, WorkflowRetryPolicy
from tests.chaos.facts import (
    DEBOUNCE_PERIOD_MS,
    DEBOUNCE_TIMEOUT_MS,
    EVENT_TIMEOUT_MS,
    LIMITED,
    LONG_S,
    RATE,
    RETRY_DELAY_MS,
    SLEEP_MS,
    THROTTLE,
)
from tests.chaos.ledger import Ledger
from tests.chaos.lists import Lists, TakenError

Context = WorkflowHandlerContext[Any]
APP: Final = "chaos"


class Here:
    """What the bodies of this process know of it."""

    ledger: Ledger
    lists: Lists
    worker: WorkerHandle | None = None


def lease_of(stored: str) -> tuple[int, float]:
    """Fence of the lease under which this worker holds a run, and how long it certainly holds, ms."""
    held = Here.worker._executor.held.get(stored) if Here.worker is not None else None
    return (0, 0.0) if held is None else (held.lease.fence, (held.lease.good_until - time.monotonic()) * 1000)


def body(ctx: Context, step: str, result: object, work_s: float = 0.002) -> Callable[[], Awaitable[object]]:
    """The function of a step: it tells that it began, works, tells that it ended, and gives its result.

    Where `result` is a function, it is called when the work is done.
    """
    stored = stored_run_id(ctx.run.id) or ctx.run.id

    async def function() -> object:
        fence, left_ms = lease_of(stored)
        about = {"run": stored, "step": step, "attempt": ctx.run.attempt, "fence": fence}
        Here.ledger.note("begin", left=min(left_ms, 1e9), **about)
        await asyncio.sleep(work_s)
        given = result() if callable(result) else result
        Here.ledger.note("end", **about)
        return given

    return function


async def plain(ctx: Context) -> object:
    """Three steps, the last two side by side."""
    n = ctx.input["n"]
    first = await ctx.step.run("one", body(ctx, "one", n))
    rest = await asyncio.gather(*(ctx.step.run(name, body(ctx, name, [n, name])) for name in ("two", "three")))
    return [first, *rest]


async def retry(ctx: Context) -> object:
    """Fails once after a step."""
    one = await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))
    if ctx.run.attempt == 1:
        raise ValueError("once")
    return [one, await ctx.step.run("two", body(ctx, "two", ctx.input["n"]))]


async def wide(ctx: Context) -> object:
    """A dozen steps, four at a time."""
    n, results = ctx.input["n"], []
    for row in range(3):
        names = [f"s{4 * row + k}" for k in range(4)]
        results += await asyncio.gather(*(ctx.step.run(name, body(ctx, name, n)) for name in names))
    return results


async def long(ctx: Context) -> object:
    """A step that outlasts its lease."""
    return await ctx.step.run("one", body(ctx, "one", ctx.input["n"], LONG_S))


async def sleep(ctx: Context) -> object:
    """Sleeps between two steps."""
    one = await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))
    await ctx.step.wait_for("nap", SLEEP_MS)
    return [one, await ctx.step.run("two", body(ctx, "two", ctx.input["n"]))]


async def event(ctx: Context) -> object:
    """Waits for an event, whose data is its output."""
    await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))
    got = await ctx.step.wait_for_event(
        "wait", "go", f"k{ctx.input['n']}", ctx.input.get("timeout_ms", EVENT_TIMEOUT_MS)
    )
    Here.ledger.note("woken", run=stored_run_id(ctx.run.id), event=None if got is None else got["id"])
    return None if got is None else [got["id"], got["data"]]


async def parent(ctx: Context) -> object:
    """Two children, side by side; their outputs are its output."""
    n = ctx.input["n"]
    one = await ctx.step.run("one", body(ctx, "one", n))
    kids = await asyncio.gather(*(ctx.step.run_workflow(f"kid{k}", "child", {"n": n, "k": k}) for k in range(2)))
    return [one, kids]


async def child(ctx: Context) -> object:
    """A step."""
    return await ctx.step.run("one", body(ctx, "one", [ctx.input["n"], ctx.input["k"], "x" * 20]))


async def announce(ctx: Context) -> object:
    """Emits an event that two workflows subscribe to."""
    await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))
    return await ctx.step.emit_event("tell", "news", {"n": ctx.input["n"]})


async def subscriber(ctx: Context) -> object:
    """One step."""
    return await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))


async def mutex(ctx: Context) -> object:
    """Two steps in a critical section."""
    stored = stored_run_id(ctx.run.id)
    about = {"run": stored, "key": ctx.input["key"], "fence": lease_of(stored or "")[0]}
    Here.ledger.note("enter", **about)
    try:
        one = await ctx.step.run("one", body(ctx, "one", ctx.input["n"], 0.01))
        return [one, await ctx.step.run("two", body(ctx, "two", ctx.input["n"], 0.01))]
    finally:
        Here.ledger.note("leave", **about)


async def append(ctx: Context) -> object:
    """Read a list and append to it, in two steps of one critical section; the list is the output."""
    key, n, kept = ctx.input["list"], ctx.input["n"], Here.lists
    before = await ctx.step.run("read", body(ctx, "read", lambda: kept.read(key), 0.01))
    assert isinstance(before, list)
    known: list[int] = before

    def add() -> list[int] | str:
        try:
            return kept.append(key, known, n)
        except TakenError as exc:
            return str(exc)

    return await ctx.step.run("append", body(ctx, "append", add, 0.01))


async def gap(ctx: Context) -> object:
    """Steps with foreign waiting in between: a holder that lost its lease must not begin the next."""
    one = await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))
    for _ in range(40):
        await asyncio.sleep(0.005)
    two = await ctx.step.run("two", body(ctx, "two", ctx.input["n"], 0.02))
    return [one, two, await ctx.step.run("three", body(ctx, "three", ctx.input["n"], 0.02))]


async def tree(ctx: Context) -> object:
    """A tree of three levels whose leaves wait for what never comes."""
    level, n = ctx.input.get("level", 0), ctx.input["n"]
    await ctx.step.run("one", body(ctx, "one", n))
    if level == 2:
        return await ctx.step.wait_for_event("never", "never", f"k{n}", EVENT_TIMEOUT_MS)
    kids = (ctx.step.run_workflow(f"kid{k}", "tree", {"n": n, "level": level + 1, "k": k}) for k in range(2 - level))
    return await asyncio.gather(*kids)


async def fails(ctx: Context) -> object:
    """Fails for good after a step."""
    await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))
    raise NonRetriableError("no")


async def poison(ctx: Context) -> object:
    """Takes its process down."""
    await ctx.step.run("one", body(ctx, "one", ctx.input["n"]))

    def deadly() -> None:
        stored = stored_run_id(ctx.run.id) or ""
        Here.ledger.note("begin", run=stored, step="deadly", attempt=ctx.run.attempt, fence=lease_of(stored)[0], left=0)
        Here.ledger.note("fault", fault="poison", pid=os.getpid())
        os._exit(1)

    return await ctx.step.run("deadly", deadly)


async def ticks(ctx: Context) -> object:
    """What cron starts."""
    return await ctx.step.run("one", body(ctx, "one", 0))


async def hook(ctx: OnFailureContext) -> None:
    """Tells that a failure was handled."""
    Here.ledger.note("hook", run=stored_run_id(ctx.run.id), error=str(getattr(ctx.error, "kind", "?")))


Options = Mapping[str, Any]
_PLAIN: Final[Options] = {}
WORKFLOWS: Final[Mapping[str, tuple[Callable[[Context], Awaitable[object]], Options]]] = {
    "plain": (plain, _PLAIN),
    "retry": (retry, {"retries": WorkflowRetryPolicy(delay=RETRY_DELAY_MS)}),
    "wide": (wide, _PLAIN),
    "long": (long, _PLAIN),
    "sleep": (sleep, _PLAIN),
    "event": (event, _PLAIN),
    "parent": (parent, _PLAIN),
    "child": (child, _PLAIN),
    "announce": (announce, _PLAIN),
    "sub-a": (subscriber, {"event": EventTrigger("news")}),
    "sub-b": (subscriber, {"event": EventTrigger("news")}),
    "mutex": (mutex, {"mutex": lambda input: input["key"]}),
    "append": (append, {"mutex": lambda input: input["list"]}),
    "gap": (gap, _PLAIN),
    "tree": (tree, _PLAIN),
    "fails": (fails, {"on_failure": hook}),
    "poison": (poison, {"on_failure": hook}),
    "limited": (subscriber, {"max_concurrency": LIMITED}),
    "throttled": (subscriber, {"throttle": WorkflowRateLimitOptions(lambda input: input["key"], *THROTTLE)}),
    "rated": (subscriber, {"rate_limit": WorkflowRateLimitOptions(lambda input: input["key"], *RATE)}),
    "debounced": (
        subscriber,
        {
            "debounce": WorkflowDebounceOptions(
                lambda input: input["key"], DEBOUNCE_PERIOD_MS, DEBOUNCE_TIMEOUT_MS
            )
        },
    ),
    "ticks": (ticks, {"cron": [CronTrigger("*/1 * * * * *", timezone="UTC", id="each-second")]}),
}  # fmt: skip
"""By name: the handler, and the options it is defined with."""


def define_all(names: list[str], registry: WorkflowRegistry) -> WorkflowRegistry:
    """Define some of the workflows; all if none is named. Cron starts by itself, so it has to be named."""
    for name in names or [name for name in WORKFLOWS if name != "ticks"]:
        handler, options = WORKFLOWS[name]
        define_workflow(name, handler=handler, registry=registry, **options)
    return registry
