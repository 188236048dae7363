"""Writes the page of the documentation from a measurement, so that its tables are what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.peers.cells import Plan
from benchmarks.peers.environments import ROOT
from benchmarks.peers.report import Document, markdown

PAGE: Final = ROOT / "docs" / "explanation" / "benchmarks.md"

_FULL: Final = Plan()
_QUIET: Final = 1.0
"""Load average of a machine that nobody else uses, at most."""

_HEAD: Final = """\
# Benchmarks beside other systems

<!-- Written by `python -m benchmarks.peers --write-docs FILE`; changes by hand are lost with the next measurement. -->

What a user would take in place of redflow, on the same work and the same machine, in one run. `make bench-peers` makes
this table again: it makes the environments of all systems by itself and takes about an hour.

Figures of other machines are others; compare ratios, and only what was measured in the same run. Queues and durable
engines don't promise the same; [what each promises](#who-promises-what-and-how-it-was-run) stands below the tables.

"""

_TAIL: Final = """
## What is measured

- **The work** is next to nothing, so that a figure is the system's: a run of one step (a job of a queue) doubles a
  number; a run of ten steps adds ten times one, each step recorded before the next begins.
- **Live**: a client starts single runs, a hundred under way at a time (one after another where the library is not
  asynchronous), while one worker process of concurrency 100 works; from the first emit to the last end. **Draining**:
  the backlog is there before the worker starts; from the first work begun to the last end. **Concurrency 1** and **two
  workers** drain too.
- **Result**: from emit to result in another process, one after another, in the way the system offers for that.
  **100 children**: a run that starts 100 runs and waits for all; of a queue, 100 jobs that a client starts in the
  fastest way it has and waits for. Median of five.
- **Worker CPU** is that of the worker process and its children, live, user and system, as the operating system counts
  it. The store's CPU is not in it.
- **Bytes** is what the store has grown by, once all have ended, for each finished run with all that the system keeps of
  it by default; Redis: `used_memory` without connections' buffers. A few thousand runs of each: slower systems have
  fewer, which makes their figures slightly larger.
- **Emits** is what one client process starts, with no worker there: single as in live, bulk in calls of 1,000
  where the system has such a call (the minimal loop: one script of 100 after another).
- **Idle worker**: commands a second that arrive at Redis from a worker of concurrency 100 with nothing to do, those
  inside of scripts left out.
- **A figure counts only if it is right.** After each measurement every output is read back from the store, and of the
  durable engines every step record; one that is missing or wrong voids the measurement.
- **Every measurement has a fresh store**; the systems take turns with each workload, and all of it is repeated; the
  tables show medians. Retention, leases, indexes and everything else that a system does by default is on.
- **Persistence** is the same for all: off, unless the settings above say otherwise. Redis writes no file; Postgres and
  SQLite don't wait for the disk; Temporal's dev server keeps its state in memory. With persistence on, those that write
  more often lose more.
"""


def write_docs(document: Document, page: Path = PAGE) -> Path:
    """Write the page; returns its path."""
    page.write_text(_HEAD + _caution(document) + markdown(document) + _TAIL, "utf-8")
    return page


def _caution(document: Document) -> str:
    """What makes these figures less than a full measurement on a machine of its own, if anything does."""
    settings, load_before = document["settings"], document["load_average"]["before"]
    reasons = []
    if int(settings["reps"]) < _FULL.reps:
        reasons.append(f"{settings['reps']} repetition(s) in place of {_FULL.reps}")
    if float(settings["scale"]) < _FULL.scale:
        reasons.append(f"sizes of {settings['scale']} of the full ones")
    if load_before > _QUIET:
        reasons.append(f"others were at work on the machine (load average {load_before:.2f} before the start)")
    if not reasons:
        return ""
    return f"**These figures are preliminary:** {'; '.join(reasons)}. Don't compare with them.\n\n"
