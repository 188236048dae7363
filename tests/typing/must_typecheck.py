"""Programs of users that must type-check: mypy --strict has nothing to say about this file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, assert_type

from redflow.definitions import AnyWorkflow, BlockingWorkflowHandlerContext
from redflow.registry import (
    WorkflowDefinition,
    WorkflowHandlerContext,
    WorkflowRegistry,
    define_workflow,
    workflow,
)
from redflow.types import (
    BlockingStepApi,
    CronTrigger,
    EventTrigger,
    OnFailureContext,
    ReceivedEvent,
    RetryPolicyContext,
    RunHandle,
    StepApi,
    WorkflowDebounceOptions,
    WorkflowLike,
    WorkflowRateLimitOptions,
    WorkflowRetryPolicy,
)


@dataclass
class Order:
    id: int

    @classmethod
    def model_validate(cls, value: object) -> Order:
        if isinstance(value, dict):
            return cls(int(value["id"]))
        raise ValueError(f"no order: {value!r}")


async def charge(order_id: int, *, currency: str = "EUR") -> str:
    return f"{order_id} {currency}"


async def ship(order_id: int, signal: asyncio.Event) -> bool:
    return not signal.is_set()


def weigh(order_id: int) -> float:
    return order_id / 2


def label(**parts: str) -> dict[str, str]:
    return parts


# -- steps -------------------------------------------------------------------------------------------------


async def steps(step: StepApi) -> None:
    assert_type(await step.run("charge", charge, 1, currency="USD", timeout_ms=500), str)
    assert_type(await step.run("ship", ship, 1), bool)  # the engine gives the signal
    assert_type(await step.run("weigh", weigh, 1), float)
    assert_type(await step.run("later", lambda: charge(1)), str)
    # What a function takes under the names `name` and `fn` reaches it.
    assert_type(await step.run("label", label, name="a", fn="b"), dict[str, str])
    assert_type(await step.wait_for("sleep", "1.5h"), None)
    event = await step.wait_for_event("approval", "approved", "order-1", 60_000)
    assert_type(event, ReceivedEvent | None)
    assert_type(await step.emit_event("tell", "order.paid", {"id": 1}), list[str])
    first, second = await asyncio.gather(step.run("a", charge, 1), step.run("b", weigh, 1))
    assert_type(first, str)
    assert_type(second, float)


def blocking_steps(step: BlockingStepApi) -> None:
    assert_type(step.run("charge", charge, 1), str)
    assert_type(step.run("weigh", weigh, 1), float)
    assert_type(step.wait_for("sleep", 1_000), None)
    assert_type(step.wait_for_event("approval", "approved", "order-1", "1d"), ReceivedEvent | None)


# -- definitions -------------------------------------------------------------------------------------------


@workflow("fulfil", max_concurrency=5, retries=WorkflowRetryPolicy(delay="1s"))
async def fulfil(ctx: WorkflowHandlerContext[Order]) -> list[str]:
    assert_type(ctx.input, Order)
    receipt = await ctx.step.run("charge", charge, ctx.input.id)
    nested = await ctx.step.run_workflow("weigh", weigh_order, {"id": ctx.input.id})
    assert_type(nested, float)
    assert_type(await ctx.step.emit_workflow("tell", "tell", None), str)
    return [receipt]


assert_type(fulfil, WorkflowDefinition[Order, list[str]])


@workflow("weigh-order", input_schema=Order)
def weigh_order(ctx: BlockingWorkflowHandlerContext[Order]) -> float:
    return ctx.step.run("weigh", weigh, ctx.input.id)


assert_type(weigh_order, WorkflowDefinition[Order, float])


async def tell(ctx: WorkflowHandlerContext[dict[str, int]]) -> None:
    await ctx.step.wait_for("a while", 10)
    ctx.signal.wait_blocking(0.1)


async def complain(ctx: OnFailureContext) -> None:
    raise ctx.error


def is_worth_it(ctx: RetryPolicyContext) -> bool:
    return ctx.run.attempt < 3


told = define_workflow(
    "tell",
    handler=tell,
    cron=CronTrigger("@daily", timezone="Europe/Berlin"),
    event=[EventTrigger("order.paid"), EventTrigger("order.canceled")],
    debounce=WorkflowDebounceOptions(key=lambda order: str(order["id"]), period="1s", timeout=5_000),
    rate_limit=WorkflowRateLimitOptions(key=lambda order: str(order["id"]), limit=5, period="1m"),
    mutex=lambda order: f"order-{order['id']}",
    retries=WorkflowRetryPolicy(should_retry=is_worth_it, delay=lambda ctx: ctx.run.attempt * 100),
    on_failure=complain,
    registry=WorkflowRegistry(),
)
assert_type(told, WorkflowDefinition[dict[str, int], None])


async def start() -> None:
    handle = await fulfil.run(Order(1), idempotency_key="order-1")
    assert_type(handle, RunHandle[list[str]])
    assert_type(await handle.result(timeout_ms=1_000), list[str])
    # With a schema the plain form of an input is as good.
    await weigh_order.run({"id": 1})


def by_shape(definition: WorkflowLike[Order, list[str]]) -> str:
    return definition.name


def any_workflow(definition: AnyWorkflow) -> Any:  # reason: what a registry holds has no types
    return definition.handler


by_shape(fulfil)
any_workflow(weigh_order)
