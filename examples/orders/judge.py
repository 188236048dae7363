"""The judge of the demo: every order exactly once, and no step run again after it was stored.

Pure: it gets the orders with what must become of them, the lines of the effects file, and the books of the bank
and of the outbox. It knows nothing of Redis. The rules stand in rules.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from examples.orders.evidence import PLANS, Difference, Evidence, Outcome
from examples.orders.rules import ORDER_RULES, RULES, Case, stored_before, taken_over
from examples.orders.story import STEPS, Stories, Story, tell


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """The orders of one expected outcome.

    Attributes:
        outcome: what must become of them.
        orders: how many there are.
        runs: runs that were started for them.
        charged: charges the bank carried out for them.
        mailed: mails that were sent for them.
        right: orders with nothing wrong.
    """

    outcome: Outcome
    orders: int
    runs: int
    charged: int
    mailed: int
    right: int


@dataclass(frozen=True, slots=True)
class StepCount:
    """A step over all orders.

    Attributes:
        step: its name.
        orders: orders for which it was stored.
        bodies: how often its body began.
        retried: of these, again after a planned failure.
        cut: of these, again because a killed worker had not stored it.
        after_commit: of these, again although it was stored. Must be 0.
    """

    step: str
    orders: int
    bodies: int
    retried: int
    cut: int
    after_commit: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says.

    Attributes:
        differences: empty if everything is as it must be.
        outcomes: the orders by what must become of them.
        steps: the steps over all orders.
        in_flight: bodies whose worker was killed before they were told to be stored.
        taken_over: runs that the killed worker began and another one ended.
        kept: stored steps of the killed worker that another one used without running them again.
    """

    differences: tuple[Difference, ...]
    outcomes: tuple[OutcomeCount, ...]
    steps: tuple[StepCount, ...]
    in_flight: int
    taken_over: int
    kept: int

    @property
    def passed(self) -> bool:
        """Whether there is no difference."""
        return not self.differences


def judge(evidence: Evidence) -> Verdict:
    """Judge a run of the demo."""
    stories = tell(evidence.events, [order.order for order in evidence.orders])
    differences = [difference for rule in RULES for difference in rule(evidence, stories)]
    for expected in evidence.orders:
        case = Case(expected, stories.by_order[expected.order], evidence)
        differences += [difference for order_rule in ORDER_RULES for difference in order_rule(case)]
    dead = {killing.pid for killing in stories.killings}
    told = list(stories.by_order.values())
    return Verdict(
        tuple(differences),
        tuple(_count_orders(outcome, evidence, stories, differences) for outcome in PLANS),
        tuple(_count_step(step, told) for step in STEPS),
        in_flight=sum(body.cut and not body.failed for story in told for body in story.executions),
        taken_over=sum(taken_over(story, dead) for story in told),
        kept=sum(_kept(story, dead) for story in told),
    )


def _count_orders(
    outcome: Outcome, evidence: Evidence, stories: Stories, differences: Sequence[Difference]
) -> OutcomeCount:
    ids = {order.order for order in evidence.orders if order.outcome == outcome}
    return OutcomeCount(
        outcome,
        orders=len(ids),
        runs=sum(len(stories.by_order[order].runs) for order in ids),
        charged=sum(request.done and request.key in ids for request in evidence.bank),
        mailed=sum(request.done and request.key in ids for request in evidence.outbox),
        right=len(ids - {difference.order for difference in differences}),
    )


def _count_step(step: str, stories: Sequence[Story]) -> StepCount:
    bodies = retried = cut = after_commit = orders = 0
    for story in stories:
        executions = story.bodies(step)
        bodies += len(executions)
        orders += bool(story.stored(step))
        after_commit += sum(stored_before(story, execution) for execution in executions)
        for earlier, later in pairwise(executions):
            retried += later.begin.attempt > earlier.begin.attempt
            cut += earlier.cut and later.begin.attempt == earlier.begin.attempt
    return StepCount(step, orders, bodies, retried, cut, after_commit)


def _kept(story: Story, dead: set[int]) -> int:
    stored = {line.event.step for line in story.of("commit") if line.event.pid in dead}
    return len(stored & {line.event.step for line in story.of("kept") if line.event.pid not in dead})
