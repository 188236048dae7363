"""From the lines of the effects file to one story for each order. Pure: values in, values out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from examples.orders.effects import Event

STEPS = ("validate", "price", "stock", "fraud", "charge", "mail")
"""The workflow's steps that have a body, in their order; price, stock and fraud run side by side."""

CHECKS = ("validate", "price", "stock", "fraud")
"""The steps before the order is accepted."""

COOLING_OFF = "cooling-off"
"""The durable sleep between charge and mail."""

_SIDE_BY_SIDE = frozenset({"price", "stock", "fraud"})
_ORDER = (*STEPS[:-1], COOLING_OFF, "mail")


def later_steps(step: str) -> frozenset[str]:
    """The steps that begin only after this one is stored."""
    rest = frozenset(_ORDER[_ORDER.index(step) + 1 :])
    return rest - _SIDE_BY_SIDE if step in _SIDE_BY_SIDE else rest


@dataclass(slots=True)
class Execution:
    """A step's body that was begun once.

    Attributes:
        step: the step.
        begin: the line that says so.
        at: that line's place in the file.
        ending: its "end" or "failed" line; None if there is none.
        cut: its worker was killed before anything told that the step was stored.
    """

    step: str
    begin: Event
    at: int
    ending: Event | None = None
    cut: bool = False

    @property
    def failed(self) -> bool:
        """Whether the body raised."""
        return self.ending is not None and self.ending.what == "failed"


@dataclass(slots=True)
class Line:
    """An event and its place in the file."""

    at: int
    event: Event


@dataclass(slots=True)
class Story:
    """What happened to one order.

    Attributes:
        order: its id.
        runs: the runs the client was given for it.
        lines: everything that was told of these runs, in order.
        executions: the bodies that were begun, in order.
    """

    order: str
    runs: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)

    def of(self, *what: str) -> list[Line]:
        """The lines of these sorts."""
        return [line for line in self.lines if line.event.what in what]

    def stored(self, step: str) -> list[Line]:
        """The lines that prove that a step was stored."""
        return [line for line in self.of("commit", "kept") if line.event.step == step]

    def bodies(self, step: str) -> list[Execution]:
        """The executions of one step."""
        return [execution for execution in self.executions if execution.step == step]


@dataclass(slots=True)
class Killing:
    """A worker that was killed.

    Attributes:
        pid: its process.
        at: the place in the file of the line that says that it is dead.
    """

    pid: int
    at: int


@dataclass(slots=True)
class Stories:
    """The whole file, sorted.

    Attributes:
        by_order: a story for every order the client sent.
        strays: lines of runs that nobody asked for.
        killings: who was killed.
        lines: all of them, in the order of the file.
    """

    by_order: dict[str, Story]
    strays: list[Line]
    killings: list[Killing]
    lines: Sequence[Event]


def tell(events: Sequence[Event], orders: Iterable[str]) -> Stories:
    """Sort the lines of an effects file.

    Args:
        events: the lines, in the order of the file.
        orders: the ids of all orders there are.
    """
    killings = [Killing(int(event.detail), at) for at, event in enumerate(events) if event.what == "kill"]
    stories = {order: Story(order) for order in orders}
    order_of: dict[str, str] = {}
    for event in events:
        if event.what == "emitted" and event.order in stories:
            order_of[event.run] = event.order
            runs = stories[event.order].runs
            if event.run not in runs:
                runs.append(event.run)
    strays: list[Line] = []
    for at, event in enumerate(events):
        if not event.run:
            continue
        order = order_of.get(event.run)
        if order is None or event.order not in ("", order):
            strays.append(Line(at, event))
        else:
            stories[order].lines.append(Line(at, event))
    for story in stories.values():
        story.executions = _executions(story, {killing.pid: killing.at for killing in killings})
    return Stories(stories, strays, killings, events)


def _executions(story: Story, killed: Mapping[int, int]) -> list[Execution]:
    executions: list[Execution] = []
    unfinished: dict[tuple[str, str, int], list[Execution]] = defaultdict(list)
    for line in story.of("begin", "end", "failed"):
        event = line.event
        same = unfinished[event.run, event.step, event.pid]
        if event.what == "begin":
            execution = Execution(event.step, event, line.at)
            executions.append(execution)
            same.append(execution)
        elif same:
            same.pop(0).ending = event
    for execution in executions:
        dead_at = killed.get(execution.begin.pid)
        if dead_at is not None:
            stored_at = next((line.at for line in story.stored(execution.step) if line.at > execution.at), None)
            execution.cut = stored_at is None or stored_at > dead_at
    return executions
