"""Invariants of order: who is next in line, how late a time is kept, and what stands in lists (12 and 25)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from tests.chaos.history import History
from tests.chaos.rules_gates import not_before_its_time

LATEST_P99_MS: Final = 500.0
"""How late 99 of 100 times may be kept by workers that nobody harms."""
_GATED: Final = frozenset(("mutex", "append", "limited", "throttled", "rated", "debounced"))
"""Workflows whose runs may have to stand aside for others, and come back into their line."""


def order_and_time(history: History, examined: Counter[str]) -> Iterator[str]:
    """12: nothing before its time, nothing long after it, and first come, first served."""
    yield from not_before_its_time(history, examined)
    yield from _late(history, examined)
    yield from _in_line(history, examined)


def _late(history: History, examined: Counter[str]) -> Iterator[str]:
    """Sleeps, retries and debounces are made ready in time, where nothing happened to anybody."""
    late: list[tuple[float, str]] = []
    for trail in history.trails.values():
        due: int | None = None
        if trail.workflow == "throttled":
            continue  # moves on with its window
        for note in trail.of("due", "status"):
            if note.kind == "due":
                due = int(note.words[0])
            elif note.words[0] == "queued" and note.verb == "promote_runs" and due is not None:
                if _undisturbed(history, due, note.at_ms):
                    late.append((float(note.at_ms - due), trail.run))
                due = None
    examined["12"] += len(late)
    late.sort()
    if late:
        most, run = late[min(len(late) - 1, int(len(late) * 0.99))]
        if most > LATEST_P99_MS:
            yield f"99 of 100 of {len(late)} times are kept within {most:.0f} ms only, such as that of run {run}"


def _undisturbed(history: History, since_ms: float, until_ms: float) -> bool:
    """Whether no fault of any process, and no pause of one, lies in a span of time or shortly before."""
    since_ms -= 2 * history.lease_ms
    for fault in history.faults:
        begins = fault.real_ms - float(fault.data.get("ms", 0))
        if begins <= until_ms and fault.real_ms + float(fault.data.get("lasts", 0)) >= since_ms:
            return False
    return True


def _in_line(history: History, examined: Counter[str]) -> Iterator[str]:
    """Of the runs of a queue that nothing keeps back, the one that has waited longest is claimed first."""
    lines: dict[str, dict[str, None]] = defaultdict(dict)
    for note in history.audit:
        if note.kind != "status" or history.trails[note.run].workflow in _GATED:
            continue
        line = lines[next((queue.words[0] for queue in history.trails[note.run].of("queue")), "")]
        if note.words[0] == "running" and note.run in line:
            examined["12"] += 1
            first = next(iter(line))
            if first != note.run:
                yield f"run {note.run} was claimed before run {first}, which came first"
        line.pop(note.run, None)
        if note.words[0] == "queued":
            line[note.run] = None


def lists(history: History, examined: Counter[str]) -> Iterator[str]:
    """25: what runs appended to a list, one at a time, stands there in one order, once, and nothing is lost."""
    seen: dict[str, list[tuple[int, list[Any]]]] = defaultdict(list)
    for run in history.of_workflow("append"):
        if history.runs[run].get("s") != "succeeded":
            continue
        examined["25"] += 1
        asked, output = history.input_of(run), history.output_of(run)
        if not isinstance(output, list):
            yield f"run {run} found its place in list {asked['list']!r} taken by {output}, though it had the mutex"
        elif output.count(asked["n"]) != 1 or output[-1] != asked["n"]:
            yield f"run {run} appended {asked['n']} to list {asked['list']!r} and saw {output}"
        else:
            seen[str(asked["list"])].append((asked["n"], output))
    for key, outputs in seen.items():
        outputs.sort(key=lambda one: len(one[1]))
        for (_, shorter), (number, longer) in pairwise(outputs):
            if longer[: len(shorter)] != shorter or len(longer) == len(shorter):
                yield f"list {key!r} was {shorter} for one run and {longer} for that which appended {number}"
        if missing := {number for number, _ in outputs} - set(outputs[-1][1]):
            yield f"list {key!r} has lost {sorted(missing)}"
