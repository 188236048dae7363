"""The limits that redflow has to keep, and the command that holds it to them: exits with 1 if one is missed.

`python -m benchmarks.acceptance` holds it to the limits of speed, with `contract` behind it to those of what runs do to
each other, with `scale` to those of very many runs and workers, with `all` to all. The benchmarks of these limits run
in their full form, with --short in their short one. Median of all repetitions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks import (
    backlog,
    blocked,
    bursts,
    dashboard,
    fanout,
    idle,
    latency,
    mutex,
    pages,
    prices,
    races,
    runs,
    trips,
    waiters,
    workers,
)
from benchmarks.bench import Benchmark, add_options, chosen, run_and_show
from benchmarks.crowds import BLOCKS
from benchmarks.harness import Report, number, table
from tests.support.races import KINDS


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure's median must keep.

    Attributes:
        benchmark: its benchmark.
        figure: its name there.
        kind: whether the bound is the most or the least it may be.
        bound: in the figure's unit.
    """

    benchmark: str
    figure: str
    kind: Literal["at most", "at least"]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a value keeps the limit."""
        return value <= self.bound if self.kind == "at most" else value >= self.bound

    def text(self) -> str:
        """The limit in words."""
        return f"{self.kind} {self.bound:,g}"


LIMITS: Final = (
    Limit("idle", "top-level commands", "at most", 2),
    Limit("trips", "script calls for 1,000 runs", "at most", 4050),
    Limit("latency", "p50", "at most", 5),
    Limit("latency", "p99", "at most", 15),
    Limit("runs", "live", "at least", 1500),
    Limit("runs", "draining", "at least", 1500),
)

_MEASURED_BY: Final = (idle.BENCHMARK, trips.BENCHMARK, latency.BENCHMARK, runs.BENCHMARK)


CONTRACT_LIMITS: Final = (
    *(
        limit
        for kind in KINDS
        for limit in (
            *(Limit("races", f"{kind.name}: {side}", "at least", 10) for side in kind.sides),
            Limit("races", f"{kind.name}: disagreements", "at most", 0),
        )
    ),
    Limit("waiters", "emit to the last result", "at most", 5),
    Limit("waiters", "not resumed, or resumed twice", "at most", 0),
    Limit("fanout", "10 ms steps: 100 subscribers, beside one run", "at most", 10),
    Limit("fanout", "10 ms steps: 100 children, beside one run", "at most", 10),
    Limit("mutex", "overlaps", "at most", 0),
    Limit("mutex", "hand-over p99", "at most", 20),
    Limit("mutex", "while the line stands: commands of each worker", "at most", 4),
    *(Limit("blocked", f"{block}: p99 behind beside alone", "at most", 2) for block in BLOCKS),
    Limit("pages", "dearest of all", "at most", 2),
)
"""What runs do to each other, and what many of them cost. The commands of a worker behind a standing line are those of
an idle one, two a second, and the renewals of the holder's lease."""

_CONTRACT_MEASURED_BY: Final = tuple(module.BENCHMARK for module in (races, waiters, fanout, mutex, blocked, pages))


SCALE_LIMITS: Final = (
    *(Limit("backlog", f"claim of {want}: p99, n beside 1,000", "at most", 2) for want in (1, 100)),
    Limit("backlog", "drain: deep beside shallow", "at least", 0.9),
    *(
        Limit("bursts", f"{verb}: {bursts.CHUNK} of n, longest by CPU", "at most", bursts.LIMIT_MS)
        for verb in ("promote_runs", "purge_runs")
    ),
    Limit("dashboard", dashboard.SLOWEST, "at most", dashboard.LIMIT_MS),
    *(Limit("prices", f"{verb}, {cap} at a time", "at most", 5) for verb, cap in prices.CAPS.items()),
    *(Limit("workers", f"{kind}, 8: least share", "at least", 0.5) for kind in workers.KINDS),
    *(Limit("workers", f"{kind}, 8: beside one", "at least", 0.8) for kind in workers.KINDS),
)
"""What does not grow with the number of runs and workers. Scripts are held to 10 ms of CPU where very many runs meet
them, the longest of all, and to half of that on average where a call has as much to do as it may. By the clock, which
stands beside it, a machine with other work to do makes any script longer. Eight workers on few cores can't do more than
one, but must not do less."""

_SCALE_MEASURED_BY: Final = tuple(module.BENCHMARK for module in (backlog, bursts, dashboard, prices, workers))


def missed(reports: Mapping[str, Report], limits: Sequence[Limit] | None = None) -> list[Limit]:
    """The limits (None: those of speed) that the reports don't keep; one without a report is missed."""
    return [limit for limit in (LIMITS if limits is None else limits) if not _kept(limit, reports)]


def summary(reports: Mapping[str, Report], *, limits_only: bool = False, limits: Sequence[Limit] | None = None) -> str:
    """One table of the reports' medians, with limit and verdict where there is one."""
    by_figure = {(limit.benchmark, limit.figure): limit for limit in (LIMITS if limits is None else limits)}
    rows: list[list[str]] = []
    for name, report in reports.items():
        for figure in report.figures.all():
            limit = by_figure.get((name, figure.name))
            if limit is None and (limits_only or figure.name.startswith(" ")):
                continue
            verdict = "" if limit is None else "pass" if limit.holds(figure.median) else "FAIL"
            bound = "" if limit is None else limit.text()
            rows.append([f"{name}: {figure.name}", number(figure.median), bound, verdict, figure.unit])
    return "\n".join(table(["", "median", "limit", "verdict", "unit"], rows))


def _kept(limit: Limit, reports: Mapping[str, Report]) -> bool:
    report = reports.get(limit.benchmark)
    return report is not None and limit.holds(report.figures.get(limit.figure).median)


_CHOICES: Final = ("speed", "contract", "scale", "all")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    parser.add_argument("which", nargs="?", choices=_CHOICES, default="speed", help="which limits")
    parser.add_argument("--only", action="append", metavar="BENCHMARK", help="only the limits of this one; repeatable")
    parser.add_argument("--short", action="store_true", help="the short form of each, to see that it works")
    add_options(parser)
    options = parser.parse_args()
    benchmarks: list[Benchmark] = []
    limits: list[Limit] = []
    if options.which in ("speed", "all"):
        benchmarks += _MEASURED_BY
        limits += LIMITS
    if options.which in ("contract", "all"):
        benchmarks += _CONTRACT_MEASURED_BY
        limits += CONTRACT_LIMITS
    if options.which in ("scale", "all"):
        benchmarks += _SCALE_MEASURED_BY
        limits += SCALE_LIMITS
    if options.only:
        benchmarks = [benchmark for benchmark in benchmarks if benchmark.name in options.only]
        limits = [limit for limit in limits if limit.benchmark in options.only]
    reports: dict[str, Report] = {}
    for benchmark in benchmarks:
        settings = benchmark.short if options.short else benchmark.full
        report = run_and_show(benchmark, chosen(settings, options), options.results)
        if report is not None:
            reports[benchmark.name] = report
    print("== acceptance")
    print(summary(reports, limits_only=True, limits=limits))
    for limit in missed(reports, limits):
        print(f"missed: {limit.benchmark}: {limit.figure}, {limit.text()}", file=sys.stderr)
    return 1 if missed(reports, limits) else 0


if __name__ == "__main__":
    sys.exit(main())
