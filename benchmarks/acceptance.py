"""The limits that redflow has to keep, and the command that holds it to them: exits with 1 if one is missed.

`python -m benchmarks.acceptance` runs the benchmarks of these limits in their full form. Median of all repetitions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks import idle, latency, runs, trips
from benchmarks.bench import add_options, chosen, run_and_show
from benchmarks.harness import Report, number, table


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


def missed(reports: Mapping[str, Report]) -> list[Limit]:
    """The limits that the reports don't keep; one without a report is missed."""
    return [limit for limit in LIMITS if not _kept(limit, reports)]


def summary(reports: Mapping[str, Report], *, limits_only: bool = False) -> str:
    """One table of the reports' medians, with limit and verdict where there is one."""
    by_figure = {(limit.benchmark, limit.figure): limit for limit in LIMITS}
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


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    reports: dict[str, Report] = {}
    for benchmark in _MEASURED_BY:
        report = run_and_show(benchmark, chosen(benchmark.full, options), options.results)
        if report is not None:
            reports[benchmark.name] = report
    print("== acceptance")
    print(summary(reports, limits_only=True))
    for limit in missed(reports):
        print(f"missed: {limit.benchmark}: {limit.figure}, {limit.text()}", file=sys.stderr)
    return 1 if missed(reports) else 0


if __name__ == "__main__":
    sys.exit(main())
