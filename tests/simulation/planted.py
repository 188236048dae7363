"""Bugs that are planted on purpose: some seed must find each, and find it again.

The bugs of scripts are those of the chaos tests' catalogue, by their names there. Those of Python are functions of the
engine that something worse stands for.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redflow.engines.redis import clock
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.journal import RedisJournal
from redflow.engines.redis.loops import leases
from tests.simulation.server import Planted, SimulatedServer
from tests.simulation.simulation import Report, run_seed
from tests.support.servers import ServerProcess

_CATALOGUE: Final = Path(__file__).parents[1] / "chaos" / "planted.toml"
TRIES: Final = 200
"""A bug must show within so many seeds."""
SCRIPTS: Final = {
    "the fence is not checked": "plain mutex",
    "a renewal prolongs nothing": "plain",
    "the reaper is ahead of the server's clock": "plain sleep",
    "a claim takes no lease": "plain",
    "an idempotency key holds nobody": "plain",
    "a create sent again makes the run anew": "plain sleep",
    "an event wakes nobody": "event",
    "the owner of a mutex is not looked at": "mutex",
    "a finished run keeps its mutex": "mutex",
    "sleeps end too early": "sleep retry",
    "a throttle lets one more in": "throttled",
    "a recovery costs an attempt": "plain",
    "the index keeps the old status": "plain",
    "deaths are forgotten with each claim": "plain",
    "nobody tells the parent": "parent",
    "a parent gets the wrong output": "parent",
    "a step is never written": "plain",
    "a fence is given out again": "sleep",
    "max_concurrency is not looked at": "limited",
    "children of a canceled run live on": "tree",
}
"""Bugs of the chaos tests' catalogue, and the workflows by which they are looked for."""


def _never_expired(self: leases.LeaseKeeper) -> None:
    """A holder that goes on although it could not renew."""


def _wall_ms(_self: ServerClock) -> int:
    """A worker that takes its own clock for the server's."""
    milliseconds: int = vars(clock)["time"].time_ns() // 1_000_000
    return milliseconds


def _observe_anything(self: ServerClock, server_now: int, _asked_at: float) -> None:
    """A reply that was long under way sets the clock back."""
    self._offset_ms = server_now - self.mark() * 1000


PYTHON: Final[dict[str, tuple[str, tuple[tuple[Any, str, object], ...]]]] = {
    "a holder goes on after its lease": (
        "plain",
        (
            (RedisJournal, "may_begin", lambda _: True),
            (leases.LeaseKeeper, "_drop_expired", _never_expired),
            (leases.LeaseKeeper, "_apply", lambda *_: None),
        ),
    ),
    "a late reply sets the clock back": ("sleep", ((ServerClock, "observe", _observe_anything),)),
    "a worker takes its own clock for the server's": ("sleep", ((ServerClock, "now_ms", _wall_ms),)),
}
"""Bugs of the engine's Python: the workflows, and what stands for which function."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What came of looking for a bug: the seeds that were played, the one that found it, and what it found."""

    bug: str
    tries: int
    seed: int | None
    violation: str
    again: bool
    real_s: float


def names() -> list[str]:
    """All bugs."""
    return [*SCRIPTS, *PYTHON]


def _patches(bug: str) -> list[Planted]:
    entries: list[dict[str, Any]] = tomllib.loads(_CATALOGUE.read_text("utf-8"))["bug"]
    found = next(entry for entry in entries if entry["id"] == bug)
    return [Planted(old, new) for _file, old, new in found["patches"]]


@contextmanager
def _instead(changes: tuple[tuple[Any, str, object], ...]) -> Iterator[None]:
    kept = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in kept:
            setattr(place, name, value)


def hunt(real: ServerProcess, bug: str, first: int = 1, tries: int = TRIES) -> Hunt:
    """Plant a bug, look for it with seeds from `first` on, and play the seed that found it again."""
    began = time.perf_counter()
    mix, changes = (SCRIPTS[bug], ()) if bug in SCRIPTS else PYTHON[bug]
    server = SimulatedServer(str(real.socket_path), _patches(bug) if bug in SCRIPTS else ())
    try:
        with _instead(changes):
            for seed in range(first, first + tries):
                report = run_seed(server, seed, mix.split())
                if report.violation:
                    again = run_seed(server, seed, mix.split())
                    same = (again.digest, again.violation) == (report.digest, report.violation)
                    return _hunt(bug, seed - first + 1, report, same, began)
    finally:
        server.close()
    return Hunt(bug, tries, None, "", False, time.perf_counter() - began)


def _hunt(bug: str, tries: int, report: Report, again: bool, began: float) -> Hunt:
    return Hunt(bug, tries, report.seed, report.violation, again, time.perf_counter() - began)


def hunt_all(real: ServerProcess, only: str, say: Callable[[str], None]) -> int:
    """Look for all of them; how many were missed."""
    missed = 0
    for bug in names():
        if only not in bug:
            continue
        found = hunt(real, bug)
        missed += not (found.seed is not None and found.again)
        how = f"seed {found.seed}, {'again' if found.again else 'NOT AGAIN'}" if found.seed is not None else "MISSED"
        say(f"{bug:45} {found.tries:4} seeds {found.real_s:6.1f} s  {how:18} {found.violation[:150]!r}")
    return missed
