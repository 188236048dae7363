"""Plays seeds of the simulation.

usage: python -m tests.simulation                     seeds without end, or until --minutes or --seeds are over
       python -m tests.simulation --seed N            one seed, with its history if it fails
       python -m tests.simulation planted             the planted bugs: each must be found, and again from its seed
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter

from tests.simulation.planted import hunt_all
from tests.simulation.server import SimulatedServer
from tests.simulation.simulation import Report, run_seed
from tests.support.servers import ServerOptions, ServerProcess, selected_kind

SHOWN = 60


def _say(text: str) -> None:
    print(text, flush=True)


def show(report: Report, lines: int = SHOWN) -> None:
    """A seed that failed: its last events, what is wrong, and how to see it again."""
    for line in report.trace[-lines:]:
        _say(line[:600])
    _say(f"seed {report.seed}: {report.violation[:4000]}")
    _say(f"again: make simulate SEED={report.seed}")


def main() -> int:
    """The command line; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", nargs="?", choices=["play", "planted"], default="play")
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--first", type=int, default=None, help="the first of many seeds; else drawn")
    parser.add_argument("--seeds", type=int, default=0, help="how many; 0: until the minutes are over")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--only",
        default="",
        help="workflows, with commas; of planted bugs: a part of the name",
    )
    parser.add_argument("--lines", type=int, default=SHOWN, help="how many events before a violation are shown")
    options = parser.parse_args()
    mix = [name for name in options.only.split(",") if name]
    with ServerProcess(selected_kind(), ServerOptions()) as real:
        if options.command == "planted":
            return 1 if hunt_all(real, options.only, _say) else 0
        server = SimulatedServer(str(real.socket_path))
        if options.seed is not None:
            report = run_seed(server, options.seed, mix)
            if report.violation:
                show(report, options.lines)
            _say(f"seed {report.seed}: {report.operations} operations, {report.virtual_s:.1f} virtual s, "
                 f"{report.real_s:.2f} s, history {report.digest}, faults {report.faults}")  # fmt: skip
            return 1 if report.violation else 0
        first = secrets.randbelow(10**9) if options.first is None else options.first
        return _many(server, first, options.seeds, options.minutes * 60, mix, options.lines)


def _many(server: SimulatedServer, first: int, seeds: int, seconds: float, mix: list[str], lines: int) -> int:
    _say(f"seeds from {first}")
    began, totals, faults, verbs = time.monotonic(), Counter[str](), Counter[str](), Counter[str]()
    seed = first
    while (seeds and seed < first + seeds) or (not seeds and time.monotonic() - began < seconds):
        report = run_seed(server, seed, mix)
        seed += 1
        totals.update(seeds=1, operations=report.operations, runs=report.runs, virtual_s=round(report.virtual_s))
        faults.update(report.faults)
        verbs.update(report.verbs)
        if report.violation:
            show(report, lines)
            break
    elapsed = time.monotonic() - began
    _say(f"{dict(totals)} in {elapsed:.1f} s: {totals['operations'] / elapsed:.0f} operations/s, faults {dict(faults)}")
    _say(f"calls: {dict(verbs.most_common())}")
    return 1 if report.violation else 0


if __name__ == "__main__":
    sys.exit(main())
