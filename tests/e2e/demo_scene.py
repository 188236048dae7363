"""Evidence of a demo that went well, to tamper with, and the violations to plant in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.orders.effects import Event, What
from examples.orders.evidence import Evidence, ExpectedOrder, Outcome
from examples.orders.judge import Verdict, judge
from examples.orders.shop import Request
from examples.orders.story import CHECKS

CLIENT, FIRST, SECOND = 1, 100, 200
COOLING_OFF_MS = 1000


@dataclass
class Line:
    what: What
    pid: int
    order: str = ""
    step: str = ""
    attempt: int = 0
    detail: str = ""
    pause_ms: float = 5.0


def whole_body() -> tuple[What, ...]:
    """What a body that is stored leaves behind."""
    return ("begin", "end", "commit")


@dataclass
class Scene:
    """Evidence in the making: lines to add, and to tamper with."""

    orders: dict[str, ExpectedOrder] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    bank: list[Request] = field(default_factory=list)
    outbox: list[Request] = field(default_factory=list)
    unreadable: int = 0
    tamper: Callable[[list[Event]], list[Event]] = lambda events: events

    # -- telling ------------------------------------------------------------------------------------------------

    def order(self, order: str, outcome: Outcome = "fulfilled", *, busy_bank: bool = False) -> None:
        cents = 500 if outcome == "fulfilled" else 0
        self.orders[order] = ExpectedOrder(order, outcome, cents, busy_bank)
        self.say("emitted", CLIENT, order)

    def say(self, what: What, pid: int, order: str, step: str = "", attempt: int = 0, detail: str = "") -> Line:
        line = Line(what, pid, order, step, attempt, detail)
        self.lines.append(line)
        return line

    def start(self, pid: int, order: str, attempt: int = 1) -> None:
        self.say("pass", pid, order, attempt=attempt)

    def step(self, pid: int, order: str, step: str, attempt: int = 1, *, fails: str = "", to: What = "commit") -> None:
        """A body from its beginning to `to`."""
        self.say("begin", pid, order, step, attempt)
        if fails:
            self.say("failed", pid, order, step, attempt, fails)
            return
        if to == "begin":
            return
        self._ask(step, order)
        self.say("end", pid, order, step, attempt)
        if to == "commit":
            self.say("commit", pid, order, step, attempt, f"digest of {step}")

    def _ask(self, step: str, order: str) -> None:
        book, cents, text = (self.bank, 500, "") if step == "charge" else (self.outbox, 0, "hello")
        if step in ("charge", "mail"):
            book.append(Request(order, all(request.key != order for request in book), cents, text))

    def kept(self, pid: int, order: str, *steps: str, attempt: int = 1) -> None:
        for step in steps:
            digest = "" if step == "cooling-off" else f"digest of {step}"
            self.say("kept", pid, order, step, attempt, digest)

    def checks(self, pid: int, order: str) -> None:
        self.start(pid, order)
        for step in CHECKS:
            self.step(pid, order, step)

    def wake_and_mail(self, pid: int, order: str, attempt: int = 1) -> None:
        self.start(pid, order, attempt)
        self.lines[-1].pause_ms = COOLING_OFF_MS
        self.kept(pid, order, *CHECKS, "charge", "cooling-off", attempt=attempt)
        self.step(pid, order, "mail", attempt)

    def told(self, order: str, detail: str = "succeeded 500") -> None:
        self.say("told", CLIENT, order, detail=detail)

    # -- tampering ----------------------------------------------------------------------------------------------

    def index(self, what: What, order: str = "", step: str = "", *, last: bool = False) -> int:
        found = [
            at
            for at, line in enumerate(self.lines)
            if line.what == what and order in ("", line.order) and step in ("", line.step)
        ]
        return found[-1 if last else 0]

    def find(self, what: What, order: str = "", step: str = "", *, last: bool = False) -> Line:
        return self.lines[self.index(what, order, step, last=last)]

    def drop(self, what: What, order: str = "", step: str = "") -> None:
        self.lines = [
            line
            for line in self.lines
            if not (line.what == what and order in ("", line.order) and step in ("", line.step))
        ]

    def insert(self, at: int, *lines: Line) -> None:
        self.lines[at:at] = lines

    # -- judging ------------------------------------------------------------------------------------------------

    def judge(self) -> Verdict:
        events: list[Event] = []
        seq: Counter[int] = Counter()
        now = 0.0
        for line in self.lines:
            seq[line.pid] += 1
            now += line.pause_ms
            named = line.order if line.what != "refused" else ""
            run = f"run_{line.order}" if line.order else ""
            events.append(
                Event(now, line.pid, seq[line.pid], line.what, run, named, line.step, line.attempt, line.detail)
            )
        return judge(
            Evidence(
                list(self.orders.values()),
                self.tamper(events),
                self.bank,
                self.outbox,
                COOLING_OFF_MS,
                self.unreadable,
            )
        )


def scene() -> Scene:
    """One order of each sort, a worker that is killed, and one that goes on."""
    play = Scene()
    play.order("plain")
    play.checks(FIRST, "plain")
    play.step(FIRST, "plain", "charge")
    play.order("invalid", "invalid")
    play.say("refused", FIRST, "invalid", attempt=1, detail="validation")
    play.told("invalid", "failed validation")
    play.order("unknown", "unknown_item")
    play.start(FIRST, "unknown")
    play.step(FIRST, "unknown", "validate", fails="NonRetriableError")
    play.say("refused", FIRST, "unknown", attempt=1, detail="non_retriable")
    play.told("unknown", "failed non_retriable")
    play.order("sold out", "out_of_stock")
    play.checks(FIRST, "sold out")
    play.say("refused", FIRST, "sold out", attempt=1, detail="non_retriable")
    play.told("sold out", "failed non_retriable")
    play.wake_and_mail(FIRST, "plain")
    play.told("plain")
    play.order("busy", busy_bank=True)
    play.checks(FIRST, "busy")
    play.step(FIRST, "busy", "charge", fails="RetryAfterError")
    play.start(FIRST, "busy", 2)
    play.kept(FIRST, "busy", *CHECKS, attempt=2)
    play.step(FIRST, "busy", "charge", 2)
    play.order("asleep")
    play.checks(FIRST, "asleep")
    play.step(FIRST, "asleep", "charge")
    # At the kill: one body under way, one whose end is not known to be stored.
    play.order("cut")
    play.start(FIRST, "cut")
    play.step(FIRST, "cut", "validate")
    play.step(FIRST, "cut", "price")
    play.step(FIRST, "cut", "stock", to="begin")
    play.order("doubtful")
    play.checks(FIRST, "doubtful")
    play.step(FIRST, "doubtful", "charge", to="end")
    play.lines.append(Line("kill", CLIENT, detail=str(FIRST)))
    play.start(SECOND, "cut")
    play.kept(SECOND, "cut", "validate", "price")
    play.step(SECOND, "cut", "stock")
    play.step(SECOND, "cut", "fraud")
    play.step(SECOND, "cut", "charge")
    play.start(SECOND, "doubtful")
    play.kept(SECOND, "doubtful", *CHECKS)
    play.step(SECOND, "doubtful", "charge")
    play.wake_and_mail(SECOND, "busy", 2)
    for order in ("asleep", "cut", "doubtful"):
        play.wake_and_mail(SECOND, order)
        play.told(order)
    play.told("busy")
    return play
