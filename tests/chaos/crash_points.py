"""The crash-point enumerator: every round trip of each scenario, cut in three places, by three faults.

A scenario is played once without harm, and the round trips of its worker and of its client are counted. Then it is
played again for each of them: the i-th is cut before it is sent, after it was applied but before its reply, or after
its reply; and its process is killed, frozen for longer than the lease, or loses its connection. Each time the checker
judges the whole history. Which call the i-th is may differ between two plays, since heartbeats come when they come; the
report tells by name what was hit.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.checker import Violation, check
from tests.chaos.orders import PRIMITIVES
from tests.chaos.processes import ForkServer
from tests.chaos.program import Config
from tests.chaos.proxy import WHERES, Cut, Where
from tests.chaos.scene import Member, Scene
from tests.chaos.sources import Sources
from tests.support.servers import ServerProcess

SCENARIOS: Final = {
    "plain": "plain",
    "retry": "retry",
    "sleep": "sleep",
    "event wait": "event",
    "child": "child",
    "fan-out": "fan-out",
    "mutex": "mutex",
    "throttle": "throttle",
    "debounce": "debounce",
    "cron": "cron",
    "cancel tree": "cancel-tree",
    "on_failure": "on-failure",
}
"""Scenario -> the primitive it plays."""
FAULTS: Final = ("kill", "stop", "reset")
LEASE_MS: Final = 300
FREEZE_S: Final = 1.7 * LEASE_MS / 1000
LONGEST_S: Final = 40.0


@dataclass(frozen=True, slots=True)
class Point:
    """One crash point."""

    scenario: str
    victim: str
    at: int
    where: Where
    fault: str

    def __str__(self) -> str:
        return f"{self.scenario}: {self.victim}, round trip {self.at}, {self.where}, {self.fault}"


@dataclass(slots=True)
class Outcome:
    """What came of one play.

    Attributes:
        point: where harm was done; None for a play without.
        hit: what the round trip was; "" if the play was over before.
        violations: what the checker found.
        trips: round trips of worker and client.
        seconds: how long it took.
    """

    point: Point | None
    hit: str
    violations: list[Violation]
    trips: dict[str, int]
    seconds: float
    trouble: str = ""


@dataclass(slots=True)
class Report:
    """All plays of an enumeration."""

    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    trips: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def bad(self) -> list[Outcome]:
        """Plays that broke an invariant, or did not come to rest."""
        return [outcome for outcome in self.outcomes if outcome.violations or outcome.trouble]

    def hits(self) -> Counter[str]:
        """How often each call was hit, by its name."""
        return Counter(outcome.hit for outcome in self.outcomes if outcome.hit)

    def text(self) -> str:
        """The report, to be read."""
        done = [outcome for outcome in self.outcomes if outcome.hit]
        lines = [f"crash points: seed {self.seed}, {len(self.outcomes)} plays, {len(done)} of them hit"]
        of: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            if outcome.point is not None:
                of[outcome.point.scenario].append(outcome)
        for scenario, trips in self.trips.items():
            hit, bad = [o for o in of[scenario] if o.hit], [o for o in of[scenario] if o.violations or o.trouble]
            counted = f"{trips.get('worker', 0)} + {trips.get('client', 0)} round trips"
            lines.append(f"  {scenario:12} {counted:24} {len(hit):5} of {len(of[scenario]):5} hit  {len(bad):3} bad")
        names = ", ".join(f"{name} {count}" for name, count in sorted(self.hits().items()))
        lines.append(f"  calls that were hit: {names}")
        for outcome in self.bad:
            lines.append(f"BAD {outcome.point}  ({outcome.hit}) {outcome.trouble}")
            lines += [f"    {violation}" for violation in outcome.violations]
        return "\n".join(lines)


class Enumerator:
    """Plays scenarios on one server.

    Args:
        server: where.
        fork: starts the processes.
        sources: what they run.
        directory: for ledgers.
        seed: of the clients' chance, and of the choice of points.
    """

    def __init__(self, server: ServerProcess, fork: ForkServer, sources: Sources, directory: Path, seed: int) -> None:
        self._server = server
        self._fork = fork
        self._sources = sources
        self._directory = directory
        self._seed = seed
        self._plays = 0

    async def run(self, scenarios: tuple[str, ...], share: float, at_a_time: int, budget_s: float) -> Report:
        """Play a share of the points of some scenarios, chosen by the seed, for so many seconds at most."""
        report = Report(self._seed)
        for scenario in scenarios:
            outcome = await self.play(scenario, None)
            report.outcomes.append(outcome)
            report.trips[scenario] = outcome.trips
        points = list(self.points(report.trips))
        rng = random.Random(self._seed)
        rng.shuffle(points)
        left = iter(points[: max(1, round(share * len(points)))])
        deadline = time.monotonic() + budget_s

        async def player() -> None:
            for point in left:
                if time.monotonic() > deadline:
                    return
                report.outcomes.append(await self.play(point.scenario, point))

        await asyncio.gather(*(player() for _ in range(at_a_time)))
        return report

    def points(self, trips: dict[str, dict[str, int]]) -> Iterator[Point]:
        """Every point of the scenarios, by how many round trips each took."""
        for scenario, counted in trips.items():
            for victim, count in counted.items():
                for at in range(1, count + 1):
                    for where in WHERES:
                        for fault in FAULTS:
                            yield Point(scenario, victim, at, where, fault)

    async def play(self, scenario: str, point: Point | None) -> Outcome:
        """Play a scenario, perhaps with harm at one point, and judge it."""
        self._plays += 1
        number = self._plays
        directory = self._directory / f"play-{number}"
        directory.mkdir()
        began = time.monotonic()
        scene = Scene(
            self._server, self._fork, self._sources.verbs, f"crash-{number}", directory, LEASE_MS
        )  # fmt: skip
        stage = _Stage(scene, scenario, point, self._seed + number)
        trouble = ""
        try:
            async with asyncio.timeout(LONGEST_S):
                await stage.begin()
                await stage.client.process.ended
                if not await scene.quiet(LONGEST_S / 2):
                    trouble = "it did not come to rest"
        except TimeoutError:
            trouble = f"it was not over in {LONGEST_S:g} s"
        trips = {name: member.proxy.trips for name, member in (("worker", stage.worker), ("client", stage.client))}
        victim = stage.victim
        hit = victim.proxy.names[point.at - 1] if victim and point and victim.proxy.fired.is_set() else ""
        history = await scene.finish()
        await scene.clear()
        outcome = Outcome(point, hit, check(history).violations, trips, time.monotonic() - began, trouble)
        if not outcome.violations and not trouble:
            shutil.rmtree(directory)
        return outcome


class _Stage:
    """The processes of one play."""

    worker: Member
    client: Member

    def __init__(self, scene: Scene, scenario: str, point: Point | None, seed: int) -> None:
        self._scene = scene
        self._point = point
        self._primitive = SCENARIOS[scenario]
        self._workflows = list(PRIMITIVES[self._primitive].workflows)
        self._seed = seed
        self.victim: Member | None = None

    async def begin(self) -> None:
        """Start a worker and a client, one of them with a cut."""
        self.worker = await self._start("worker")
        self.client = await self._start("client")

    async def _start(self, role: str) -> Member:
        config = Config(
            role, "", "", "", self._workflows, seed=self._seed, mix={self._primitive: 1.0}, concurrency=10
        )  # fmt: skip
        if self._point is None or self._point.victim != role:
            return await self._scene.start(config)
        point = self._point
        cut = Cut(point.at, point.where, self._act, keep=point.fault == "stop")
        self._early = False
        self.victim = await self._scene.start(config, cut)
        if self._early:
            self._harm(self.victim)
        return self.victim

    def _act(self) -> None:
        if self.victim is None:  # it talks before the harness has heard its process id
            self._early = True
        else:
            self._harm(self.victim)

    def _harm(self, victim: Member) -> None:
        assert self._point is not None
        if self._point.fault == "reset":
            self._scene.ledger.note("fault", fault="reset", pid=victim.process.pid)
            return
        if self._point.fault == "kill":
            self._scene.kill(victim)
        else:
            self._scene.freeze(victim, FREEZE_S)
        if victim.process.role == "worker":
            self._scene.start_soon(Config("worker", "", "", "", self._workflows))  # it takes over
