"""The checker: every invariant over one history, by number and name, and a guard against histories that prove nothing.

Pure: a history in, violations out. Nothing here asks the system what it thinks of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import rules_gates, rules_kin, rules_leases, rules_life, rules_order
from tests.chaos.history import History

Check = Callable[[History, "Counter[str]"], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One invariant.

    Attributes:
        number, name: as reports tell it.
        check: yields what breaks it, and counts under its number what it looked at.
    """

    number: str
    name: str
    check: Check


RULES: Final = (
    Rule("1", "terminal once", rules_life.terminal_once),
    Rule("2", "no loss", rules_life.no_loss),
    Rule("3", "no re-run after commit", rules_leases.no_rerun),
    Rule("4", "bounded re-run", rules_leases.bounded_rerun),
    Rule("5", "single lease", rules_leases.single_lease),
    Rule("6", "fenced commit", rules_leases.fenced_commit),
    Rule("7", "stale silence", rules_leases.stale_silence),
    Rule("7b", "cancel silence", rules_leases.cancel_silence),
    Rule("8", "idempotency", rules_life.idempotency),
    Rule("9", "mutex", rules_gates.mutex),
    Rule("10", "fan-out", rules_kin.fan_out),
    Rule("11", "throttle", rules_gates.throttle),
    Rule("11b", "debounce", rules_gates.debounce),
    Rule("12", "order and time", rules_order.order_and_time),
    Rule("13", "cron", rules_gates.cron),
    Rule("14", "parent and child", rules_kin.parent_and_child),
    Rule("14b", "waiter", rules_kin.waiter),
    Rule("14c", "cascade", rules_kin.cascade),
    Rule("15", "no leak", rules_life.no_leak),
    Rule("16", "prefix after loss", rules_life.prefix_after_loss),
    Rule("17", "epoch", rules_leases.epoch),
    Rule("18", "read your write", rules_life.read_your_write),
    Rule("19", "refused whole", rules_life.refused_whole),
    Rule("20", "poison", rules_life.poison),
    Rule("21", "attempts", rules_leases.attempts),
    Rule("22", "concurrency", rules_gates.concurrency),
    Rule("23", "isolation", rules_life.isolation),
    Rule("24", "determinism of stats", rules_life.stats),
    Rule("25", "lists", rules_order.lists),
)
"""All of them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One break of one invariant."""

    rule: Rule
    text: str

    def __str__(self) -> str:
        return f"invariant {self.rule.number} ({self.rule.name}): {self.text}"


@dataclass(slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        violations: each break.
        examined: how much each invariant looked at, by its number.
        vacuous: why the history proves less than it should.
    """

    violations: list[Violation] = field(default_factory=list)
    examined: Counter[str] = field(default_factory=Counter)
    vacuous: list[str] = field(default_factory=list)

    @property
    def broken(self) -> set[str]:
        """Numbers of the invariants that are broken."""
        return {violation.rule.number for violation in self.violations}


@dataclass(frozen=True, slots=True)
class Quotas:
    """What must have happened, or a history proves nothing.

    Attributes:
        faults: kind -> how often at least.
        primitives: primitive -> how often it was played at least.
        ok_share: the part of all operations that were ok, at least.
        runs, steps: how many there were at least.
    """

    faults: dict[str, int] = field(default_factory=dict)
    primitives: dict[str, int] = field(default_factory=dict)
    ok_share: float = 0.95
    runs: int = 0
    steps: int = 0


def check(history: History) -> Verdict:
    """Judge a history by all invariants."""
    verdict = Verdict()
    for rule in RULES:
        for text in rule.check(history, verdict.examined):
            verdict.violations.append(Violation(rule, text))
    return verdict


@dataclass(slots=True)
class Counts:
    """What happened, over one history or many."""

    faults: Counter[str] = field(default_factory=Counter)
    primitives: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    steps: int = 0

    def add(self, history: History) -> None:
        """Count one history in."""
        self.faults.update(entry.data["fault"] for entry in history.of("fault"))
        self.primitives.update(entry.data["primitive"] for entry in history.of("play"))
        self.ops.update(entry.kind for entry in history.of("ok", "fail", "info"))
        self.runs += len(history.trails)
        self.steps += sum(
            len({note.words[0] for note in trail.of("step") if note.words[1].startswith("S")})
            for trail in history.trails.values()
        )


def vacuity(counts: Counts, quotas: Quotas) -> list[str]:
    """Why a history, or many, prove less than they should."""
    found: list[str] = []
    total = counts.ops.total()
    if total == 0 or counts.ops["ok"] / total < quotas.ok_share:
        found.append(f"{counts.ops['ok']} of {total} operations were ok; at least {quotas.ok_share:.0%} should be")
    for what, counted, wanted in (
        ("fault", counts.faults, quotas.faults),
        ("primitive", counts.primitives, quotas.primitives),
    ):
        for name, least in wanted.items():
            if counted[name] < least:
                found.append(f"{what} {name}: {counted[name]} times, at least {least} are wanted")
    for what, number, least in (("runs", counts.runs, quotas.runs), ("steps", counts.steps, quotas.steps)):
        if number < least:
            found.append(f"{number} {what}, at least {least} are wanted")
    return found
