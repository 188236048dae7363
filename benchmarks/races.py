"""Races that must end in one outcome: emit against wait, cancel against finish, time-out against event.

`n` races of each kind, 50 at a time, by one process that is client and worker at once. After each race everybody who
can tell is asked: what emit or cancel answered, get_run, get_run_steps, get_run_attempts, get_event, the result; and in
the end list_runs. A disagreement is printed with all that was said.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import Settings
from tests.support.invariants import violations
from tests.support.races import KINDS, Races

_SHOWN: Final = 20


async def measure(bench: Bench) -> None:
    """`n` races of each kind."""
    n, figures = bench.settings.n, bench.figures
    for _ in range(bench.settings.reps):
        for kind in KINDS:
            async with bench.world() as client:
                started = time.perf_counter()
                tally = await Races(client, bench.url).run(kind, n, at_a_time=bench.settings.concurrency)
                seconds = time.perf_counter() - started
                faults = tally.faults + await violations(client.connection, client.prefix)
            figures.add(f"{kind.name}: races", tally.wins.total(), "races")
            for side in kind.sides:
                figures.add(f"{kind.name}: {side}", 100 * tally.share(side), "% of races")
            figures.add(f"{kind.name}: disagreements", len(faults), "races")
            figures.add(f"{kind.name}: time", seconds, "s")
            for fault in faults[:_SHOWN]:
                figures.note(fault)


BENCHMARK: Final = Benchmark(
    name="races",
    title="races of two sides over one run; every reader is asked for the outcome",
    measure=measure,
    full=Settings(n=10_000, reps=1, concurrency=50),
    short=Settings(n=200, reps=1, concurrency=20),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
