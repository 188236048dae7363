"""What redflow has to reach beside the others in one run. Pure: medians in, verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Medians = Mapping[str, Mapping[str, float]]
"""By system, then by figure."""

OURS: Final = "redflow"
LIMIT: Final = "minimal"
QUEUE: Final = "bullmq"


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        text: in words.
        kind: whether the figure has to be at least or at most the bound.
        figure: which of ours.
        bound: what it is measured by, from all medians; KeyError if something for it was not measured.
    """

    text: str
    kind: Literal["at least", "at most"]
    figure: str
    bound: Callable[[Medians], float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, judged.

    Attributes:
        goal: its text.
        value: ours; None if it was not measured.
        bound: what it had to reach; None if what it depends on was not measured.
        passed: whether it was reached; what was not measured was not.
    """

    goal: str
    value: float | None
    bound: float | None
    passed: bool


def _times(factor: float, system: str, figure: str) -> Callable[[Medians], float]:
    return lambda medians: factor * medians[system][figure]


def _times_best_durable(factor: float, durable: frozenset[str]) -> Callable[[Medians], float]:
    return lambda medians: (
        factor
        * max(figures["steps"] for system, figures in medians.items() if system in durable and "steps" in figures)
    )


def goals(durable: frozenset[str]) -> tuple[Goal, ...]:
    """All goals; `durable` are the names of the other durable engines."""
    return (
        Goal("one worker, live: at least 1.5 x bullmq", "at least", "live", _times(1.5, QUEUE, "live")),
        Goal("one worker, live: at least 0.4 x the minimal loop", "at least", "live", _times(0.4, LIMIT, "live")),
        Goal("one worker, draining: at least 1.5 x bullmq", "at least", "drain", _times(1.5, QUEUE, "drain")),
        Goal("one worker, draining: at least 0.4 x the minimal loop", "at least", "drain", _times(0.4, LIMIT, "drain")),
        Goal("two workers: at least 2 x bullmq with two", "at least", "two", _times(2, QUEUE, "two")),
        Goal("steps: at least 0.5 x the minimal loop", "at least", "steps", _times(0.5, LIMIT, "steps")),
        Goal("steps: at least 15 x the best durable peer", "at least", "steps", _times_best_durable(15, durable)),
        Goal("trigger to result, p50: at most 0.8 x bullmq", "at most", "p50", _times(0.8, QUEUE, "p50")),
        Goal("trigger to result, p99: at most bullmq's", "at most", "p99", _times(1, QUEUE, "p99")),
        Goal("100 children: at most 0.7 x bullmq's 100 jobs", "at most", "children", _times(0.7, QUEUE, "children")),
        Goal("worker CPU a run: at most bullmq's", "at most", "cpu", _times(1, QUEUE, "cpu")),
        Goal("bytes a run, tiny payloads: at most bullmq's", "at most", "bytes", _times(1, QUEUE, "bytes")),
        Goal("bytes a run, 200-byte payloads: at most 1,200", "at most", "bytes-200", lambda _: 1200),
        Goal("bulk emits: at least 0.4 x the minimal loop", "at least", "bulk", _times(0.4, LIMIT, "bulk")),
        Goal("single emits: at least bullmq's", "at least", "single", _times(1, QUEUE, "single")),
        Goal("idle worker: at most 2 commands/s", "at most", "idle", lambda _: 2),
        Goal(
            "concurrency 1: at least 1,000 runs/s and 0.08 x the minimal loop's draining",
            "at least",
            "serial",
            lambda medians: max(1000, _times(0.08, LIMIT, "drain")(medians)),
        ),
    )


def judge(medians: Medians, durable: frozenset[str]) -> list[Verdict]:
    """All goals' verdicts."""
    return [_judge(goal, medians) for goal in goals(durable)]


def _judge(goal: Goal, medians: Medians) -> Verdict:
    value = medians.get(OURS, {}).get(goal.figure)
    try:
        bound = goal.bound(medians)
    except (KeyError, ValueError):  # not measured; max() of nothing
        bound = None
    passed = value is not None and bound is not None and (value >= bound if goal.kind == "at least" else value <= bound)
    return Verdict(goal.text, value, bound, passed)
