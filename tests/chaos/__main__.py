"""The commands of the chaos tests.

usage: python -m tests.chaos planted [--only TEXT] [--seed N]
       python -m tests.chaos crash-points [--share 0..1] [--seed N] [--only SCENARIO]
       python -m tests.chaos soak [--rounds N | --full] [--seed N] [--minutes M] [--report FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.checker import Quotas
from tests.chaos.crash_points import SCENARIOS, Enumerator
from tests.chaos.planted import hunt, read_bugs
from tests.chaos.processes import ForkServer
from tests.chaos.soak import FULL, soak, write_json
from tests.chaos.sources import make_sources
from tests.support.servers import ServerOptions, ServerProcess, selected_kind


def _say(text: str) -> None:
    print(text, flush=True)


async def planted(options: argparse.Namespace) -> int:
    """Every planted bug must be found."""
    bugs = [bug for bug in read_bugs() if options.only in bug.id or options.only == bug.invariant]
    bugs = bugs[options.skip :]
    began, missed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="redflow-planted-", dir="/tmp") as directory:
        for bug in bugs:
            missed += not await hunt(bug, options.seed, Path(directory), _say)
    _say(f"planted: {len(bugs) - missed} of {len(bugs)} bugs found in {time.monotonic() - began:.0f} s")
    return 1 if missed or not bugs else 0


async def crash_points(options: argparse.Namespace) -> int:
    """Every round trip of every scenario, or a share of them."""
    directory = Path(tempfile.mkdtemp(prefix="redflow-crash-points-", dir="/tmp"))
    sources = make_sources(directory)
    scenarios = tuple(name for name in SCENARIOS if options.only in name)
    with ServerProcess(selected_kind(), ServerOptions(appendonly=True)) as server:
        async with ForkServer(sources) as fork:
            enumerator = Enumerator(server, fork, sources, directory, options.seed)
            report = await enumerator.run(scenarios, options.share, options.jobs, options.minutes * 60)
    _say(report.text())
    if report.bad:
        _say(f"ledgers of what went wrong: {directory}")
    return 1 if report.bad else 0


async def soaked(options: argparse.Namespace) -> int:
    """Storms until the quotas are met."""
    directory = Path(tempfile.mkdtemp(prefix="redflow-soak-", dir="/tmp"))
    quotas = FULL if options.full else Quotas()
    total = await soak(
        directory, options.seed, quotas, rounds=options.rounds, plays=options.plays, seconds=options.minutes * 60,
        say=_say,
    )  # fmt: skip
    _say(total.text(quotas))
    write_json(total, quotas, Path(options.report))
    if total.violations or total.restless:
        _say(f"ledgers of what went wrong: {directory}")
    return 1 if total.failed(quotas) else 0


def main() -> int:
    """The command line; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=["planted", "crash-points", "soak"])
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", default="")
    parser.add_argument("--skip", type=int, default=0, help="so many bugs of the catalogue are left out")
    parser.add_argument("--share", type=float, default=1.0, help="the part of all crash points that is played")
    parser.add_argument("--jobs", type=int, default=8, help="plays at a time")
    parser.add_argument("--minutes", type=float, default=180.0, help="nothing begins after this time")
    parser.add_argument("--full", action="store_true", help="soak until all quotas of the goal are met")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of the soak; 0: as many as the quotas want")
    parser.add_argument("--plays", type=int, default=1_000, help="primitives that each client plays in a round")
    parser.add_argument("--report", default="reliability.json", help="where the soak writes its figures")
    options = parser.parse_args()
    _say(f"seed {options.seed}")
    command = {"planted": planted, "crash-points": crash_points, "soak": soaked}[options.command]
    return asyncio.run(command(options))


if __name__ == "__main__":
    sys.exit(main())
