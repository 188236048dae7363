"""Many seeds, in several processes, each with a server of its own."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.server import SimulatedServer
from tests.simulation.simulation import Report, run_seed
from tests.support.servers import ServerOptions, ServerProcess, selected_kind


@dataclass(frozen=True, slots=True)
class Share:
    """The seeds that one process plays: from `first` on, each `step`-th; so many, or for so long."""

    first: int
    step: int
    seeds: int
    seconds: float
    mix: list[str]


@dataclass(slots=True)
class Total:
    """What came of a share."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    verbs: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    wrong: Report | None = None

    def add(self, report: Report) -> None:
        """One more seed."""
        self.counts.update(seeds=1, operations=report.operations, runs=report.runs, virtual_s=round(report.virtual_s))
        self.faults.update(report.faults)
        self.verbs.update(report.verbs)
        if report.violation:
            self.wrong = report

    def join(self, other: Total) -> None:
        """Add up."""
        self.counts += other.counts
        self.faults += other.faults
        self.verbs += other.verbs
        self.cpu_s += other.cpu_s
        self.wrong = self.wrong or other.wrong


def play_share(share: Share) -> Total:
    """Play seeds on a server of their own, until one is wrong."""
    total, began, seed = Total(), time.monotonic(), share.first
    sys.unraisablehook = lambda _: None  # what was dropped in the middle of things
    with ServerProcess(selected_kind(), ServerOptions()) as real:
        server = SimulatedServer(str(real.socket_path))
        while total.wrong is None:
            over = len(range(share.first, seed, share.step)) >= share.seeds if share.seeds else False
            if over or (not share.seeds and time.monotonic() - began > share.seconds):
                break
            total.add(run_seed(server, seed, share.mix))
            seed += share.step
    total.cpu_s = time.process_time()
    return total
