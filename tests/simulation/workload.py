"""The workflows of the simulation: each primitive, with an output that its input alone decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from redflow import CronTrigger, EventTrigger, NonRetriableError, WorkflowRegistry, define_workflow
from redflow.definitions import WorkflowHandlerContext
from redflow.domain.run import stored_run_id
from redflow.types import WorkflowRateLimitOptions, WorkflowRetryPolicy

Context = WorkflowHandlerContext[Any]
APP: Final = "sim"
Body = Callable[[], Awaitable[object]]


Handler = Callable[["Workload", Context], Awaitable[object]]


class Witness(Protocol):
    """Who is told what handlers do."""

    def body_began(self, run: str, step: str) -> None:
        """A step's function is called."""

    def body_ended(self, run: str, step: str) -> None:
        """It has returned."""


class Workload:
    """The workflows of one world.

    Args:
        witness: told what handlers do.
        names: those that are started.
    """

    def __init__(self, witness: Witness, names: Iterable[str]) -> None:
        self._witness = witness
        self._names = sorted({*names, *(other for name in names for other in NEEDS.get(name, ()))})

    def registry(self) -> WorkflowRegistry:
        """A registry with all of them: each worker has its own."""
        registry = WorkflowRegistry()
        for name in self._names:
            handler, options = WORKFLOWS[name]
            define_workflow(name, handler=self._bound(handler), registry=registry, **options)
        return registry

    def _bound(
        self, handler: Callable[[Workload, Context], Awaitable[object]]
    ) -> Callable[[Context], Awaitable[object]]:
        async def bound(ctx: Context) -> object:
            return await handler(self, ctx)

        return bound

    def body(self, ctx: Context, step: str, result: object) -> Body:
        """The function of a step."""
        stored = stored_run_id(ctx.run.id) or ctx.run.id
        work_s = ctx.input.get("work", 2) / 1000

        async def function() -> object:
            self._witness.body_began(stored, step)
            await asyncio.sleep(work_s)
            self._witness.body_ended(stored, step)
            return result

        return function

    async def step(self, ctx: Context, step: str, result: object) -> object:
        """Run a step."""
        return await ctx.step.run(step, self.body(ctx, step, result))


async def plain(load: Workload, ctx: Context) -> object:
    """Three steps, the last two side by side."""
    n = ctx.input["n"]
    first = await load.step(ctx, "one", n)
    return [first, *await asyncio.gather(*(load.step(ctx, name, [n, name]) for name in ("two", "three")))]


async def retry(load: Workload, ctx: Context) -> object:
    """Fails once after a step."""
    one = await load.step(ctx, "one", ctx.input["n"])
    if ctx.run.attempt == 1:
        raise ValueError("once")
    return [one, await load.step(ctx, "two", ctx.input["n"])]


async def sleep(load: Workload, ctx: Context) -> object:
    """Sleeps between two steps."""
    one = await load.step(ctx, "one", ctx.input["n"])
    await ctx.step.wait_for("nap", ctx.input["nap"])
    return [one, await load.step(ctx, "two", ctx.input["n"])]


async def fails(load: Workload, ctx: Context) -> object:
    """Fails for good after a step."""
    await load.step(ctx, "one", ctx.input["n"])
    raise NonRetriableError("no")


async def single(load: Workload, ctx: Context) -> object:
    """One step."""
    return await load.step(ctx, "one", ctx.input["n"])


async def mutex(load: Workload, ctx: Context) -> object:
    """Two steps in a critical section."""
    one = await load.step(ctx, "one", ctx.input["n"])
    return [one, await load.step(ctx, "two", ctx.input["n"])]


async def event(load: Workload, ctx: Context) -> object:
    """Waits for an event, whose data is its output."""
    await load.step(ctx, "one", ctx.input["n"])
    got = await ctx.step.wait_for_event("wait", "go", f"k{ctx.input['key']}", ctx.input["patience"])
    return None if got is None else got["data"]


async def parent(load: Workload, ctx: Context) -> object:
    """Two children, side by side; their outputs are its output."""
    n = ctx.input["n"]
    kids = (ctx.step.run_workflow(f"kid{k}", "single", {"n": [n, k]}) for k in range(2))
    return [await load.step(ctx, "one", n), await asyncio.gather(*kids)]


async def tree(load: Workload, ctx: Context) -> object:
    """A tree whose leaves sleep for long: it is there to be canceled."""
    level, n = ctx.input.get("level", 0), ctx.input["n"]
    await load.step(ctx, "one", n)
    if level == 2:
        await ctx.step.wait_for("long", 20_000)
        return n
    kids = (ctx.step.run_workflow(f"kid{k}", "tree", {"n": n, "level": level + 1}) for k in range(2 - level))
    return await asyncio.gather(*kids)


async def announce(load: Workload, ctx: Context) -> object:
    """Emits an event that two workflows subscribe to."""
    await load.step(ctx, "one", ctx.input["n"])
    await ctx.step.emit_event("tell", "news", {"n": ctx.input["n"]})
    return ctx.input["n"]


async def ticks(load: Workload, ctx: Context) -> object:
    """What cron starts."""
    return await load.step(ctx, "one", 0)


async def hook(_ctx: object) -> None:
    """An on_failure that has nothing to do."""
    await asyncio.sleep(0.001)


Options = Mapping[str, Any]
_KEYED: Final = WorkflowRateLimitOptions(lambda input: f"t{input['key']}", 2, 700)
WORKFLOWS: Final[Mapping[str, tuple[Handler, Options]]] = {
    "plain": (plain, {}),
    "retry": (retry, {"retries": WorkflowRetryPolicy(delay=25)}),
    "backoff": (retry, {}),
    "sleep": (sleep, {}),
    "fails": (fails, {}),
    "hooked": (fails, {"on_failure": hook}),
    "single": (single, {}),
    "limited": (single, {"max_concurrency": 2}),
    "mutex": (mutex, {"mutex": lambda input: f"m{input['key']}"}),
    "throttled": (single, {"throttle": _KEYED}),
    "rated": (single, {"rate_limit": _KEYED}),
    "gated": (mutex, {"mutex": lambda input: f"m{input['key']}", "throttle": _KEYED, "max_concurrency": 3}),
    "event": (event, {}),
    "parent": (parent, {}),
    "tree": (tree, {}),
    "announce": (announce, {}),
    "sub-a": (single, {"event": EventTrigger("news")}),
    "sub-b": (single, {"event": EventTrigger("news")}),
    "ticks": (ticks, {"cron": [CronTrigger("*/2 * * * * *", timezone="UTC", id="each-other-second")]}),
}
"""By name: the handler, and the options it is defined with."""
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {"parent": ("single",), "announce": ("sub-a", "sub-b")}
"""The workflows whose runs another one starts."""


def output_of(workflow: str, given: Mapping[str, Any]) -> object:
    """What a run that succeeds has to give; `...` where that depends on more than its input."""
    n = given["n"]
    match workflow:
        case "plain":
            return [n, [n, "two"], [n, "three"]]
        case "retry" | "backoff" | "sleep" | "mutex" | "gated":
            return [n, n]
        case "single" | "limited" | "throttled" | "rated" | "announce" | "sub-a" | "sub-b":
            return n
        case "parent":
            return [n, [[n, 0], [n, 1]]]
        case "fails" | "hooked":
            return "never"
        case _:
            return ...
