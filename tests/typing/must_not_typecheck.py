"""Mistakes of users that mypy must find.

Each bad line carries the error it must get. Under --strict an ignore that ignores nothing is an error itself,
so this file passes exactly when every mistake is found; test_typing.py checks that nothing else is found.
"""

from __future__ import annotations

from dataclasses import dataclass

from redflow.definitions import BlockingWorkflowHandlerContext
from redflow.registry import WorkflowHandlerContext, define_workflow, workflow
from redflow.types import CronTrigger, StepApi, WorkflowLike, WorkflowRetryPolicy


@dataclass
class Order:
    id: int


@dataclass
class Invoice:
    number: str


def use(*values: object) -> None:
    assert values


async def charge(order_id: int) -> str:
    return str(order_id)


def weigh(order_id: int) -> float:
    return order_id / 2


async def steps(step: StepApi) -> None:
    wrong: int = await step.run("charge", charge, 1)  # type: ignore[arg-type]
    also_wrong: str = await step.run("weigh", weigh, 1)  # type: ignore[arg-type]
    await step.run(charge, 1)  # type: ignore[call-overload]
    await step.run("charge", "charge")  # type: ignore[call-overload]
    await step.run("charge", charge, 1, timeout_ms="5s")  # type: ignore[call-overload]
    step.run("charge", charge, 1)  # type: ignore[unused-coroutine]
    await step.wait_for("sleep")  # type: ignore[call-arg]
    await step.wait_for("sleep", None)  # type: ignore[arg-type]
    await step.wait_for_event("approval", "approved", "key")  # type: ignore[call-arg]
    event = await step.wait_for_event("approval", "approved", "key", "1d")
    use(event["data"])  # type: ignore[index]
    use(wrong, also_wrong)


@workflow("fulfil")
async def fulfil(ctx: WorkflowHandlerContext[Order]) -> list[str]:
    use(ctx.input.number)  # type: ignore[attr-defined]
    ctx.step.wiat_for("sleep", 1)  # type: ignore[attr-defined]
    return [await ctx.step.run("charge", charge, ctx.input.id)]


@workflow("plain", max_concurrency=1)
def plain(ctx: BlockingWorkflowHandlerContext[Order]) -> float:
    number: str = ctx.step.run("weigh", weigh, 1)  # type: ignore[assignment]
    use(number)
    return 1.0


async def fine(ctx: WorkflowHandlerContext[Order]) -> None: ...


async def no_context(order: Order) -> None: ...


def blocking_with_async_context(ctx: WorkflowHandlerContext[Order]) -> float:
    return 1.0


define_workflow("a", handler=no_context)  # type: ignore[arg-type]
define_workflow("b", handler=blocking_with_async_context)  # type: ignore[arg-type]
define_workflow("c", handler=fine, max_concurency=1)  # type: ignore[call-overload]
define_workflow("d")  # type: ignore[call-overload]
define_workflow("e", handler=fine, cron="* * * * *")  # type: ignore[arg-type]
define_workflow("f", handler=fine, cron=[CronTrigger()])  # type: ignore[call-arg]
define_workflow("g", handler=fine, retries=WorkflowRetryPolicy("1s", "3"))  # type: ignore[arg-type]


@workflow("h", input_schema=Invoice)  # type: ignore[arg-type]
async def wrong_schema(ctx: WorkflowHandlerContext[Order]) -> None: ...


workflow("i", max_attempts="3")  # type: ignore[call-overload]


async def start(step: StepApi) -> None:
    await fulfil.run(Invoice("17"))  # type: ignore[arg-type]
    await fulfil.run("order-1")  # type: ignore[arg-type]
    handle = await fulfil.run(Order(1))
    total: int = await handle.result()  # type: ignore[assignment]
    nested: int = await step.run_workflow("child", fulfil, Order(1))  # type: ignore[arg-type]
    await step.run_workflow("child", fulfil, Invoice("17"))  # type: ignore[misc]
    await step.run_workflow("child", 17, Order(1))  # type: ignore[call-overload]
    use(total, nested)


other: WorkflowLike[Order, int] = fulfil  # type: ignore[assignment]
