"""Plays seeds of the simulation.

usage: python -m tests.simulation                     seeds until --minutes or --seeds are over, or one is wrong
       python -m tests.simulation --seed N            one seed, with its last events if it is wrong
       python -m tests.simulation planted             the planted bugs: each must be found, and again from its seed
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time

from tests.simulation.many import Share, Total, play_share
from tests.simulation.planted import hunt_all
from tests.simulation.server import SimulatedServer
from tests.simulation.simulation import Report, run_seed
from tests.support.servers import ServerOptions, ServerProcess, selected_kind

SHOWN = 60


def _say(text: str) -> None:
    print(text, flush=True)


def show(report: Report, lines: int = SHOWN) -> None:
    """A seed that is wrong: its last events, what is wrong, and how to see it again."""
    for line in report.trace[-lines:]:
        _say(line[:600])
    _say(f"seed {report.seed}: {report.violation[:4000]}")


def _one(seed: int, mix: list[str], lines: int) -> int:
    with ServerProcess(selected_kind(), ServerOptions()) as real:
        report = run_seed(SimulatedServer(str(real.socket_path)), seed, mix)
    if report.violation:
        show(report, lines)
    _say(
        f"seed {report.seed}: {report.operations} operations, {report.virtual_s:.1f} virtual s, {report.real_s:.2f} s, "
        f"history {report.digest}, faults {report.faults}"
    )
    return 1 if report.violation else 0


def _many(options: argparse.Namespace, mix: list[str]) -> int:
    first = secrets.randbelow(10**9) if options.first is None else options.first
    jobs, began, total = options.jobs, time.monotonic(), Total()
    _say(f"seeds from {first}, {jobs} at a time")
    shares = [
        Share(first + job, jobs, -(-options.seeds // jobs), options.minutes * 60, mix) for job in range(jobs)
    ]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:  # forked ones would share what is simulated
        for share in pool.imap_unordered(play_share, shares):
            total.join(share)
            if total.wrong is not None:
                break  # the others are ended, too
    elapsed, operations = time.monotonic() - began, total.counts["operations"]
    if total.wrong is not None:
        show(total.wrong, options.lines)
        only = f" ARGS='--only {options.only}'" if mix else ""
        _say(f"again: make simulate SEED={total.wrong.seed}{only}")
    _say(
        f"{dict(total.counts)} in {elapsed:.1f} s: {operations / elapsed:.0f} operations/s, "
        f"{operations / max(total.cpu_s, 0.001):.0f} for each second of processor; faults {dict(total.faults)}"
    )
    _say(f"calls: {dict(total.verbs.most_common())}")
    return 1 if total.wrong is not None else 0


def main() -> int:
    """The command line; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", nargs="?", choices=["play", "planted"], default="play")
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--first", type=int, default=None, help="the first of many seeds; else drawn")
    parser.add_argument("--seeds", type=int, default=0, help="how many; 0: until the minutes are over")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, each with a server")
    parser.add_argument("--only", default="", help="workflows, with commas; of planted bugs: a part of the name")
    parser.add_argument("--lines", type=int, default=SHOWN, help="how many events before a violation are shown")
    options = parser.parse_args()
    mix = [name for name in options.only.split(",") if name]
    sys.unraisablehook = lambda _: None  # what was dropped in the middle of things
    if options.command == "planted":
        with ServerProcess(selected_kind(), ServerOptions()) as real:
            return 1 if hunt_all(real, options.only, _say) else 0
    return _one(options.seed, mix, options.lines) if options.seed is not None else _many(options, mix)


if __name__ == "__main__":
    sys.exit(main())
