"""The life of a run drawn to scale: its waits, its attempts, and a row for each step. Pure; times are epoch ms.

Places are percent of the width, so that the picture fits any screen. A long time in which nothing but waiting happened
may be folded: the scale is then the same everywhere else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from redflow.dashboard.text import duration
from redflow.types import AttemptTrace, ListedRun, RunState, StepState

MOST_ROWS: Final = 200
"""Steps that one page draws."""

_LEAST: Final = 0.35
"""Percent of the width below which nothing could be seen."""
_FOLDED: Final = 4.0
"""Percent of the width that a folded time takes."""
_STEPS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000,
    300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000,
    604_800_000, 2_592_000_000, 31_536_000_000)  # fmt: skip
_MOST_TICKS: Final = 7


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a row. `kind` is line, work, sleep, event or child; `key` names its colour."""

    x: float
    width: float
    kind: str
    key: str
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the axis, with a text."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the picture.

    Attributes:
        label: name of the step, or what else it is.
        kind: run, sleep, event, child; attempt and line for the run's own rows.
        key: state, names colour and shape.
        word: the state as a word.
        took: its length, ms; None while it is unknown.
        since: when it began, while it is open.
        bars: what is drawn.
        note: more about it: what it waits for, which attempt wrote it.
        step: the step itself.
        child: the run it started.
        child_state: status of that run, where known.
    """

    label: str
    kind: str
    key: str
    word: str
    took: int | None
    bars: Sequence[Bar]
    note: str = ""
    since: int | None = None
    step: StepState | None = None
    child: str = ""
    child_state: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The whole picture. `hidden` counts steps that it leaves out, `folded` says whether it has folded times."""

    rows: Sequence[Row]
    ticks: Sequence[Mark]
    folds: Sequence[Mark]
    start: int
    end: int
    hidden: int = 0
    folded: bool = False
    foldable: bool = False


@dataclass(slots=True)
class _Scale:
    """Puts times in their places, some of them folded."""

    start: int
    end: int
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def x(self, at: float) -> float:
        """Percent from the left."""
        at = min(max(at, self.start), self.end)
        open_ms = max(1, self.end - self.start - sum(end - start for start, end in self.gaps))
        share = (100 - _FOLDED * len(self.gaps)) / open_ms
        x, reached = 0.0, float(self.start)
        for start, end in self.gaps:
            if at <= start:
                break
            x += (start - reached) * share
            x += _FOLDED * (min(at, end) - start) / (end - start)
            reached = min(at, float(end))
        return x + max(0.0, at - reached) * share


def draw(
    run: RunState,
    steps: Sequence[StepState],
    attempts: Sequence[AttemptTrace],
    children: Iterable[ListedRun],
    now: int,
    *,
    kinds: Mapping[str, str] | None = None,
    fold: bool = False,
    first: int = 0,
) -> Timeline:
    """The picture of a run.

    Args:
        run: the run.
        steps: its steps.
        attempts: its finished attempts.
        children: runs that it started.
        now: the time until which what is open is drawn.
        kinds: which primitive each step is; a finished sleep can't be told otherwise.
        fold: fold long waits.
        first: number of the first step that is drawn.
    """
    start = run["created_at"]
    end = max(run.get("finished_at", now), start + 1)
    shown = steps[first : first + MOST_ROWS]
    gaps = _waits(run, steps, attempts, end)
    scale = _Scale(start, end, gaps if fold else [])
    by_id = {child["id"]: child for child in children}
    rows = [_line(run, scale, end), *_attempts(run, attempts, scale, end)]
    rows += [
        _step(run, step, (kinds or {}).get(step["name"]) or kind_of(step), attempts, scale, end, by_id)
        for step in shown
    ]
    folds = [Mark(scale.x((a + b) / 2), duration(b - a)) for a, b in scale.gaps]
    return Timeline(rows, _ticks(scale), folds, start, end, len(steps) - len(shown), fold and bool(gaps), bool(gaps))


def _line(run: RunState, scale: _Scale, end: int) -> Row:
    """From its creation to its first start."""
    created, started = run["created_at"], run.get("started_at")
    until = started if started is not None else end
    word = "in line" if started is not None or run["status"] == "queued" else run["status"]
    bar = _bar(scale, created, until, "line", "queued", f"before the first start: {duration(until - created)}")
    waits = started is None and "finished_at" not in run
    return Row(
        "Before the first start", "line", "queued", word, until - created, [bar], since=created if waits else None
    )


