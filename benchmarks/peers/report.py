"""The outcome: collected while measuring, written as JSON, and shown as Markdown tables made from that JSON alone."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypedDict

from benchmarks.harness import number
from benchmarks.peers.catalogue import Class, Peer
from benchmarks.peers.goals import LIMIT, QUEUE, Medians, Verdict, judge


@dataclass(frozen=True, slots=True)
class Column:
    """A figure as it is shown.

    Attributes:
        figure: its name.
        title: head of its column.
        unit: of it.
    """

    figure: str
    title: str
    unit: str


COLUMNS: Final = (
    Column("live", "live", "runs/s"),
    Column("drain", "draining", "runs/s"),
    Column("two", "draining, two workers", "runs/s"),
    Column("serial", "draining, concurrency 1", "runs/s"),
    Column("steps", "steps", "steps/s"),
    Column("p50", "result p50", "ms"),
    Column("p99", "result p99", "ms"),
    Column("children", "100 children", "ms"),
    Column("cpu", "worker CPU", "ms/run"),
    Column("bytes", "bytes, tiny", "bytes/run"),
    Column("bytes-200", "bytes, 200 B", "bytes/run"),
    Column("single", "single emits", "emits/s"),
    Column("bulk", "bulk emits", "emits/s"),
    Column("idle", "idle worker", "commands/s"),
)
_RATES: Final = ("live", "drain", "two", "serial", "steps", "single", "bulk")
_COSTS: Final = ("p50", "p99", "children", "cpu", "bytes", "bytes-200", "idle")


class System(TypedDict):
    """One system in the JSON."""

    title: str
    what: Class
    promises: str
    setting: str
    versions: str
    store: str
    sizes: dict[str, int]
    figures: dict[str, list[float]]
    failures: list[str]


class Load(TypedDict):
    """Load average of the last minute, before and after."""

    before: float
    after: float
    highest: float


class Document(TypedDict):
    """The JSON."""

    when: str
    machine: str
    settings: dict[str, str | int | float]
    load_average: Load
    systems: dict[str, System]
    goals: list[dict[str, str | float | bool | None]]


@dataclass(slots=True)
class Results:
    """What has been measured so far.

    Attributes:
        machine: what it was measured on.
        settings: how.
        systems: by name, in the order of the catalogue.
        loads: load averages, one before each cell.
        when: start, UTC.
    """

    machine: str
    settings: dict[str, str | int | float]
    systems: dict[str, System] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)
    when: datetime = field(default_factory=lambda: datetime.now(UTC))

    def admit(self, peer: Peer, versions: str) -> None:
        """Give a system its place; without versions if it can't be measured."""
        self.systems[peer.name] = System(
            title=peer.title,
            what=peer.what,
            promises=peer.promises,
            setting=peer.setting,
            versions=versions,
            store=peer.store,
            sizes=asdict(peer.sizes),
            figures={},
            failures=[],
        )

    def add(self, name: str, figures: dict[str, float], store_settings: str) -> None:
        """The figures of one cell."""
        system = self.systems[name]
        for figure, value in figures.items():
            system["figures"].setdefault(figure, []).append(value)
        system["store"] = store_settings or system["store"]

    def fail(self, name: str, why: str) -> None:
        """A cell that does not count."""
        failures = self.systems[name]["failures"]
        if why not in failures:
            failures.append(why)

    def document(self) -> Document:
        """Everything, with the goals judged."""
        loads = self.loads or [os.getloadavg()[0]]
        return Document(
            when=self.when.isoformat(timespec="seconds"),
            machine=self.machine,
            settings=self.settings,
            load_average=Load(before=loads[0], after=loads[-1], highest=max(loads)),
            systems=self.systems,
            goals=[asdict(verdict) for verdict in verdicts(self.systems)],
        )

    def save(self, directory: Path) -> Path:
        """Write the JSON; the same file each time."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"peers-{self.when:%Y%m%d-%H%M%S}.json"
        path.write_text(json.dumps(self.document(), indent=2) + "\n", "utf-8")
        return path


def load(path: Path) -> Document:
    """Read what `save` wrote."""
    document: Document = json.loads(path.read_text("utf-8"))
    return document


def medians(systems: dict[str, System]) -> Medians:
    """The median of each figure of each system."""
    return {
        name: {figure: statistics.median(values) for figure, values in system["figures"].items()}
        for name, system in systems.items()
    }


def verdicts(systems: dict[str, System]) -> list[Verdict]:
    """The goals, judged."""
    durable = frozenset(name for name, system in systems.items() if system["what"] == "durable")
    return judge(medians(systems), durable)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(document: Document) -> str:
    """All tables: rates, costs, ratios, goals, and who was measured how."""
    systems = document["systems"]
    found = medians(systems)
    load_average = document["load_average"]
    taken = (
        f"Measured {document['when']} on {document['machine']}; load average {load_average['before']:.2f} before, "
        f"{load_average['after']:.2f} after, {load_average['highest']:.2f} at most."
    )
    parts = [
        taken,
        "Settings: " + ", ".join(f"{name} {value}" for name, value in document["settings"].items()) + ".",
        "## Rates: more is better",
        _figures(systems, found, _RATES),
        "## Costs: less is better",
        _figures(systems, found, _COSTS),
        f"## Ratios to {QUEUE}",
        _ratios(found, QUEUE),
        f"## Ratios to the minimal loop, `{LIMIT}`",
        _ratios(found, LIMIT),
        "## Goals",
        _goals(verdicts(systems)),
        "## Who promises what, and how it was run",
        _who(systems),
    ]
    if failures := _failures(systems):
        parts += ["## What was not measured, and why", failures]
    return "\n\n".join(parts) + "\n"


def _columns(figures: Sequence[str], found: Medians) -> list[Column]:
    return [c for c in COLUMNS if c.figure in figures and any(c.figure in of_one for of_one in found.values())]


def _figures(systems: dict[str, System], found: Medians, figures: Sequence[str]) -> str:
    columns = _columns(figures, found)
    head = ["system", *(f"{column.title}, {column.unit}" for column in columns)]
    rows = [[_named(name, systems[name]), *(_shown(found[name], c.figure) for c in columns)] for name in systems]
    return _table(head, rows)


def _ratios(found: Medians, base: str) -> str:
    reference = found.get(base, {})
    if not reference:
        return f"{base} was not measured."
    columns = [column for column in COLUMNS if reference.get(column.figure)]
    rows = []
    for name, figures in found.items():
        ratios = [number(figures[c.figure] / reference[c.figure]) if c.figure in figures else "–" for c in columns]
        rows.append([f"`{name}`", *ratios])
    return _table(["system", *(column.title for column in columns)], rows)


def _goals(judged: Iterable[Verdict]) -> str:
    def text(value: float | None) -> str:
        return "not measured" if value is None else number(value)

    rows = [["x" if v.passed else " ", v.goal, text(v.value), text(v.bound)] for v in judged]
    return "\n".join(f"- [{mark}] {goal}: {value}, limit {bound}" for mark, goal, value, bound in rows)


def _who(systems: dict[str, System]) -> str:
    return "\n".join(
        f"- **{name}** ({system['title']}; {system['versions'] or 'not installed'}; store: {system['store']}). "
        f"*Promises:* {system['promises']} *Setting:* {system['setting']}"
        for name, system in systems.items()
    )


def _failures(systems: dict[str, System]) -> str:
    return "\n".join(f"- **{name}**: {why}" for name, system in systems.items() for why in system["failures"])


def _named(name: str, system: System) -> str:
    return f"`{name}` ({system['title']})"


def _shown(figures: Mapping[str, float], figure: str) -> str:
    value = figures.get(figure)
    return "–" if value is None else number(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
