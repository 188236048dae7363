"""Histories made by hand, for the tests of the checker: nothing ran, and every line of them can be bent."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.chaos.history import History, Note
from tests.chaos.ledger import Entry
from tests.support.keyspace import Entry as Key
from tests.support.keyspace import Snapshot, Value

LEASE_MS = 300


def sha(value: object) -> str:
    """What the audit has of a payload."""
    return hashlib.sha1(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def run_id(number: int) -> str:
    """A stored run id."""
    return f"{number:032x}"


class Made:
    """A history under construction: each call takes ten milliseconds.

    Attributes:
        at: the present, ms.
    """

    def __init__(self) -> None:
        self.at = 1_000_000
        self.notes: list[Note] = []
        self.ledger: list[Entry] = []
        self.keys: dict[str, Key] = {}
        self.records: dict[str, dict[str, str]] = {}
        self.foreign: list[str] = []
        self.stats: dict[str, int] | None = None
        self._order = 0
        self.told("up", pid=1, worker="w", concurrency=10, lease_ms=LEASE_MS)
        self.told("up", pid=2, worker="v", concurrency=10, lease_ms=LEASE_MS)

    def script(self, verb: str, *notes: tuple[str, ...]) -> None:
        """A script made some writes."""
        self.at += 10
        self._order += 1
        for kind, run, *words in notes:
            self.notes.append(Note(self._order, self.at, verb, kind, run, tuple(words)))

    def told(self, kind: str, pid: int = 1, **data: Any) -> None:
        """A process told something."""
        self.at += 10
        self.ledger.append(Entry(kind, pid, len(self.ledger), float(self.at), float(self.at), data))

    def op(self, what: str, kind: str = "ok", **data: Any) -> None:
        """A client did something."""
        self.told("invoke", pid=9, what=what, **data)
        self.told(kind, pid=9, what=what, **data)

    # -- a run ----------------------------------------------------------------------------------------------------

    def create(self, number: int, workflow: str = "plain", parent: int | None = None, **input: Any) -> str:
        """A run is accepted."""
        run, input = run_id(number), {"n": number, **input}
        notes: list[tuple[str, ...]] = [("status", run, "queued", ""), ("workflow", run, workflow), ("queue", run, "q")]
        if parent is not None:
            notes.append(("parent", run, run_id(parent)))
        self.script("create_runs", *notes)
        self.records[run] = {
            "w": workflow, "q": "q", "s": "queued", "c": str(self.at), "m": "3", "a": "0",
            "i": json.dumps(input, separators=(",", ":")),
        }  # fmt: skip
        return run

    def accept(self, number: int, workflow: str = "plain", key: str | None = None, **input: Any) -> str:
        """A client starts a run."""
        run = self.create(number, workflow, **input)
        self.op("start", workflow=workflow, input={"n": number, **input}, key=key, run=run)
        return run

    def claim(
        self, run: str, fence: int = 1, worker: str = "w", verb: str = "claim_runs", attempt: int | None = 1
    ) -> None:
        """A worker takes a run; `attempt` None: one that was recovered."""
        token = f"{worker}.{fence}"
        notes: list[tuple[str, ...]] = [
            ("fence", run, str(fence)),
            ("token", run, token),
            ("lease", run, str(self.at + 10 + LEASE_MS)),
        ]
        if attempt is not None:
            notes = [("status", run, "running", ""), ("attempt", run, str(attempt)), *notes]
            self.records[run]["a"] = str(attempt)
        self.script(verb, *notes)
        self.records[run] |= {"s": "running", "n": str(fence), "k": token, "t": str(self.at)}

    def begin(self, run: str, step: str, fence: int = 1, pid: int = 1, left: float = 100, attempt: int = 1) -> None:
        """A body begins."""
        self.told("begin", pid=pid, run=run, step=step, attempt=attempt, fence=fence, left=left)

    def commit(self, run: str, step: str, value: object, writer: str = "1 w.1") -> None:
        """A step's result is written."""
        self.script("record_steps", ("step", run, step, "Sr", "1", sha(value), writer, json.dumps(value)[:1]))
        self.records[run][f"s:{step}"] = f"1 Sr 1 0 5 {json.dumps(value, separators=(',', ':'))}"

    def step(self, run: str, step: str, value: object, fence: int = 1, pid: int = 1, worker: str = "w") -> None:
        """A step from begin to commit."""
        self.begin(run, step, fence, pid)
        self.told("end", pid=pid, run=run, step=step, attempt=1, fence=fence)
        self.commit(run, step, value, f"{fence} {worker}.{fence}")

    def settle(self, run: str, to: str = "succeeded", output: object = None, writer: str = "1 w.1") -> None:
        """An attempt ends."""
        self.script("settle_runs", ("status", run, to, writer))
        record = self.records[run]
        record["s"] = to
        if to in ("succeeded", "failed", "canceled"):
            record["f"] = str(self.at)
        if to == "succeeded":
            record["o"] = json.dumps(output, separators=(",", ":"))
        if to == "failed":
            record["e"] = "{}"
        if to == "canceled":
            record["cr"] = str(self.at)

    def recover(self, run: str) -> None:
        """A lease runs out."""
        self.at += LEASE_MS
        self.script("recover_runs", ("without k", run), ("deaths", run, "1", ""))

    def whole(self, number: int, workflow: str = "plain", output: object = None, **input: Any) -> str:
        """A run from its order to its end, with one step."""
        run = self.accept(number, workflow, **input)
        self.claim(run)
        self.step(run, "one", number)
        self.settle(run, output=output)
        return run

    def key(self, name: str, kind: str, value: Value) -> None:
        """A key that is there at the end."""
        self.keys[name] = Key(kind, None, value)

    # -- the end --------------------------------------------------------------------------------------------------

    def history(self) -> History:
        """All of it, with the bookkeeping that belongs to the records."""
        keys: dict[str, Key] = {}
        listed: list[tuple[int, str]] = []
        for run, record in self.records.items():
            keys[f"run:{run}"] = Key("hash", None, record)
            index = keys.setdefault(f"idx:{record['s']}:{record['w']}", Key("zset", None, dict[str, float]()))
            assert isinstance(index.value, dict)
            index.value[run] = float(record["c"])  # type: ignore[assignment]
            if "f" in record:
                listed.append((int(record["f"]), run))
        if listed:
            keys["expiry:9"] = Key("list", None, [run for _, run in sorted(listed)])
            keys["retentions"] = Key("set", None, {"9"})
        if self.records:
            keys["workflows"] = Key("set", None, {record["w"] for record in self.records.values()})
        snapshot = Snapshot({**keys, **self.keys}, [])
        return History(self.ledger, self.notes, snapshot, self.stats, self.foreign, LEASE_MS, self.at + 10_000)
