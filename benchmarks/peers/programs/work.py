"""The work that every system does, written once (bullmq.js says the same in its language). Standard library only.

- `one`: one step (a queue's job): the number is doubled.
- `ten`: ten steps, each adds one. Durable engines and the minimal loop only.
- `parent`: starts a hundred `one` and waits for all of them. Durable engines only; of a queue its client does that.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["one", "ten", "parent"]
Payload = dict[str, int | str]

STEPS_IN_TEN = 10


@dataclass(frozen=True, slots=True)
class Config:
    """What a program is told when it is started.

    Attributes:
        url: of the store: redis://, postgresql://, sqlite:/// or host:port of a Temporal server.
        scratch: a folder of this measurement's own.
        concurrency: runs or jobs at a time of one worker process.
        loop: event loop of our own two programs: asyncio or uvloop. The others take the best they can have.
        durable_store: whether the store writes through to its disk.
    """

    url: str
    scratch: str
    concurrency: int
    loop: str = "uvloop"
    durable_store: bool = False


def config() -> Config:
    """The settings of this process; children of it find them too."""
    given = os.environ.get("BENCH_PEERS_CONFIG") or sys.argv[2]
    os.environ["BENCH_PEERS_CONFIG"] = given
    return Config(**json.loads(given))


def payload(number: int, pad: int = 0) -> Payload:
    """The input of a run, with so many characters of padding."""
    return {"n": number, "pad": "x" * pad} if pad else {"n": number}


def double(data: Payload) -> Payload:
    """The step of `one`: its input with the number doubled."""
    mark_first_start()
    return data | {"n": 2 * int(data["n"])}


def add_one(number: int) -> int:
    """A step of `ten`."""
    mark_first_start()
    return number + 1


def expected_output(kind: Kind, number: int, pad: int = 0) -> object:
    """What a run has to give for `payload(number, pad)`."""
    if kind == "one":
        return payload(number, pad) | {"n": 2 * number}
    return number + STEPS_IN_TEN


def expected_steps(kind: Kind, number: int, pad: int = 0) -> list[object]:
    """The outputs that a durable engine has to have on record, step by step."""
    if kind == "one":
        return [expected_output(kind, number, pad)]
    return [number + index + 1 for index in range(STEPS_IN_TEN)]


_marked = False


def mark_first_start() -> None:
    """Leave the time at which this process began its first work: from there on a drain is timed."""
    global _marked
    if not _marked:
        _marked = True
        path = Path(config().scratch) / f"first-{os.getpid()}"
        path.write_text(repr(time.time()), "utf-8")