def _attempts(run: RunState, attempts: Sequence[AttemptTrace], scale: _Scale, end: int) -> list[Row]:
    rows: list[Row] = []
    for attempt in attempts:
        took = attempt["finished_at"] - attempt["started_at"]
        label = f"attempt {attempt['attempt']} {attempt['status']} after {duration(took)}"
        bar = _bar(scale, attempt["started_at"], attempt["finished_at"], "attempt", attempt["status"], label)
        error = attempt.get("error")
        note = "" if error is None else f"{error.get('name', 'Error')}: {error.get('message', '')}"
        rows.append(
            Row(f"Attempt {attempt['attempt']}", "attempt", attempt["status"], attempt["status"], took, [bar], note)
        )
    last = attempts[-1]["attempt"] if attempts else 0
    if run["attempt"] > last and "finished_at" not in run and (run["status"] != "scheduled" or "error" not in run):
        begun = attempts[-1]["finished_at"] if attempts else run.get("started_at", end)
        key = "running" if run["status"] == "running" else "asleep"
        bar = _bar(scale, begun, end, "attempt", key, f"attempt {run['attempt']} since {duration(end - begun)}")
        rows.append(Row(f"Attempt {run['attempt']}", "attempt", key, key, end - begun, [bar], since=begun))
    return rows


def _step(
    run: RunState,
    step: StepState,
    kind: str,
    attempts: Sequence[AttemptTrace],
    scale: _Scale,
    end: int,
    children: Mapping[str, ListedRun],
) -> Row:
    bars: list[Bar] = []
    for attempt in attempts:  # what earlier attempts made of it
        for trace in attempt["steps"]:
            if trace["name"] == step["name"] and trace["attempt"] < step["attempt"]:
                spent = trace["finished_at"] - trace["started_at"]
                label = f"{trace['status']} in attempt {trace['attempt']} after {duration(spent)}"
                bars.append(_bar(scale, trace["started_at"], trace["finished_at"], kind, trace["status"], label))
    began = step.get("started_at")
    until = step.get("finished_at", end)
    took = None if began is None else until - began
    waits = kind in ("sleep", "event", "child") and step["status"] == "running"
    word = "waiting" if waits else step["status"]
    key = "asleep" if waits else step["status"]
    if began is not None:
        bars.append(_bar(scale, began, until, kind, key, f"{word}, {duration(took)}"))
    child = step.get("child_run_id", "")
    state = children[child]["status"] if child in children else ""
    since = began if "finished_at" not in step and "finished_at" not in run else None
    return Row(step["name"], kind, key, word, took, bars, _note(step), since, step, child, state)


def kind_of(step: StepState) -> str:
    """Which primitive a step is, as far as its record tells."""
    if "child_run_id" in step:
        return "child"
    if "wait" in step:
        return "event"
    return "sleep" if "wait_until_at" in step else "run"


def _note(step: StepState) -> str:
    parts = [f"attempt {step['attempt']}"] if step["attempt"] > 1 else []
    wait = step.get("wait")
    if wait is not None:
        parts.append(f"event {wait['event']} with key {wait['correlation_key']}")
        if wait.get("resolved_by") == "timeout":
            parts.append("timed out")
    return ", ".join(parts)


def _bar(scale: _Scale, start: int, end: int, kind: str, key: str, label: str) -> Bar:
    x = scale.x(start)
    width = max(_LEAST, scale.x(end) - x)
    return Bar(round(min(x, 100 - _LEAST), 3), round(min(width, 100 - min(x, 100 - _LEAST)), 3), kind, key, label)


def _waits(
    run: RunState, steps: Sequence[StepState], attempts: Sequence[AttemptTrace], end: int
) -> list[tuple[int, int]]:
    """Times in which nothing began or ended, that take more than a third of the whole; at most three."""
    times = {run["created_at"], run.get("started_at", run["created_at"]), end}
    for step in steps:
        times |= {step.get("started_at", end), step.get("finished_at", end)}
    for attempt in attempts:
        times |= {attempt["started_at"], attempt["finished_at"]}
    inside = sorted(at for at in times if run["created_at"] <= at <= end)
    whole = end - run["created_at"]
    gaps = [(a, b) for a, b in pairwise(inside) if b - a > 1_000 and (b - a) * 3 > whole]
    edge = [(a + (b - a) // 50, b - (b - a) // 50) for a, b in gaps]
    return edge if len(inside) > 2 else []


def _ticks(scale: _Scale) -> list[Mark]:
    """Round times since the creation, those that lie in a fold left out."""
    whole = scale.end - scale.start - sum(b - a for a, b in scale.gaps)
    place = bisect_right(_STEPS_MS, max(1, whole) / _MOST_TICKS)
    step = _STEPS_MS[min(place, len(_STEPS_MS) - 1)]
    ticks: list[Mark] = []
    at = scale.start
    while at <= scale.end and len(ticks) < 40:
        gap = next(((a, b) for a, b in scale.gaps if a <= at <= b), None)
        if gap is not None:
            at += ((gap[1] - at) // step + 1) * step
            continue
        x = scale.x(at)
        if x < 96 and (not ticks or x - ticks[-1].x > 8):
            ticks.append(Mark(round(x, 3), duration(at - scale.start) if at > scale.start else "0"))
        at += step
    return ticks
