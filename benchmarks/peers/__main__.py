"""redflow beside the systems that a user would take in its place, on the same work, in one run.

Each system has an environment of its own, made when first needed. Each measurement has a fresh store. The systems are
interleaved: every workload goes round all of them before the next begins, and all of that is repeated. It takes about
an hour; leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from benchmarks.environment import load_average, machine
from benchmarks.harness import RESULTS, BenchmarkError, Persistence, number
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.cells import ONCE, WORKLOADS, Cell, Plan
from benchmarks.peers.docs import write_docs
from benchmarks.peers.environments import CACHE, Environment, NotInstalledError, prepare
from benchmarks.peers.goals import OURS
from benchmarks.peers.report import Results, load, markdown, verdicts
from tests.support.servers import ServerKind, ServerMissingError

_QUICK: Final = Plan(reps=1, scale=0.05, idle_s=5)


@dataclass(frozen=True, slots=True)
class Measured:
    """A system that can be measured."""

    peer: Peer
    environment: Environment


def install(peers: Sequence[Peer], cache: Path, results: Results) -> list[Measured]:
    """Make all environments; those that can't be made are noted in the results."""
    able: list[Measured] = []
    for peer in peers:
        try:
            environment = prepare(peer, cache)
        except NotInstalledError as exc:
            results.admit(peer, "")
            results.fail(peer.name, f"can't be installed: {exc}")
            print(f"{peer.name}: can't be installed: {exc}", file=sys.stderr, flush=True)
            continue
        results.admit(peer, environment.versions)
        able.append(Measured(peer, environment))
    return able


def measure(able: Sequence[Measured], workloads: Sequence[str], plan: Plan, results: Results, directory: Path) -> Path:
    """Measure all workloads of all systems, and all of that `reps` times; the file of the results."""
    path = results.save(directory)
    for rep in range(plan.reps):
        for workload in workloads:
            if rep and workload in ONCE:
                continue
            for one in able:
                _measure_cell(one, workload, rep, plan, results)
            path = results.save(directory)
    return path


def _measure_cell(one: Measured, workload: str, rep: int, plan: Plan, results: Results) -> None:
    results.loads.append(load_average())
    cell = Cell(one.peer, one.environment, plan)
    began, name = time.monotonic(), one.peer.name
    try:
        asyncio.run(WORKLOADS[workload](cell))
    except (BenchmarkError, NotInstalledError, ServerMissingError, OSError, TimeoutError) as exc:
        results.fail(name, f"{workload}: {exc}")
        print(f"   {rep + 1} {workload:8} {name:16} FAILED: {exc}", file=sys.stderr, flush=True)
        return
    results.add(name, cell.figures, cell.store_settings)
    if cell.figures:
        found = ", ".join(f"{figure} {number(value)}" for figure, value in cell.figures.items())
        load_now = f"load {results.loads[-1]:.1f}"
        print(
            f"   {rep + 1} {workload:8} {name:16} {found}  ({time.monotonic() - began:.0f} s, {load_now})", flush=True
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", metavar="NAMES", help=f"systems, with commas: {', '.join(names)}")
    parser.add_argument("--workloads", metavar="NAMES", help=f"with commas: {', '.join(WORKLOADS)}")
    parser.add_argument("--reps", type=int, help=f"repetitions (default: {Plan().reps})")
    parser.add_argument("--scale", type=float, help="factor on all sizes (default: 1)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, once: shows that it works, no figures to keep"
    )
    parser.add_argument("--server", choices=[k.value for k in ServerKind], help="which Redis (default: bundled)")
    parser.add_argument("--persistence", choices=get_args(Persistence), help="of all stores (default: none)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--prepare", action="store_true", help="make the environments, and stop")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIRECTORY", help="where the environments are")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIRECTORY", help="where JSON and tables go")
    parser.add_argument("--write-docs", type=Path, metavar="JSON", help="write docs/explanation/benchmarks.md from it")
    options = parser.parse_args(arguments)
    options.only = _chosen(parser, "--only", options.only, names)
    options.workloads = _chosen(parser, "--workloads", options.workloads, list(WORKLOADS))
    return options


def _chosen(parser: argparse.ArgumentParser, option: str, given: str | None, known: list[str]) -> list[str]:
    wanted = known if given is None else given.split(",")
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"{option}: {', '.join(unknown)}: there are {', '.join(known)}")
    return [name for name in known if name in wanted]


def _plan(options: argparse.Namespace) -> Plan:
    basis = _QUICK if options.quick else Plan()
    return Plan(
        reps=options.reps or basis.reps,
        scale=options.scale or basis.scale,
        server=ServerKind(options.server) if options.server else basis.server,
        persistence=options.persistence or basis.persistence,
        idle_s=basis.idle_s,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 1 with --check when a goal was missed."""
    options = _options(arguments)
    if options.write_docs is not None:
        print(write_docs(load(options.write_docs)))
        return 0
    plan = _plan(options)
    settings: dict[str, str | int | float] = {
        "reps": plan.reps,
        "scale": plan.scale,
        "concurrency": 100,
        "Redis": plan.server.value,
        "persistence": plan.persistence,
    }
    results = Results(machine(), settings)
    able = install([peer for peer in PEERS if peer.name in options.only], options.cache, results)
    if options.prepare:
        return 0 if len(able) == len(options.only) else 1
    path = measure(able, options.workloads, plan, results, options.results)
    shown = markdown(load(path))
    path.with_suffix(".md").write_text(shown, "utf-8")
    print(f"\n{shown}\n{path}\n{path.with_suffix('.md')}")
    missed = _missed(results)
    for what in missed:
        print(f"missed: {what}", file=sys.stderr)
    return 1 if options.check and missed else 0


def _missed(results: Results) -> list[str]:
    """The goals that were missed, and measurements of ours that did not count."""
    missed = [f"{v.goal}: {v.value} against {v.bound}" for v in verdicts(results.systems) if not v.passed]
    return missed + (results.systems[OURS]["failures"] if OURS in results.systems else [])


if __name__ == "__main__":
    sys.exit(main())
