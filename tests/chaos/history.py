"""What the checker judges: the ledger of the processes, the audit of the server, and what is left at the end.

All of it is plain data, so that the checker is a pure function and a test can write a history by hand.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.chaos.ledger import Entry
from tests.support.keyspace import Snapshot

TERMINAL: Final = frozenset(("succeeded", "failed", "canceled"))
_OF_RUNS: Final = frozenset(
    (
        *("status", "fence", "token", "attempt", "cancel", "deaths", "due", "mutex", "admitted", "parent", "workflow"),
        *("decided", "queue", "rearmed", "finished", "step", "lease", "purged", "without k", "without a"),
        *("payload o", "payload e", "payload i"),
    )
)
"""Kinds of notes that are about a run."""
FREEZES: Final = frozenset(("stop", "stall"))
"""What keeps a process from doing what it was about to do until later."""
CLOCK_SLACK_MS: Final = 5.0
"""How far a process's wall clock and the server's, both of this machine, may be apart by rounding and scheduling."""


@dataclass(frozen=True, slots=True)
class Note:
    """One write that a script made.

    Attributes:
        order: position of the script among all scripts; notes of one script share it.
        at_ms: the server's time.
        verb: the script.
        kind: what was written: status, fence, token, step, lease, owner, …
        run: id of the run, or of what else it is about.
        words: further words, as audit.lua tells them.
    """

    order: int
    at_ms: int
    verb: str
    kind: str
    run: str
    words: tuple[str, ...] = ()


@dataclass(slots=True)
class Claim:
    """One claim of a run, from the audit.

    Attributes:
        fence, token: of the lease.
        order, at_ms: when it was made.
        lease_ms: until when the lease holds, as last prolonged, server's time.
        ended: position of the script that ended it; None while it holds.
        ended_by, ended_ms: that script, and its time.
    """

    fence: int
    token: str
    order: int
    at_ms: int
    lease_ms: int = 0
    ended: int | None = None
    ended_by: str = ""
    ended_ms: int = 0

    @property
    def worker(self) -> str:
        """Who holds it."""
        return self.token.partition(".")[0]


@dataclass(slots=True)
class Trail:
    """Everything that the audit has of one run."""

    run: str
    workflow: str = ""
    parent: str = ""
    notes: list[Note] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    """Claims that were made while another held."""

    def of(self, *kinds: str) -> list[Note]:
        """Its notes of some kinds."""
        return [note for note in self.notes if note.kind in kinds]

    @property
    def statuses(self) -> list[Note]:
        """Its changes of status."""
        return self.of("status")

    def claim(self, fence: int) -> Claim | None:
        """The claim of a fence."""
        return next((claim for claim in self.claims if claim.fence == fence), None)


@dataclass(slots=True)
class History:
    """A whole run of a scenario or a soak.

    Attributes:
        ledger: what the processes told, by time.
        audit: what the server's scripts wrote, in order.
        snapshot: every key under the prefix, at the end.
        stats: counts by status that get_stats() told at the end.
        foreign: keys outside of the prefix that were not there at the beginning, or are gone.
        lease_ms: of all workers.
        ended_ms: wall clock of the snapshot.
        concurrency: of each worker.
    """

    ledger: list[Entry]
    audit: list[Note]
    snapshot: Snapshot = field(default_factory=lambda: Snapshot({}, []))
    stats: dict[str, int] | None = None
    foreign: list[str] = field(default_factory=list)
    lease_ms: int = 300
    ended_ms: float = 0.0
    trails: dict[str, Trail] = field(init=False)
    runs: dict[str, dict[str, str]] = field(init=False)
    faults: list[Entry] = field(init=False)
    cut_off: list[Entry] = field(init=False)
    pids: dict[str, int] = field(init=False)
    concurrency: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.trails = trails_of(self.audit)
        self.runs = {run: self.snapshot.hash(f"run:{run}") for run in self.snapshot.names("run:")}
        self.faults = [entry for entry in self.ledger if entry.kind in ("fault", "stall", "died")]
        self.cut_off = list(self._cut_off())
        ups = self.of("up")
        self.pids = {entry.data["worker"]: entry.pid for entry in ups}
        self.concurrency = {entry.data["worker"]: entry.data["concurrency"] for entry in ups}

    def _cut_off(self) -> Iterator[Entry]:
        """Operations whose client was killed over them: like those whose reply was lost, they happened or not."""
        over = {(entry.pid, entry.data.get("op")) for entry in self.of("ok", "fail", "info")}
        for entry in self.of("invoke"):
            if (entry.pid, entry.data.get("op")) not in over:
                yield replace(entry, kind="info")

    def of(self, *kinds: str) -> list[Entry]:
        """Entries of the ledger of some kinds."""
        return [entry for entry in self.ledger if entry.kind in kinds]

    def ops(self, what: str, *kinds: str) -> Iterator[Entry]:
        """Operations of one sort that ended in one of some ways; all ways if none is named."""
        for entry in [*self.ledger, *self.cut_off]:
            if entry.kind in (kinds or ("ok", "fail", "info")) and entry.data.get("what") == what:
                yield entry

    def input_of(self, run: str) -> dict[str, Any]:
        """The stored input of a run."""
        return _object(self.runs.get(run, {}).get("i", "{}"))

    def output_of(self, run: str) -> Any:
        """The stored output of a run; None if it has none."""
        stored = self.runs.get(run, {}).get("o")
        return None if stored is None else json.loads(stored)

    def of_workflow(self, *names: str) -> list[str]:
        """Runs of some workflows that are there at the end."""
        return [run for run, record in self.runs.items() if record.get("w") in names]

    def hit(self, pid: int | None, since_ms: float, until_ms: float, kinds: frozenset[str] = frozenset()) -> bool:
        """Whether something happened to a process, or to the server, in a span of time; an unknown process was hit.

        Args:
            pid: of the process.
            since_ms: begin of the span, wall clock.
            until_ms: its end.
            kinds: the faults that count; all if none is named.
        """
        if pid is None:
            return True
        for fault in self.faults:
            target = fault.data.get("pid", fault.pid if fault.kind == "stall" else 0)
            if target not in (0, pid) or (kinds and fault.data.get("fault", fault.kind) not in kinds):
                continue
            begins = fault.real_ms - float(fault.data.get("ms", 0))
            if begins <= until_ms and fault.real_ms + float(fault.data.get("lasts", 0)) >= since_ms:
                return True
        return False


def trails_of(audit: list[Note]) -> dict[str, Trail]:
    """The audit by run."""
    trails: dict[str, Trail] = defaultdict(lambda: Trail(""))
    pending: dict[str, int] = {}
    for note in audit:
        if note.kind not in _OF_RUNS:
            continue
        trail = trails[note.run]
        trail.run = note.run
        trail.notes.append(note)
        if note.kind == "workflow":
            trail.workflow = note.words[0]
        elif note.kind == "parent":
            trail.parent = note.words[0].removeprefix("run_").replace("-", "")
        elif note.kind == "fence":
            pending[note.run] = int(note.words[0])
        elif note.kind == "token":
            _begin_claim(trail, note, pending.pop(note.run, 0))
        elif note.kind == "lease" and trail.claims:
            trail.claims[-1].lease_ms = int(note.words[0])
        elif note.kind == "without k" or (note.kind == "status" and note.words[0] != "running"):
            _end_claim(trail, note)
    return dict(trails)


def _begin_claim(trail: Trail, note: Note, fence: int) -> None:
    if trail.claims and trail.claims[-1].ended is None:
        trail.overlaps.append(f"{trail.claims[-1].token} held it when {note.words[0]} claimed it")
        _end_claim(trail, note)
    trail.claims.append(Claim(fence, note.words[0], note.order, note.at_ms))


def _end_claim(trail: Trail, note: Note) -> None:
    if trail.claims and trail.claims[-1].ended is None:
        claim = trail.claims[-1]
        claim.ended, claim.ended_by, claim.ended_ms = note.order, note.verb, note.at_ms


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    return value if isinstance(value, dict) else {}


def parse_audit(rows: list[tuple[str, dict[str, str]]]) -> list[Note]:
    """The notes of the entries of the audit's stream: (id, fields)."""
    notes: list[Note] = []
    for order, (stream_id, fields) in enumerate(rows):
        at_ms = int(stream_id.partition("-")[0])
        for kind, run, *words in json.loads(fields["n"]):
            notes.append(Note(order, at_ms, fields["v"], kind, run, tuple(map(str, words))))
    return notes
