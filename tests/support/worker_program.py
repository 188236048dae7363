"""A worker process for the fault tests. It notes what its functions do in a file, and dies where it is told to.

usage: python -m tests.support.worker_program '{"url": ..., "prefix": ..., "effects": ..., "die_at": ...}'

Each note is one line of the effects file, `<pid> <run id> <what>`, appended with one write: the file outlives the
process and knows nothing of Redis. `die_at` is a place where the process sends itself SIGKILL:

    claim:after                   a claim that brought runs was answered, and nothing was done with it
    record:<step>:before|after    around the write of a step's result
    settle:<outcome>:before|after around the write of an attempt's end
    decide:before|after           around the write of a failure, before on_failure is called
    body:<step>, hook             inside of a step's function, or of on_failure
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from redflow import NonRetriableError, OnFailureContext, StartWorkerOptions, WorkflowRegistry, start_worker, workflow
from redflow.definitions import WorkflowHandlerContext
from redflow.engines.redis.runs import RunScripts
from redflow.types import JsonData, WorkflowRetryPolicy

Context = WorkflowHandlerContext[JsonData]


@dataclass
class Config:
    """What the test asks of this process."""

    url: str
    prefix: str
    effects: str
    lease_ms: int = 400
    concurrency: int = 10
    die_at: str = ""
    app: str = "app"


config = Config(**json.loads(sys.argv[1])) if __name__ == "__main__" else Config("", "", "")
registry = WorkflowRegistry()


def note(run_id: str, what: str) -> None:
    """Append one line to the effects file."""
    file = os.open(config.effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{os.getpid()} {run_id} {what}\n".encode())
    os.close(file)


def reached(point: str) -> None:
    """Die if this is where this process is to die."""
    if point == config.die_at:
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()


def body(ctx: Context, name: str) -> Callable[[], int]:
    """A step's function: notes that it was called and returns the process that did it."""

    def function() -> int:
        note(ctx.run.id, name)
        reached(f"body:{name}")
        return os.getpid()

    return function


@workflow("steps", registry=registry)
async def steps(ctx: Context) -> JsonData:
    """Three steps with a sleep; a retry on demand."""
    note(ctx.run.id, f"attempt-{ctx.run.attempt}")
    one = await ctx.step.run("one", body(ctx, "one"))
    await ctx.step.wait_for("nap", 60)
    two = await ctx.step.run("two", body(ctx, "two"))
    three = await asyncio.gather(*(ctx.step.run(name, body(ctx, name)) for name in ("three", "four")))
    return [one, two, *three]


@workflow("flaky", registry=registry, retries=WorkflowRetryPolicy(delay=30))
async def flaky(ctx: Context) -> JsonData:
    """Fails once after a step."""
    note(ctx.run.id, f"attempt-{ctx.run.attempt}")
    one = await ctx.step.run("one", body(ctx, "one"))
    if ctx.run.attempt == 1:
        raise ValueError("once")
    return one


async def hook(ctx: OnFailureContext) -> None:
    """Notes the failure."""
    note(ctx.run.id, f"hook-{getattr(ctx.error, 'kind', '?')}")
    reached("hook")


@workflow("fails", registry=registry, on_failure=hook)
async def fails(ctx: Context) -> None:
    """Fails for good, with a hook."""
    note(ctx.run.id, f"attempt-{ctx.run.attempt}")
    raise NonRetriableError("no")


@workflow("hangs", registry=registry, on_failure=hook)
async def hangs(ctx: Context) -> None:
    """Never ends by itself; with a time-out it fails, with a hook."""
    note(ctx.run.id, f"attempt-{ctx.run.attempt}")
    await ctx.step.run("one", body(ctx, "one"))
    await asyncio.Event().wait()


@workflow("poison", registry=registry, on_failure=hook)
async def poison(ctx: Context) -> None:
    """Takes its process down."""
    await ctx.step.run("one", body(ctx, "one"))

    def deadly() -> None:
        note(ctx.run.id, "deadly")
        os._exit(1)

    await ctx.step.run("deadly", deadly)


@workflow("gap", registry=registry)
async def gap(ctx: Context) -> JsonData:
    """Steps with a stretch of foreign waiting between them, as long as the input says (seconds)."""
    one = await ctx.step.run("one", body(ctx, "one"))
    for _ in range(int(ctx.input * 200)):
        await asyncio.sleep(0.005)
    return [one, await ctx.step.run("two", body(ctx, "two")), await ctx.step.run("three", body(ctx, "three"))]


