"""The measured workflows. Their work is next to nothing, so that a figure is the engine's and nobody else's.

Three workflows on two queues: what an idle worker is measured with, too.
"""

from __future__ import annotations

from typing import Final

from redflow import WorkflowHandlerContext, WorkflowRegistry, define_workflow

APP: Final = "benchmarks"
STEPS_IN_TEN: Final = 10

REGISTRY: Final = WorkflowRegistry()

Payload = dict[str, int | str]
"""Input, step output and output of the measured runs: a number, and padding where a size is measured."""


async def double(data: Payload) -> Payload:
    """The step of a one-step run."""
    return data | {"n": 2 * int(data["n"])}


async def add_one(number: int) -> int:
    """A step of a ten-step run."""
    return number + 1


async def _one_step(ctx: WorkflowHandlerContext[Payload]) -> Payload:
    return await ctx.step.run("double", double, ctx.input)


async def _ten_steps(ctx: WorkflowHandlerContext[Payload]) -> int:
    number = int(ctx.input["n"])
    for index in range(STEPS_IN_TEN):
        number = await ctx.step.run(f"add-{index}", add_one, number)
    return number


async def _no_step(ctx: WorkflowHandlerContext[Payload]) -> Payload:
    return ctx.input


ONE_STEP: Final = define_workflow("one-step", handler=_one_step, registry=REGISTRY)
TEN_STEPS: Final = define_workflow("ten-steps", handler=_ten_steps, registry=REGISTRY)
NO_STEP: Final = define_workflow("no-step", handler=_no_step, queue="second", registry=REGISTRY)
