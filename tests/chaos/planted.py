"""Bugs that are planted on purpose: the checker must find each, under the invariant that it breaks."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.checker import Verdict, check
from tests.chaos.orders import PRIMITIVES
from tests.chaos.processes import ForkServer
from tests.chaos.scene import Scene
from tests.chaos.sources import Patch, make_sources
from tests.chaos.storm import Plan, Storm
from tests.support.servers import ServerOptions, ServerProcess, selected_kind

CATALOGUE: Final = Path(__file__).with_name("planted.toml")
_LUA: Final = "engines/redis/lua/"
LEASE_MS: Final = 300
TRIES: Final = 6
"""A bug that a storm does not bring out is looked for with the next seeds."""


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug; see planted.toml."""

    id: str
    invariant: str
    mix: list[str]
    faults: list[str]
    patches: list[list[str]]
    plays: int = 40
    every_s: float = 0.15
    longest_s: float = 20.0
    quiet_s: float = 6.0
    workflows: list[str] = field(default_factory=list)
    config: list[str] = field(default_factory=list)

    def changes(self) -> tuple[Patch, ...]:
        """What is patched."""
        return tuple(Patch(_file(path), old, new) for path, old, new in self.patches)

    def plan(self, seed: int) -> Plan:
        """The storm in which it shows."""
        workflows = self.workflows or sorted({w for name in self.mix for w in PRIMITIVES[name].workflows})
        return Plan(
            seed, dict.fromkeys(self.mix, 1.0), dict.fromkeys(self.faults, 1.0), self.every_s, workers=3, clients=2,
            plays=self.plays, workflows=tuple(workflows), longest_s=self.longest_s, quiet_s=self.quiet_s,
        )  # fmt: skip


def _file(path: str) -> str:
    parts = [*_LUA.strip("/").split("/"), *path.split("/")]
    while ".." in parts:
        at = parts.index("..")
        del parts[at - 1 : at + 1]
    return "/".join(parts)


def read_bugs() -> list[Bug]:
    """The catalogue."""
    entries: list[dict[str, Any]] = tomllib.loads(CATALOGUE.read_text("utf-8"))["bug"]
    return [Bug(**entry) for entry in entries]


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


async def storm_with(bug: Bug | None, plan: Plan, directory: Path, lease_ms: int = LEASE_MS) -> Verdict:
    """Play a storm on a server of its own, perhaps with a bug, and judge it."""
    sources = make_sources(_made(directory), bug.changes() if bug else ())
    ledger = _made(directory / "ledger")
    options = ServerOptions(appendonly=True, config=tuple(bug.config) if bug else ())
    with ServerProcess(selected_kind(), options) as server:
        async with ForkServer(sources) as fork:
            scene = Scene(server, fork, sources.verbs, "storm", ledger, lease_ms)
            storm = Storm(scene, plan)
            history = await storm.play()
    return check(history)


async def hunt(bug: Bug, seed: int, directory: Path, say: Callable[[str], None], tries: int = TRIES) -> bool:
    """Look for a bug with some seeds; whether it was found under its invariant. Tells how to see it again."""
    seen: set[str] = set()
    for at in range(seed, seed + tries):
        verdict = await storm_with(bug, bug.plan(at), directory / f"{bug.id.replace(' ', '-').replace('/', '-')}-{at}")
        seen |= verdict.broken
        if bug.invariant in verdict.broken:
            first = next(v for v in verdict.violations if v.rule.number == bug.invariant)
            say(f"found    {bug.id:52} seed {at}  {first}")
            return True
    say(f"MISSED   {bug.id:52} seeds {seed} to {seed + tries - 1}; broken: {json.dumps(sorted(seen))}")
    return False
