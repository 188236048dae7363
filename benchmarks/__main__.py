"""All benchmarks in their short form, and one table with the acceptance limits: `make bench`.

The limits are only shown here; `python -m benchmarks.acceptance` measures them in full and judges.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from benchmarks import enqueue, idle, latency, memory, runs, steps, trips
from benchmarks.acceptance import summary
from benchmarks.bench import add_options, chosen, run_and_show
from benchmarks.harness import Report

BENCHMARKS: Final = tuple(module.BENCHMARK for module in (enqueue, runs, steps, latency, memory, trips, idle))


def main() -> int:
    """Run all; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full form of each, as when it is run by itself")
    add_options(parser)
    options = parser.parse_args()
    reports: dict[str, Report] = {}
    for benchmark in BENCHMARKS:
        settings = chosen(benchmark.full if options.full else benchmark.short, options)
        report = run_and_show(benchmark, settings, options.results)
        if report is not None:
            reports[benchmark.name] = report
    print("== all medians")
    print(summary(reports))
    return 0 if len(reports) == len(BENCHMARKS) else 1


if __name__ == "__main__":
    sys.exit(main())
