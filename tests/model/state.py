"""The state of the model: runs, lines, workers, and the parts that several verbs share."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from redflow.domain.run import TRANSITIONS
from redflow.engines.redis.runs import Lease
from redflow.types import TERMINAL_STATUSES
from tests.support.scripts import FRONT, STEP

Line = dict[str, float]
"""Run ids and their places in the order."""
Place = tuple[str, str]
"""A queue and a workflow."""
APART_BYTES: Final = 32_768
TERMINAL: Final = frozenset(TERMINAL_STATUSES)


@dataclass
class Run:
    """One run: status, and the fields of its record by the letters they are stored under."""

    workflow: str
    status: str
    fields: dict[str, bytes | int | str]
    big: dict[str, bytes] = field(default_factory=dict)

    def __getitem__(self, name: str) -> bytes | int | str | None:
        return self.fields.get(name)

    def number(self, name: str) -> int:
        """A field that counts; 0 if it is absent."""
        return int(self.fields.get(name, 0))

    def store(self, name: str, payload: bytes) -> bytes:
        """What stands in the record for a payload."""
        if len(payload) <= APART_BYTES:
            return payload
        self.big[name] = payload
        return b"@"

    def drop(self, *names: str) -> None:
        """Remove fields."""
        for name in names:
            self.fields.pop(name, None)

    @property
    def queue(self) -> str:
        """The queue, as it is stored."""
        return str(self.fields["q"])

    def record(self) -> dict[str, str]:
        """The record as Redis holds it."""
        return {name: text(value) for name, value in self.fields.items()} | {"w": self.workflow, "s": self.status}


@dataclass
class Worker:
    """A worker: what it can run, until when it counts as alive, and its last claim."""

    app: str
    knows: frozenset[str]
    started: int
    alive_until: int
    gone: bool = False
    listed: bool = True
    token: str = ""
    claimed: list[str] = field(default_factory=list)
    suspect: str = ""


@dataclass
class Meta:
    """A registered workflow."""

    app: str
    queue: str
    limit: int | None
    max_attempts: int
    version: int | None
    updated: int
    hook: bool = False


class State:
    """All runs of a prefix, and where each stands.

    Args:
        now: the time, epoch ms; whoever drives the model moves it.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.seq = 0
        self.epoch = 0
        self.runs: dict[str, Run] = {}
        self.holders: dict[Place, str] = {}
        self.ready: dict[str, Line] = defaultdict(dict)
        self.suspects: dict[str, Line] = defaultdict(dict)
        self.parked: dict[str, Line] = defaultdict(dict)
        self.lines: dict[Place, Line] = defaultdict(dict)
        self.strays: dict[Place, Line] = defaultdict(dict)
        self.stray_since: dict[Place, int] = {}
        self.due: dict[str, int] = {}
        self.leases: dict[str, int] = {}
        self.timeouts: dict[str, int] = {}
        self.expiry: list[str] = []
        self.idle: dict[str, set[str]] = defaultdict(set)
        self.metas: dict[str, Meta] = {}
        self.workers: dict[str, Worker] = {}
        self.lowered: set[str] = set()
        self.noted: dict[str, int] = {}
        self.paused: dict[str, str] = {}

    # -- parts of several verbs ---------------------------------------------------------------------------------

    def running(self, workflow: str) -> int:
        """How many runs of a workflow are running."""
        return sum(run.workflow == workflow and run.status == "running" for run in self.runs.values())

    def move(self, run: Run, to: str) -> None:
        """Give a run its next status; a transition that the table lacks is a fault of the model."""
        assert to in TRANSITIONS[run.status], f"{run.status} -> {to}"
        run.status = to

    def ring(self, queue: str) -> None:
        """Nobody listens in the model's world: up to three idle workers are tried in vain."""
        self.idle.pop(queue, None)

    def next_seq(self) -> int:
        """The next number of the order of waiting runs."""
        self.seq += 1
        return self.seq

    def enqueue(self, run_id: str, *, front: bool = False) -> None:
        """Put a run into its queue."""
        queue = self.runs[run_id].queue
        line = self.ready[queue]
        priority = self.runs[run_id].number("pr")
        score = min([*line.values(), FRONT]) - 1 if front else self.next_seq() - priority * STEP
        line[run_id] = score
        self.ring(queue)

    def hand_over(self, workflow: str) -> None:
        """Call the first of each line of a workflow to the free slots."""
        if f"w:{workflow}" in self.paused:
            return
        meta = self.metas.get(workflow)
        free = 100 if meta is None or meta.limit is None else meta.limit - self.running(workflow)
        for (queue, lined), line in self.lines.items():
            if lined == workflow and free > 0 and line:
                self.ready[queue].update(pop(line, min(free, 100)))
                self.ring(queue)

    def finish(self, run_id: str, to: str, payload: bytes = b"") -> None:
        """End a run."""
        run = self.runs[run_id]
        was_running = run.status == "running"
        self.move(run, to)
        self.leases.pop(run_id, None)
        self.timeouts.pop(run_id, None)
        run.drop("d", "r", "x", "z", "u")
        run.drop(*{"succeeded": "e", "failed": "o", "canceled": "eo"}[to])
        run.fields["f"] = self.now
        if to != "canceled":
            name = "o" if to == "succeeded" else "e"
            run.fields[name] = run.store(name, payload)
        self.expiry.append(run_id)
        if was_running:
            self.hand_over(run.workflow)

    def decide_timeout(self, run_id: str) -> None:
        """The failure of a run that has timed out."""
        run = self.runs[run_id]
        message = f"Run timed out: {run.workflow} after {run.number('to')} ms"
        failure = {"name": "TimeoutError", "message": message, "kind": "timeout"}
        failure["stack"] = f"redflow.errors.TimeoutError: {message}"
        self.timeouts.pop(run_id, None)
        run.fields["z"] = json.dumps(failure, separators=(",", ":")).encode()

    def end_decided(self, run_id: str) -> None:
        """End a run that has failed, or put it before all others, for its on_failure."""
        run = self.runs[run_id]
        meta = self.metas.get(run.workflow)
        if meta is None or not meta.hook:
            self.finish(run_id, "failed", self.decided(run))
            return
        self.leases.pop(run_id, None)
        run.drop("k", "d")
        if run.status != "running":
            run.fields["r"] = 1
        if run.status == "scheduled":
            self.move(run, "queued")
        self.enqueue(run_id, front=True)

    def decided(self, run: Run) -> bytes:
        """The error of a failure that was decided."""
        decided = run["z"]
        assert isinstance(decided, bytes)
        return run.big["z"] if decided == b"@" else decided

    def owned(self, lease: Lease) -> tuple[Run | None, str]:
        """The run behind a lease, or why it may not be written to."""
        run = self.runs.get(lease.run_id)
        if run is None:
            return None, "gone"
        if run.number("n") != lease.fence or run["k"] != lease.token:
            return None, "stale"
        return (run, "") if run.status == "running" else (None, "settled")


def pop(line: Line, count: int) -> Line:
    """Take the first of a line, by score and then by name."""
    first = sorted(line, key=lambda run_id: (line[run_id], run_id))[:count]
    return {run_id: line.pop(run_id) for run_id in first}


def member(place: Place) -> str:
    """How the key of a line names a queue and a workflow."""
    queue, workflow = place
    return f"{len(queue.encode())}:{queue}:{workflow}"


def text(value: bytes | int | str) -> str:
    """A stored value as a snapshot shows it."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
