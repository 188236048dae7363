"""What every benchmark shares: settings, figures with all their runs, statistics, and the report."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

RESULTS: Final = Path(__file__).parent / "results"

LoopKind = Literal["asyncio", "uvloop"]
Persistence = Literal["none", "everysec", "always"]


class BenchmarkError(Exception):
    """A measurement that does not count: a run was lost, a result was wrong, a key was left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a benchmark is run with.

    Attributes:
        n: size of one repetition; each benchmark says of what.
        reps: repetitions.
        concurrency: slots of the worker, or emits at a time.
        seconds: how long to watch, for the benchmarks that only watch.
        loop: event loop of client and worker.
        url: of a running server; None starts one for this benchmark.
        server: which server to start: bundled, redis62 or redis70.
        persistence: of the started server: none, or an append-only file with that fsync.
        profile: file that takes the worker's cProfile; its figures then mean nothing.
    """

    n: int
    reps: int
    concurrency: int = 100
    seconds: float = 60.0
    loop: LoopKind = "asyncio"
    url: str | None = None
    server: str = "bundled"
    persistence: Persistence = "none"
    profile: str | None = None


@dataclass(slots=True)
class Figure:
    """One measured quantity: a value of each repetition."""

    name: str
    unit: str
    runs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of all repetitions."""
        return statistics.median(self.runs)


class Figures:
    """The figures of one benchmark, in the order in which they first appear."""

    def __init__(self) -> None:
        self._by_name: dict[str, Figure] = {}
        self.notes: list[str] = []

    def add(self, name: str, value: float, unit: str) -> None:
        """Add the value of one repetition."""
        self._by_name.setdefault(name, Figure(name, unit)).runs.append(value)

    def note(self, text: str) -> None:
        """Something a reader should know beside the numbers; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def all(self) -> list[Figure]:
        """Every figure."""
        return list(self._by_name.values())

    def get(self, name: str) -> Figure:
        """One figure.

        Raises:
            KeyError: there is none of that name.
        """
        return self._by_name[name]


@dataclass(slots=True)
class Report:
    """The outcome of one benchmark.

    Attributes:
        benchmark: its name.
        title: what it measures.
        settings: what it was run with.
        environment: versions, server, machine.
        load_before, load_after: load average of the last minute; more than about half the cores before the start
            means that others were at work, and that the figures are too low.
        figures: what was measured.
        when: start, UTC.
    """

    benchmark: str
    title: str
    settings: Settings
    environment: Mapping[str, str]
    load_before: float
    load_after: float
    figures: Figures
    when: datetime = field(default_factory=lambda: datetime.now(UTC))

    def save(self, directory: Path = RESULTS) -> Path:
        """Write it as JSON; returns the file."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.benchmark}-{self.when:%Y%m%d-%H%M%S-%f}.json"
        path.write_text(json.dumps(self._document(), indent=2) + "\n", "utf-8")
        return path

    def _document(self) -> dict[str, object]:
        return {
            "benchmark": self.benchmark,
            "title": self.title,
            "when": self.when.isoformat(),
            "environment": dict(self.environment),
            "load_average": {"before": self.load_before, "after": self.load_after},
            "settings": asdict(self.settings),
            "figures": [asdict(figure) | {"median": figure.median} for figure in self.figures.all()],
            "notes": self.figures.notes,
        }

    def text(self) -> str:
        """What is printed: versions, settings, every run, medians."""
        settings = ", ".join(f"{name}={value}" for name, value in asdict(self.settings).items() if value is not None)
        lines = [
            f"== {self.benchmark}: {self.title}",
            *(f"   {name}: {value}" for name, value in self.environment.items()),
            f"   load average: {self.load_before:.2f} before, {self.load_after:.2f} after",
            f"   settings: {settings}",
            "",
        ]
        figures = self.figures.all()
        width = max((len(figure.runs) for figure in figures), default=0)
        head = ["", *(f"run {number}" for number in range(1, width + 1)), "median", "unit"]
        rows = [
            [f.name, *map(number, f.runs), *[""] * (width - len(f.runs)), number(f.median), f.unit] for f in figures
        ]
        return "\n".join([*lines, *table(head, rows), "", *(f"   {note}" for note in self.figures.notes)]).rstrip()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed, by nearest rank.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def number(value: float) -> str:
    """A figure with three significant digits or all its whole ones."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: first column to the left, the last (a unit or a verdict) too, numbers to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        return "   " + "  ".join([*cells, row[-1]]).rstrip()

    return [line(head), "   " + "-" * (sum(widths) + 2 * (len(widths) - 1)), *map(line, rows)]
