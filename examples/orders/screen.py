"""What a person sees of the demo: live in a terminal, plain lines elsewhere, and the tables at the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.orders.effects import Event
from examples.orders.evidence import Outcome
from examples.orders.judge import Verdict
from examples.orders.story import STEPS

_NOTES_SHOWN: Final = 7
_PLAIN_EVERY_S: Final = 1.0
_DIFFERENCES_SHOWN: Final = 30

_LABELS: Final[dict[Outcome, str]] = {
    "fulfilled": "fulfilled",
    "invalid": "refused: invalid input",
    "unknown_item": "refused: unknown item",
    "out_of_stock": "refused: out of stock",
    "suspicious": "refused: suspicious",
}


@dataclass(slots=True)
class Board:
    """The state of a running demo, as far as it is shown.

    Attributes:
        total: orders there are.
        runs: those started for them.
        told: orders whose end the client knows.
        begun: bodies begun, by step.
        ended: bodies ended.
        stored: run and step of what is stored.
        statuses: runs by status, as the server counts them.
        started: monotonic seconds.
        recent: when the last orders ended, monotonic seconds.
    """

    total: int
    runs: set[str] = field(default_factory=set)
    told: int = 0
    begun: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    stored: set[tuple[str, str]] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=400))

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def take(self, event: Event) -> None:
        """Count a line of the effects file."""
        if event.what == "emitted":
            self.runs.add(event.run)
        elif event.what == "told":
            self.told += 1
            self.recent.append(time.monotonic())
        elif event.what == "begin":
            self.begun[event.step] += 1
        elif event.what == "end":
            self.ended += 1
        elif event.what in ("commit", "kept"):
            self.stored.add((event.run, event.step))

    def stored_for(self, step: str) -> int:
        """Runs of which this step is stored."""
        return sum(name == step for _, name in self.stored)

    def per_second(self) -> int:
        """Orders that ended within the last second."""
        now = time.monotonic()
        return sum(now - moment < 1 for moment in self.recent)


class Screen(Protocol):
    """Where the demo shows how it goes on."""

    def note(self, text: str) -> None:
        """Something happened."""
        ...

    def refresh(self) -> None:
        """Show the board as it is now; called ten times a second."""
        ...

    def close(self) -> None:
        """No more changes."""
        ...


class SilentScreen:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Something happened."""

    def refresh(self) -> None:
        """Show the board as it is now."""

    def close(self) -> None:
        """No more changes."""


class PlainScreen:
    """A line each second, and one for whatever happens."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board
        self._next_s = _PLAIN_EVERY_S

    def note(self, text: str) -> None:
        """Something happened."""
        self._print(text)

    def refresh(self) -> None:
        """Show the board as it is now."""
        board = self._board
        if board.seconds < self._next_s:
            return
        self._next_s = board.seconds + _PLAIN_EVERY_S
        statuses = ", ".join(f"{count} {status}" for status, count in board.statuses.items() if count)
        self._print(
            f"{board.told} of {board.total} orders done, {board.per_second()}/s, "
            f"{len(board.stored)} steps stored; runs: {statuses or 'none yet'}"
        )

    def close(self) -> None:
        """No more changes."""

    def _print(self, text: str) -> None:
        self._console.print(f"{self._board.seconds:6.2f} s  {text}", markup=False, highlight=False, soft_wrap=True)


class LiveScreen:
    """A picture that is drawn anew all the time."""

    def __init__(self, console: Console, board: Board, title: str) -> None:
        self._board = board
        self._title = title
        self._notes: deque[str] = deque(maxlen=_NOTES_SHOWN)
        self._live = Live(self._picture(), console=console, auto_refresh=False)
        self._live.start()

    def note(self, text: str) -> None:
        """Something happened."""
        self._notes.append(f"{self._board.seconds:6.2f} s  {text}")
        self.refresh()

    def refresh(self) -> None:
        """Show the board as it is now."""
        self._live.update(self._picture(), refresh=True)

    def close(self) -> None:
        """No more changes."""
        self.refresh()
        self._live.stop()

    def _picture(self) -> RenderableType:
        board = self._board
        bars = Table.grid(padding=(0, 1))
        for label, value in (("sent", len(board.runs)), ("done", board.told)):
            bars.add_row(
                label,
                ProgressBar(total=board.total, completed=min(value, board.total), width=44),
                f"{value}/{board.total}",
            )
        speed = Text(f"{board.per_second()} orders/s   {board.seconds:.1f} s", style="bold")
        tables = Columns([_step_table(board), _status_table(board)], padding=(0, 4))
        return Panel(Group(bars, speed, tables, Text("\n".join(self._notes))), title=self._title, title_align="left")


def _step_table(board: Board) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("step", "begun", "stored"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in STEPS:
        table.add_row(step, str(board.begun[step]), str(board.stored_for(step)))
    return table


def _status_table(board: Board) -> Table:
    table = Table(box=None, header_style="dim")
    table.add_column("runs")
    table.add_column("", justify="right")
    for status in ("queued", "running", "scheduled", "succeeded", "failed", "canceled"):
        table.add_row(status, str(board.statuses.get(status, 0)))
    return table


# --- the end ---------------------------------------------------------------------------------------------------


def show_verdict(console: Console, verdict: Verdict) -> None:
    """The tables at the end, and every difference."""
    console.print(_order_table(verdict))
    console.print(_step_count_table(verdict))
    again = sum(count.cut for count in verdict.steps)
    console.print(
        f"When the worker was killed, {verdict.in_flight} step bodies were not yet stored: {again} of them ran again, "
        f"in the same attempt. {verdict.taken_over} of its runs were ended by the other worker, which took over "
        f"{verdict.kept} stored steps without running them.",
        highlight=False,
    )
    if not verdict.passed:
        console.print(_difference_table(verdict))


def _order_table(verdict: Verdict) -> Table:
    table = Table(title="Every order exactly once", title_justify="left", title_style="bold")
    table.add_column("must be")
    for column in ("orders", "runs", "charged", "mailed", "right"):
        table.add_column(column, justify="right")
    rows = [(c.orders, c.runs, c.charged, c.mailed, c.right) for c in verdict.outcomes]
    for count, row in zip(verdict.outcomes, rows, strict=True):
        style = "" if count.right == count.orders else "red"
        table.add_row(_LABELS[count.outcome], *map(str, row), style=style)
    table.add_section()
    sums = [sum(column) for column in zip(*rows, strict=True)]
    table.add_row("all", *map(str, sums), style="bold" if sums[0] == sums[-1] else "bold red")
    return table


def _step_count_table(verdict: Verdict) -> Table:
    table = Table(title="No step again after its commit", title_justify="left", title_style="bold")
    table.add_column("step")
    for column in ("stored for", "bodies run", "retried", "cut by kill", "after commit"):
        table.add_column(column, justify="right")
    for count in verdict.steps:
        table.add_row(
            count.step,
            f"{count.orders} orders",
            str(count.bodies),
            str(count.retried or ""),
            str(count.cut or ""),
            str(count.after_commit),
            style="red" if count.after_commit else "",
        )
    return table


def _difference_table(verdict: Verdict) -> Table:
    table = Table(title=f"{len(verdict.differences)} differences", title_justify="left", style="red")
    for column in ("rule", "order", "what is wrong"):
        table.add_column(column, overflow="fold")
    for difference in verdict.differences[:_DIFFERENCES_SHOWN]:
        table.add_row(difference.rule, difference.order, difference.detail)
    left_out = len(verdict.differences) - _DIFFERENCES_SHOWN
    if left_out > 0:
        table.add_row("…", "", f"and {left_out} more")
    return table