@workflow("long", registry=registry, max_attempts=1)
async def long(ctx: Context) -> JsonData:
    """A step that lasts as long as the input says (seconds), and one after it."""

    async def lasting() -> int:
        note(ctx.run.id, "begin")
        await asyncio.sleep(ctx.input)
        note(ctx.run.id, "end")
        return os.getpid()

    return [await ctx.step.run("lasting", lasting), await ctx.step.run("after", body(ctx, "after"))]


@workflow("blocks", registry=registry, max_attempts=1)
async def blocks(ctx: Context) -> JsonData:
    """A step that blocks the event loop: input = {"s": how long, "timeout_ms": of the step or None}."""

    async def blocking() -> int:
        note(ctx.run.id, "begin")
        time.sleep(ctx.input["s"])  # noqa: ASYNC251 - a bad citizen on purpose
        note(ctx.run.id, "end")
        return os.getpid()

    return await ctx.step.run("blocking", blocking, timeout_ms=ctx.input.get("timeout_ms"))


def keep_the_gil(seconds: float) -> None:
    """One call of C that keeps the interpreter to itself for about so long, and no less: no thread gets a turn."""
    length, took = 16, 0.0
    while took < 0.02:
        length += 1
        began = time.perf_counter()
        re.match("(a+)+$", "a" * length + "b")  # each letter doubles it
        took = time.perf_counter() - began
    re.match("(a+)+$", "a" * (length + math.ceil(math.log2(seconds / took))) + "b")


def times_noted(run_id: str, what: str) -> int:
    """How often something was noted of a run, by whatever process."""
    with open(config.effects, encoding="utf-8") as file:
        return sum(line.split(" ", 2)[1:] == [run_id, f"{what}\n"] for line in file)


@workflow("seizes", registry=registry, max_attempts=1)
async def seizes(ctx: Context) -> JsonData:
    """A step that keeps the GIL for as long as the input says (seconds) when it is called first, and one after it."""

    async def seizing() -> int:
        note(ctx.run.id, "begin")
        if times_noted(ctx.run.id, "begin") == 1:
            keep_the_gil(ctx.input)
        note(ctx.run.id, "end")
        return os.getpid()

    return [await ctx.step.run("seizing", seizing), await ctx.step.run("after", body(ctx, "after"))]


@workflow("exclusive", registry=registry, mutex=lambda _: "the only one")
async def exclusive(ctx: Context) -> None:
    """Alone in its section, for a millisecond, or as long as the input says (seconds)."""
    note(ctx.run.id, "enter")
    try:
        await asyncio.sleep(ctx.input or 0.001)
    finally:
        note(ctx.run.id, "leave")


@workflow("stubborn", registry=registry, max_attempts=1)
async def stubborn(ctx: Context) -> JsonData:
    """A step that does not let itself be interrupted when it is called first."""

    async def staying() -> int:
        note(ctx.run.id, "begin")
        while times_noted(ctx.run.id, "begin") == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                note(ctx.run.id, "stays")
        return os.getpid()

    return [await ctx.step.run("one", body(ctx, "one")), await ctx.step.run("staying", staying)]


def plant_deaths() -> None:
    """Put the places of `die_at` around the scripts' calls."""
    claim, record, settle, decide = RunScripts.claim, RunScripts.record, RunScripts.settle, RunScripts.decide_failure

    async def dying_claim(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        reply = await claim(self, *args, **kwargs)
        if reply is not None and reply.runs:
            reached("claim:after")
        return reply

    async def dying_record(self, writes):  # type: ignore[no-untyped-def]
        for write in writes:
            reached(f"record:{write.field[2:]}:before")
        reply = await record(self, writes)
        for write in writes:
            reached(f"record:{write.field[2:]}:after")
        return reply

    async def dying_settle(self, items, *args, **kwargs):  # type: ignore[no-untyped-def]
        for item in items:
            reached(f"settle:{item.outcome}:before")
        reply = await settle(self, items, *args, **kwargs)
        for item in items:
            reached(f"settle:{item.outcome}:after")
        return reply

    async def dying_decide(self, *args):  # type: ignore[no-untyped-def]
        reached("decide:before")
        reply = await decide(self, *args)
        reached("decide:after")
        return reply

    RunScripts.claim = dying_claim  # type: ignore[method-assign]
    RunScripts.record = dying_record  # type: ignore[method-assign]
    RunScripts.settle = dying_settle  # type: ignore[method-assign]
    RunScripts.decide_failure = dying_decide  # type: ignore[method-assign]


async def main() -> None:
    """Work until SIGTERM."""
    if config.die_at:
        plant_deaths()
    worker = await start_worker(
        StartWorkerOptions(
            app=config.app,
            url=config.url,
            prefix=config.prefix,
            registry=registry,
            lease_ms=config.lease_ms,
            concurrency=config.concurrency,
        )
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()
    await worker.stop()


if __name__ == "__main__":
    asyncio.run(main())
