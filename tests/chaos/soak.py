"""The soak: storms with everything in them, one after another until the quotas are met, and a report of them.

Each round is a storm on a prefix of its own with a seed of its own, judged as a whole when it is quiet; a round that
goes wrong is played again by `--seed <its seed> --rounds 1`.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import redflow
from tests.chaos.checker import RULES, Counts, Quotas, Violation, check, vacuity
from tests.chaos.history import History
from tests.chaos.orders import PRIMITIVES
from tests.chaos.processes import ForkServer
from tests.chaos.scene import Scene
from tests.chaos.sources import make_sources
from tests.chaos.storm import Plan, Storm
from tests.chaos.workload import WORKFLOWS
from tests.support.servers import ServerOptions, ServerProcess, selected_kind

LEASE_MS: Final = 1_000
MIX: Final = {name: primitive.weight for name, primitive in PRIMITIVES.items() if primitive.weight}
FAULTS: Final = {
    "kill": 4.0, "stop": 1.2, "reset": 10.0, "lose": 5.0, "slow": 1.0, "half-open": 1.0, "term": 1.0,
    "client-kill": 0.3, "redis-kill": 0.25,
}  # fmt: skip
"""Fault -> weight."""
FULL: Final = Quotas(
    faults={
        "kill": 1_000, "stop": 200, "redis-kill": 60, "reset": 3_000, "lose": 500, "slow": 100, "half-open": 100,
        "term": 100,
    },
    primitives={**dict.fromkeys(MIX, 500), "cron": 500, "poison": 100},
    runs=100_000,
    steps=500_000,
)  # fmt: skip
"""The goal: what must have happened before the soak may end."""
SHORT: Final = Quotas(faults={"kill": 5, "stop": 2, "reset": 10, "lose": 5}, runs=300, steps=900)
"""What the short form must have seen."""
RECOVERY_MS: Final = LEASE_MS + 2_000


@dataclass(slots=True)
class Soak:
    """What all rounds came to."""

    seed: int
    rounds: int = 0
    counts: Counts = field(default_factory=Counts)
    examined: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, Violation]] = field(default_factory=list)
    restless: list[int] = field(default_factory=list)
    recoveries_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, seed: int, history: History, *, quiet: bool) -> None:
        """Judge a round and count it in."""
        verdict = check(history)
        self.rounds += 1
        self.counts.add(history)
        self.counts.primitives["cron"] += sum(note.kind == "tick ft" for note in history.audit)
        self.examined += verdict.examined
        self.violations += [(seed, violation) for violation in verdict.violations]
        if not quiet:
            self.restless.append(seed)
        self.recoveries_ms += recoveries(history)

    def p99_ms(self) -> float:
        """The 99th percentile of the time from a fault to the next claim of a run that it hit, ms."""
        ordered = sorted(self.recoveries_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0

    def missing(self, quotas: Quotas) -> list[str]:
        """What the quotas still want."""
        return vacuity(self.counts, quotas)

    def failed(self, quotas: Quotas) -> bool:
        """Whether anything is wrong."""
        return bool(self.violations or self.restless or self.missing(quotas))

    def json(self, quotas: Quotas) -> dict[str, Any]:
        """The report for machines."""
        broken = Counter(violation.rule.number for _, violation in self.violations)
        return {
            "seed": self.seed,
            "versions": {
                "redflow": redflow.__version__,
                "python": platform.python_version(),
                "server": selected_kind(),
            },
            "rounds": self.rounds,
            "seconds": round(self.seconds),
            "runs": self.counts.runs,
            "steps": self.counts.steps,
            "operations": dict(self.counts.ops),
            "faults": dict(sorted(self.counts.faults.items())),
            "primitives": dict(sorted(self.counts.primitives.items())),
            "recovery_ms": {"count": len(self.recoveries_ms), "p99": round(self.p99_ms()), "limit": RECOVERY_MS},
            "invariants": {
                rule.number: {
                    "name": rule.name,
                    "examined": self.examined[rule.number],
                    "violations": broken[rule.number],
                }
                for rule in RULES
            },
            "violations": [{"seed": seed, "text": str(violation)} for seed, violation in self.violations[:100]],
            "restless": self.restless,
            "missing": self.missing(quotas),
        }

    def text(self, quotas: Quotas) -> str:
        """The report for people."""
        told = self.json(quotas)
        lines = [
            f"soak: seed {self.seed}, {self.rounds} rounds in {self.seconds:.0f} s",
            f"  {self.counts.runs} runs, {self.counts.steps} steps, operations {told['operations']}",
            f"  faults {told['faults']}",
            f"  primitives {told['primitives']}",
            f"  recovery: p99 {self.p99_ms():.0f} ms of {len(self.recoveries_ms)} (limit {RECOVERY_MS})",
        ]
        for number, row in told["invariants"].items():
            lines.append(f"  {number:>3} {row['name']:24} {row['examined']:9} looked at  {row['violations']:4} broken")
        lines += [f"  round {seed} did not come to rest" for seed in self.restless]
        lines += [f"VIOLATION (--seed {seed} --rounds 1) {violation}" for seed, violation in self.violations[:40]]
        lines += [f"  proves too little: {missing}" for missing in told["missing"]]
        return "\n".join(lines)


def recoveries(history: History) -> list[float]:
    """How long it took from a kill or a freeze of a holder to the next claim of each run it held, ms."""
    times: list[float] = []
    faults = [entry for entry in history.of("fault") if entry.data["fault"] in ("kill", "stop", "poison")]
    for trail in history.trails.values():
        for claim, following in zip(trail.claims, trail.claims[1:], strict=False):
            if claim.ended_by != "recover_runs":
                continue
            pid = history.pids.get(claim.worker)
            hits = [f.real_ms for f in faults if f.data["pid"] == pid and claim.at_ms <= f.real_ms <= claim.ended_ms]
            if hits and not history.hit(0, hits[0], following.at_ms, frozenset(("redis-kill",))):
                times.append(following.at_ms - hits[0])
    return times


def plan_of(seed: int, plays: int) -> Plan:
    """One round."""
    return Plan(
        seed, MIX, FAULTS, every_s=0.12, workers=8, clients=2, plays=plays, at_a_time=20, concurrency=10,
        workflows=tuple(WORKFLOWS), longest_s=180, quiet_s=40,
    )  # fmt: skip


async def soak(
    directory: Path, seed: int, quotas: Quotas, *, rounds: int, plays: int, seconds: float, say: Callable[[str], None]
) -> Soak:
    """Play rounds until the quotas are met, or so many, or for so long.

    Args:
        directory: for ledgers; those of rounds that went wrong stay.
        seed: of the first round; each next one has the next.
        quotas: what must have happened.
        rounds: how many at most; 0: as many as the quotas want.
        plays: primitives that each client plays in a round.
        seconds: after this no round begins.
        say: is told how it goes.
    """
    total, began = Soak(seed), time.monotonic()
    sources = make_sources(directory)
    with ServerProcess(selected_kind(), ServerOptions(appendonly=True)) as server:
        async with ForkServer(sources) as fork:
            while time.monotonic() - began < seconds and (not rounds or total.rounds < rounds):
                now = seed + total.rounds
                ledger = _made(directory / f"round-{now}")
                scene = Scene(server, fork, sources.verbs, f"soak-{now}", ledger, LEASE_MS)
                storm = Storm(scene, replace(plan_of(now, plays)))
                before = len(total.violations)
                history = await storm.play()
                total.add(now, history, quiet=storm.quiet)
                await scene.clear()
                total.seconds = time.monotonic() - began
                say(_line(now, total, len(total.violations) - before))
                if len(total.violations) == before and storm.quiet:
                    shutil.rmtree(ledger)
                if not rounds and not total.missing(quotas):
                    break
    return total


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _line(seed: int, total: Soak, broken: int) -> str:
    faults = " ".join(f"{name} {count}" for name, count in sorted(total.counts.faults.items()))
    return f"round {seed}: {total.counts.runs} runs, {total.counts.steps} steps so far, {faults}; {broken} violations"


def write_json(total: Soak, quotas: Quotas, path: Path) -> None:
    """Write the report for machines."""
    path.write_text(json.dumps(total.json(quotas), indent=1, sort_keys=True) + "\n", "utf-8")
