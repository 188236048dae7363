"""The ledger outside of the system under test: what every process did, told by itself in a file of its own.

A line is one JSON object, appended with one write, so a kill cuts at most the last one. Readers and checkers trust
nothing else of what the processes say. Times: `m` CLOCK_MONOTONIC and `r` the wall clock, both ms; all processes of one
machine share both, and the server's TIME is the same wall clock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        kind: what happened: invoke, ok, fail, info; begin, end; enter, leave; up, down; fault …
        pid: which process says so.
        seq: its how-many-eth line.
        mono_ms, real_ms: when.
        data: what belongs to it.
    """

    kind: str
    pid: int
    seq: int
    mono_ms: float
    real_ms: float
    data: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The file of this process.

    Args:
        directory: where the files of all processes lie.
        name: of this file; the process id if none is given.
    """

    def __init__(self, directory: Path, name: str = "") -> None:
        self._pid = os.getpid()
        path = directory / f"{name or self._pid}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._seq = 0

    def note(self, kind: str, **data: object) -> None:
        """Append one line."""
        self._seq += 1
        line = {"o": kind, "p": self._pid, "q": self._seq, "m": time.monotonic() * 1000, "r": time.time() * 1000}
        os.write(self._file, (json.dumps({**line, **data}, separators=(",", ":")) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_ledger(directory: Path) -> list[Entry]:
    """The lines of all processes, by the monotonic clock; a last line that was cut off is left out."""
    entries = [entry for path in sorted(directory.glob("*.jsonl")) for entry in _read(path)]
    return sorted(entries, key=lambda entry: (entry.mono_ms, entry.pid, entry.seq))


def _read(path: Path) -> Iterator[Entry]:
    for line in path.read_text("utf-8").rpartition("\n")[0].splitlines():
        raw = json.loads(line)
        kind, pid, seq, mono, real = (raw.pop(name) for name in ("o", "p", "q", "m", "r"))
        yield Entry(kind, pid, seq, mono, real, raw)
