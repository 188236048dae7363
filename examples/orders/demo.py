"""The demo: a few hundred orders, a worker that is killed half-way, and a judge. Run it with `make demo`.

    python -m examples.orders.demo [--seed N] [--seeds N] [--orders N] [--dir DIRECTORY] [--plain]

It starts the bundled Valkey, a worker and a client that sends the orders of orders.csv, kills the worker with
SIGKILL at a moment that follows from the seed, starts another one, and waits until every order has come to its end.
Then the judge (judge.py) reads what the steps left in the effects file and in the books of bank and outbox.
Exits with 0 if everything is as it must be, 1 if not, 2 if the demo could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from examples.orders.evidence import ExpectedOrder, expected_bodies
from examples.orders.judge import Verdict
from examples.orders.screen import Board, LiveScreen, PlainScreen, Screen, SilentScreen, show_verdict
from examples.orders.stage import Demo, DemoError, KillPlan, read_orders

FEWEST_ORDERS: Final = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    seed: int
    seeds: int
    orders: int | None
    directory: Path | None
    plain: bool


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="demo", description="Orders, a killed worker, and a judge.")
    parser.add_argument("--seed", type=int, help="what the moment of the kill follows from; default: a random one")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="run it N times, from --seed on")
    parser.add_argument("--orders", type=int, metavar="N", help=f"only the first N orders, at least {FEWEST_ORDERS}")
    parser.add_argument("--dir", type=Path, help="where to leave all files; default: a directory removed at the end")
    parser.add_argument("--plain", action="store_true", help="plain lines, also in a terminal")
    given = parser.parse_args(arguments)
    if given.orders is not None and given.orders < FEWEST_ORDERS:
        parser.error(f"--orders must be at least {FEWEST_ORDERS}, got {given.orders}")
    if given.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {given.seeds}")
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    return Options(seed, given.seeds, given.orders, given.dir, given.plain)


def run_seed(seed: int, options: Options, console: Console, *, silent: bool) -> tuple[Verdict, list[ExpectedOrder]]:
    """One demo in a directory of its own, which is kept if there is a difference."""
    inputs, orders = read_orders(options.orders)
    plan = KillPlan.from_seed(seed, orders)
    if not silent:
        console.print(
            f"seed {seed}: the worker dies {plan.delay_ms:.1f} ms after {plan.bodies} of {expected_bodies(orders)} "
            f"step bodies (again: --seed {seed})",
            highlight=False,
        )
    if options.directory is None:
        directory, keep = Path(tempfile.mkdtemp(prefix="redflow-demo-")), False
    else:
        directory, keep = options.directory.resolve() / str(seed), True
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    board = Board(len(orders))
    screen: Screen
    if silent:
        screen = SilentScreen()
    elif console.is_terminal and not options.plain:
        screen = LiveScreen(console, board, f"redflow: {len(orders)} orders, seed {seed}")
    else:
        screen = PlainScreen(console, board)
    try:
        verdict = asyncio.run(Demo(seed, inputs, orders, directory, board, screen).run())
        keep = keep or not verdict.passed
    finally:
        screen.close()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    if keep:
        console.print(f"All files are in {directory}", highlight=False)
    return verdict, orders


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse(arguments)
    console = Console()
    failed: list[int] = []
    try:
        for seed in range(options.seed, options.seed + options.seeds):
            started = time.monotonic()
            verdict, orders = run_seed(seed, options, console, silent=options.seeds > 1)
            if options.seeds == 1 or not verdict.passed:
                show_verdict(console, verdict)
            word = "[green]passed[/]" if verdict.passed else f"[red]{len(verdict.differences)} differences[/]"
            again = sum(count.cut for count in verdict.steps)
            console.print(
                f"seed {seed}: {word} in {time.monotonic() - started:.1f} s; {len(orders)} orders, "
                f"{verdict.in_flight} bodies cut by the kill, {again} run again",
                highlight=False,
            )
            if not verdict.passed:
                failed.append(seed)
    except DemoError as exc:
        console.print(f"The demo could not run: {exc}", style="red", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    if options.seeds > 1:
        console.print(f"{options.seeds - len(failed)} of {options.seeds} seeds passed. Failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
