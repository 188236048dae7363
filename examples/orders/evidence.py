"""What the judge gets, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from examples.orders.effects import Event
from examples.orders.shop import Request
from examples.orders.story import CHECKS, STEPS

Outcome: TypeAlias = Literal["fulfilled", "invalid", "unknown_item", "out_of_stock", "suspicious"]
"""What must become of an order: the column `expected` of orders.csv."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an outcome looks like.

    Attributes:
        told: what the client learns; "succeeded" goes on with what was paid, in cents.
        stored: the steps that are stored in the end; no others may begin.
        fails_in: the step that refuses the order; None if none does.
    """

    told: str
    stored: tuple[str, ...]
    fails_in: str | None = None


PLANS: dict[Outcome, Plan] = {
    "fulfilled": Plan("succeeded", STEPS),
    "invalid": Plan("failed validation", ()),
    "unknown_item": Plan("failed non_retriable", (), fails_in="validate"),
    "out_of_stock": Plan("failed non_retriable", CHECKS),
    "suspicious": Plan("failed non_retriable", CHECKS),
}


@dataclass(frozen=True, slots=True)
class ExpectedOrder:
    """An order and what must become of it.

    Attributes:
        order: its id.
        outcome: see `Outcome`.
        cents: what must be charged; 0 if nothing.
        busy_bank: its card is refused once, so that the run must be retried.
    """

    order: str
    outcome: Outcome
    cents: int = 0
    busy_bank: bool = False

    @property
    def plan(self) -> Plan:
        """What its outcome looks like."""
        return PLANS[self.outcome]

    @property
    def told(self) -> str:
        """What the client must learn."""
        return f"succeeded {self.cents}" if self.outcome == "fulfilled" else self.plan.told


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything there is to judge by.

    Attributes:
        orders: what must become of each order.
        events: the lines of the effects file, in its order.
        bank: the bank's books.
        outbox: the outbox's books.
        cooling_off_ms: how long a run must sleep between charge and mail.
        unreadable: fragments of lines in all three files.
        kills: how many workers were killed.
    """

    orders: Sequence[ExpectedOrder]
    events: Sequence[Event]
    bank: Sequence[Request]
    outbox: Sequence[Request]
    cooling_off_ms: int
    unreadable: int = 0
    kills: int = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be."""

    rule: str
    order: str
    detail: str


def expected_bodies(orders: Sequence[ExpectedOrder]) -> int:
    """How many step bodies will end if every order takes its course."""
    return sum(len(order.plan.stored) for order in orders)
