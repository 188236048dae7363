"""The order workflow: validate, price and check side by side, charge, cool off, mail.

Start a worker for it with `redflow worker examples.orders.workflows`; `python -m examples.orders.demo` does that
and more. Everything the workflow does to the world lands in the directory ORDERS_DIR (default: ./orders-data).
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from examples.orders.effects import EffectsFile, WatchedSteps
from examples.orders.shop import BUSY_BANK_CARD, PRODUCTS, Books, latency_s
from redflow import NonRetriableError, OnFailureContext, WorkflowHandlerContext, workflow
from redflow.errors import RetryAfterError

COOLING_OFF_MS = 1_000
"""How long a customer may change their mind: an hour in a real shop, a second here."""

DIRECTORY = Path(os.environ.get("ORDERS_DIR", "orders-data"))
EFFECTS = EffectsFile(DIRECTORY / "effects.jsonl")
BANK = Books(DIRECTORY / "bank.jsonl")
OUTBOX = Books(DIRECTORY / "outbox.jsonl")


class Order(BaseModel):
    """An order as it comes in: a row of orders.csv, whose texts pydantic turns into what they should be."""

    order_id: Annotated[str, Field(pattern=r"^ORD-\d{5}$")]
    placed_on: date
    customer: Annotated[str, Field(min_length=1)]
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[a-z]+$")]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    sku: str
    quantity: Annotated[int, Field(ge=1, le=100)]
    coupon: str = ""
    card: Annotated[str, Field(pattern=r"^tok_[a-z_]+$")]


class Price(BaseModel):
    """What an order costs, in cents."""

    goods: int
    discount: int
    shipping: int

    @property
    def total(self) -> int:
        """What the customer pays."""
        return self.goods - self.discount + self.shipping


class Receipt(BaseModel):
    """The bank's word that it was paid."""

    reference: str
    cents: int


# --- steps -----------------------------------------------------------------------------------------------------


async def validate(order: Order) -> None:
    """What the schema can't know."""
    await asyncio.sleep(latency_s(order.order_id, "validate", 2, 8))
    if order.sku not in PRODUCTS:
        raise NonRetriableError(f"there is no article {order.sku!r}")
    if order.coupon not in ("", "TEA10"):
        raise NonRetriableError(f"there is no coupon {order.coupon!r}")


async def price(order: Order) -> Price:
    """Goods, minus the coupon's tenth, plus shipping."""
    await asyncio.sleep(latency_s(order.order_id, "price", 10, 40))
    goods = PRODUCTS[order.sku].cents * order.quantity
    discount = goods // 10 if order.coupon == "TEA10" else 0
    shipping = 0 if goods - discount >= 10_000 else 490 if order.country == "DE" else 1_290
    return Price(goods=goods, discount=discount, shipping=shipping)


async def check_stock(order: Order) -> bool:
    """Whether the warehouse has it."""
    await asyncio.sleep(latency_s(order.order_id, "stock", 20, 80))
    return PRODUCTS[order.sku].in_stock


async def check_fraud(order: Order) -> bool:
    """Whether it looks honest: large orders on prepaid cards don't."""
    await asyncio.sleep(latency_s(order.order_id, "fraud", 40, 120))
    return not (order.card == "tok_prepaid" and order.quantity >= 40)


def charge(order: Order, cents: int, attempt: int) -> Receipt:
    """Charge the card. A plain function: redflow runs it in a thread, so it may block.

    The order's id is the idempotency key: should the worker die after the bank said yes and before redflow stored
    it, the second call gets the first one's receipt.
    """
    time.sleep(latency_s(order.order_id, "bank", 15, 60))
    if order.card == BUSY_BANK_CARD and attempt == 1:
        raise RetryAfterError("the bank is busy", "300ms")
    done = BANK.carry_out(order.order_id, cents=cents)
    return Receipt(reference=f"bank/{done.key}", cents=done.cents)


def mail(order: Order, receipt: Receipt) -> None:
    """Tell the customer; again with the order's id as the key."""
    time.sleep(latency_s(order.order_id, "mail", 5, 20))
    OUTBOX.carry_out(
        order.order_id,
        text=(
            f"To: {order.customer} <{order.email}>\nSubject: Your order {order.order_id}\n\n"
            f"{order.quantity} x {PRODUCTS[order.sku].name}: {receipt.cents / 100:.2f} EUR, {receipt.reference}\n"
        ),
    )


# --- the workflow ----------------------------------------------------------------------------------------------


def note_refusal(failure: OnFailureContext) -> None:
    """Called when a run has failed for good: the order is not going to be fulfilled."""
    kind = getattr(failure.error, "kind", "error")
    EFFECTS.write("refused", run=failure.run.id, attempt=failure.run.attempt, detail=kind)


@workflow("order", input_schema=Order, on_failure=note_refusal)
async def handle_order(ctx: WorkflowHandlerContext[Order]) -> dict[str, str | int]:
    """From an order to its mail.

    A worker that dies anywhere in here costs nothing but time: the handler runs again from its first line on
    another worker, and every step that was stored returns what it returned before.
    """
    order = ctx.input
    step = WatchedSteps(ctx.step, ctx.run, order.order_id, EFFECTS)  # ctx.step, with a witness

    await step.run("validate", validate, order)
    cost, in_stock, honest = await asyncio.gather(
        step.run("price", price, order),
        step.run("stock", check_stock, order),
        step.run("fraud", check_fraud, order),
    )
    if not in_stock:
        raise NonRetriableError(f"{order.sku} is sold out")
    if not honest:
        raise NonRetriableError("this order looks fraudulent")

    receipt = await step.run("charge", charge, order, cost.total, ctx.run.attempt)
    await step.wait_for("cooling-off", COOLING_OFF_MS)  # the run leaves the worker until then
    await step.run("mail", mail, order, receipt)
    return {"order_id": order.order_id, "paid_cents": receipt.cents}
