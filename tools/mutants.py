"""Plant one bug at a time in a copy of the tree, and demand that the tests named for it fail.

A mutant is a small change that breaks one promise. The catalogue stands in tests/mutants/*.toml, a file per part:

    [[mutant]]
    id = "renew-forgets-the-lease"
    file = "src/redflow/engines/redis/lua/renew_leases.lua"
    old = "now + lease_ms, id"
    new = "now, id"
    tests = ["tests/scripts/test_renew_leases.py::test_it_prolongs_leases_and_the_life_of_the_worker"]
    why = "a heartbeat that prolongs nothing loses every run longer than a lease"

`old` must stand in the file exactly once. All named tests pass on the unchanged copy first; then, per mutant, they run
with -x and one of them has to fail. A mutant that survives shows a promise without a test.

usage: mutants.py [--root DIRECTORY] [--only TEXT] [--jobs N] [--list]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

CATALOGUE: Final = "tests/mutants"
LONGEST_S: Final = 180
"""A mutant whose tests hang is killed by that, seconds."""
LONGEST_TEST_S: Final = 40
_NOT_COPIED: Final = (".*", "__pycache__", "*.egg-info", "build", "dist", "site", "results", "out")
_FAILED: Final = 1
_FAILED_TEST: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.M)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug; see the head of this file."""

    id: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: `killed` or what is wrong, by which test, and how long it took."""

    mutant: Mutant
    word: str
    by: str
    seconds: float


class CatalogueError(Exception):
    """The catalogue can't be used."""


def read_catalogue(root: Path) -> list[Mutant]:
    """All mutants, in the order of files and entries.

    Raises:
        CatalogueError: an entry lacks a field or has one too many, or two have the same id.
    """
    mutants: list[Mutant] = []
    for path in sorted((root / CATALOGUE).glob("*.toml")):
        for entry in tomllib.loads(path.read_text("utf-8")).get("mutant", []):
            try:
                mutant = Mutant(**{**entry, "tests": tuple(entry["tests"])})
            except (TypeError, KeyError) as exc:
                raise CatalogueError(f"{path.name}: {entry.get('id', '?')}: {exc}") from exc
            mutants.append(mutant)
    ids = [mutant.id for mutant in mutants]
    if repeated := {name for name in ids if ids.count(name) > 1}:
        raise CatalogueError(f"ids are used twice: {', '.join(sorted(repeated))}")
    return mutants


def fault_of(mutant: Mutant, root: Path) -> str | None:
    """Why a mutant can't be planted in this tree; None if it can."""
    path = root / mutant.file
    if not path.is_file():
        return f"there is no {mutant.file}"
    if mutant.old == mutant.new:
        return "it changes nothing"
    count = path.read_text("utf-8").count(mutant.old)
    if count != 1:
        return f"its old text stands {count} times in {mutant.file}"
    if not mutant.tests or not mutant.why.strip():
        return "it names no test, or no reason"
    return None


def copy_tree(root: Path, to: Path) -> None:
    """The tree without environments, caches and what tools leave behind."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(*_NOT_COPIED), dirs_exist_ok=True)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests on a copy: pytest's exit code (that of failed tests if they hang), and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += [f"--timeout={LONGEST_TEST_S}", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return _FAILED, f"FAILED {tests[0]} (it hangs)"
    return done.returncode, done.stdout + done.stderr


def judge(mutant: Mutant, tree: Path) -> Verdict:
    """Plant a mutant in a copy, run its tests, and take it out again."""
    path = tree / mutant.file
    original = path.read_text("utf-8")
    started = time.monotonic()
    path.write_text(original.replace(mutant.old, mutant.new), "utf-8")
    try:
        code, printed = run_tests(tree, mutant.tests)
    finally:
        path.write_text(original, "utf-8")
    seconds = time.monotonic() - started
    if code == _FAILED:
        by = _FAILED_TEST.search(printed)
        return Verdict(mutant, "killed", by[1].rpartition("::")[2] if by else "?", seconds)
    if code == 0:
        return Verdict(mutant, "SURVIVED", "", seconds)
    return Verdict(mutant, "BROKEN", f"pytest ended with {code}: {printed.strip()[-300:]}", seconds)


def judge_all(mutants: Sequence[Mutant], root: Path, jobs: int) -> list[Verdict]:
    """Judge mutants side by side, each job in a copy of its own.

    Raises:
        CatalogueError: a named test fails without any mutant.
    """
    with tempfile.TemporaryDirectory(prefix="redflow-mutants-") as temporary:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            tree = Path(temporary, str(number))
            copy_tree(root, tree)
            trees.put(tree)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        code, printed = run_tests(Path(temporary, "0"), tests)
        if code != 0:
            raise CatalogueError(f"the named tests don't pass on the unchanged tree:\n{printed.strip()[-3000:]}")
        print(f"{len(tests)} named tests pass on the unchanged tree", flush=True)

        def one(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                verdict = judge(mutant, tree)
            finally:
                trees.put(tree)
            print(f"{verdict.word:9} {verdict.seconds:5.1f} s  {mutant.id:45} {verdict.by}", flush=True)
            return verdict

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, mutants))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code is 0 if every mutant was killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--only", default="", help="mutants whose id or file contains this text")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--list", action="store_true", help="show the catalogue and do nothing")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        mutants = [m for m in read_catalogue(options.root) if options.only in m.id or options.only in m.file]
        faults = [f"{m.id}: {fault}" for m in mutants if (fault := fault_of(m, options.root)) is not None]
        if faults or not mutants:
            raise CatalogueError("\n".join(faults) or "there are no such mutants")
        if options.list:
            print("\n".join(f"{mutant.id:45} {mutant.why}" for mutant in mutants))
            return 0
        verdicts = judge_all(mutants, options.root, max(1, options.jobs))
    except CatalogueError as exc:
        print(f"mutants: {exc}", file=sys.stderr)
        return 2
    alive = [verdict for verdict in verdicts if verdict.word != "killed"]
    for verdict in alive:
        print(f"\n{verdict.word} {verdict.mutant.id} in {verdict.mutant.file}: {verdict.mutant.why}\n{verdict.by}")
    killed = len(verdicts) - len(alive)
    print(f"\nmutants: {killed} of {len(verdicts)} killed in {time.monotonic() - started:.0f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
