"""The judge of the demo: clean evidence passes, and each planted violation is found and named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from examples.orders.effects import EffectsFile, Event, What
from examples.orders.evidence import Difference, Evidence, ExpectedOrder, Outcome, expected_bodies
from examples.orders.judge import Verdict, judge
from examples.orders.rules import ORDER_RULES, RULES
from examples.orders.shop import Books, Request
from examples.orders.stage import KillPlan, read_orders
from examples.orders.story import CHECKS, later_steps

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


def rules(verdict: Verdict) -> set[tuple[str, str]]:
    return {(difference.rule, difference.order) for difference in verdict.differences}


def test_clean_evidence_passes_and_is_counted() -> None:
    verdict = scene().judge()
    assert verdict.differences == ()
    assert {c.outcome: (c.orders, c.runs, c.charged, c.mailed, c.right) for c in verdict.outcomes} == {
        "fulfilled": (5, 5, 5, 5, 5),
        "invalid": (1, 1, 0, 0, 1),
        "unknown_item": (1, 1, 0, 0, 1),
        "out_of_stock": (1, 1, 0, 0, 1),
        "suspicious": (0, 0, 0, 0, 0),
    }
    by_step = {c.step: (c.orders, c.bodies, c.retried, c.cut, c.after_commit) for c in verdict.steps}
    assert by_step["stock"] == (6, 7, 0, 1, 0)
    assert by_step["charge"] == (5, 7, 1, 1, 0)
    assert by_step["mail"] == (5, 5, 0, 0, 0)
    assert (verdict.in_flight, verdict.taken_over, verdict.kept) == (2, 4, 4 + 4 + 1 + 2 + 4 + 1)


def test_a_doubtful_body_that_was_stored_after_all_is_kept() -> None:
    play = scene()
    at = play.index("begin", "doubtful", "charge", last=True)
    play.lines[at : at + 3] = [Line("kept", SECOND, "doubtful", "charge", 1, "digest of charge")]
    play.bank = [request for request in play.bank if request.key != "doubtful" or request.done]
    assert play.judge().passed


def test_a_planned_failure_may_be_cut_before_it_is_recorded() -> None:
    play = scene()
    play.order("again", busy_bank=True)
    play.insert(
        play.index("kill"),
        Line("pass", FIRST, "again", attempt=1),
        *(Line(what, FIRST, "again", step, 1, "d") for step in CHECKS for what in _body()),
        Line("begin", FIRST, "again", "charge", 1),
        Line("failed", FIRST, "again", "charge", 1, "RetryAfterError"),
    )
    play.start(SECOND, "again")
    play.lines += [Line("kept", SECOND, "again", step, 1, "d") for step in CHECKS]
    play.step(SECOND, "again", "charge", fails="RetryAfterError")
    play.start(SECOND, "again", 2)
    play.lines += [Line("kept", SECOND, "again", step, 2, "d") for step in CHECKS]
    play.step(SECOND, "again", "charge", 2)
    play.start(SECOND, "again", 2)
    play.lines[-1].pause_ms = COOLING_OFF_MS
    play.kept(SECOND, "again", "charge", "cooling-off", attempt=2)
    play.step(SECOND, "again", "mail", 2)
    play.told("again")
    assert play.judge().differences == ()


def _body() -> tuple[What, ...]:
    return ("begin", "end", "commit")


# --- planted violations ----------------------------------------------------------------------------------------


def lost_run(play: Scene) -> None:
    play.lines = [line for line in play.lines if line.order != "asleep"]


def lost_order(play: Scene) -> None:
    play.drop("told", "asleep")


def told_wrong_outcome(play: Scene) -> None:
    play.find("told", "sold out").detail = "failed error"


def told_wrong_amount(play: Scene) -> None:
    play.find("told", "plain").detail = "succeeded 5"


def canceled(play: Scene) -> None:
    play.find("told", "cut").detail = "canceled: Run canceled"


def invalid_order_went_through(play: Scene) -> None:
    play.insert(play.index("refused", "invalid"), Line("begin", FIRST, "invalid", "validate", 1))


def no_refusal(play: Scene) -> None:
    play.drop("refused", "invalid")


def refused_twice(play: Scene) -> None:
    at = play.index("refused", "invalid")
    play.insert(at, replace(play.lines[at]))


def refusal_of_a_good_order(play: Scene) -> None:
    play.insert(play.index("told", "plain"), Line("refused", FIRST, "plain", attempt=1, detail="error"))


def rerun_after_commit(play: Scene) -> None:
    """Another worker takes the run over and begins with a step that was stored."""
    at = play.index("kept", "cut", "price")
    play.lines[at : at + 1] = [
        Line("begin", SECOND, "cut", "price", 1),
        Line("end", SECOND, "cut", "price", 1),
        Line("commit", SECOND, "cut", "price", 1, "digest of price"),
    ]


def rerun_after_a_later_step(play: Scene) -> None:
    """The commit line is missing, but a later step had begun: the earlier one must have been stored."""
    play.drop("commit", "asleep", "validate")
    at = play.index("kept", "asleep", "validate")
    play.lines[at : at + 1] = [Line(what, SECOND, "asleep", "validate", 1, "digest of validate") for what in _body()]


def rerun_by_a_retry(play: Scene) -> None:
    """The second attempt does not use what the first one stored."""
    at = play.index("kept", "busy", "fraud")
    play.lines[at : at + 1] = [Line(what, FIRST, "busy", "fraud", 2, "digest of fraud") for what in _body()]


def rerun_after_the_sleep(play: Scene) -> None:
    at = play.index("kept", "plain", "charge")
    play.lines[at : at + 1] = [Line(what, FIRST, "plain", "charge", 1, "digest of charge") for what in _body()]


def two_at_once(play: Scene) -> None:
    """Two holders of one run: the second begins a body while the first one is at it."""
    at = play.index("end", "plain", "price")
    play.insert(at, Line("begin", FIRST, "plain", "price", 1), Line("end", FIRST, "plain", "price", 1))


def rerun_without_kill(play: Scene) -> None:
    """A body of the living worker begins again, though nothing had happened to it."""
    at = play.index("end", "cut", "stock")
    play.insert(at, Line("begin", SECOND, "cut", "stock", 1))


def attempt_charged_for_the_kill(play: Scene) -> None:
    for line in play.lines[play.index("kill") :]:
        if line.order == "cut" and line.attempt:
            line.attempt = 2


def unplanned_failure(play: Scene) -> None:
    at = play.index("end", "asleep", "stock")
    play.insert(at, Line("failed", FIRST, "asleep", "stock", 1, "CancelledError"))
    del play.lines[at + 1 : at + 3]
    play.insert(at + 1, *(Line(what, FIRST, "asleep", "stock", 1, "digest of stock") for what in _body()))


def no_retry(play: Scene) -> None:
    at = play.index("begin", "busy", "charge")
    assert play.lines[at + 2].what == "pass"
    del play.lines[at : at + 2]
    for line in play.lines:
        if line.order == "busy" and line.attempt:
            line.attempt = 1


def step_missing(play: Scene) -> None:
    for what in ("begin", "end", "commit", "kept"):
        play.drop(what, "plain", "fraud")


def step_never_stored(play: Scene) -> None:
    play.drop("commit", "plain", "mail")


def charged_without_the_stock(play: Scene) -> None:
    play.insert(play.index("refused", "sold out"), Line("begin", FIRST, "sold out", "charge", 1))
    play.bank.append(Request("sold out", True, 500))


def changed_value(play: Scene) -> None:
    play.find("kept", "asleep", "price").detail = "another digest"


def mailed_too_early(play: Scene) -> None:
    play.find("pass", "plain", last=True).pause_ms = COOLING_OFF_MS / 2


def no_sleep(play: Scene) -> None:
    play.drop("kept", "plain", "cooling-off")


def did_not_leave_its_worker(play: Scene) -> None:
    at = play.index("pass", "asleep", last=True)
    play.lines[at + 1].pause_ms += play.lines[at].pause_ms
    del play.lines[at]


def after_the_end(play: Scene) -> None:
    play.insert(play.index("told", "plain") + 1, Line("pass", FIRST, "plain", attempt=1))


def told_twice(play: Scene) -> None:
    play.told("plain")


def charged_twice(play: Scene) -> None:
    play.bank.append(Request("plain", True, 500))


def charged_the_wrong_amount(play: Scene) -> None:
    play.bank = [replace(request, cents=7) if request.key == "plain" else request for request in play.bank]


def not_charged(play: Scene) -> None:
    play.bank = [request for request in play.bank if request.key != "plain"]


def asked_by_nobody(play: Scene) -> None:
    play.bank.append(Request("plain", False, 500))


def charged_a_stranger(play: Scene) -> None:
    play.bank.append(Request("stranger", True, 500))


def mailed_twice(play: Scene) -> None:
    play.outbox.append(Request("cut", True, text="hello again"))


def not_mailed(play: Scene) -> None:
    play.outbox = [request for request in play.outbox if request.key != "cut"]


def mailed_a_refused_one(play: Scene) -> None:
    play.outbox.append(Request("invalid", True, text="hello"))


def two_runs(play: Scene) -> None:
    play.tamper = lambda events: [
        replace(event, run="run_other")
        if event.order == "plain" and event.what == "emitted" and event.seq > 1
        else event
        for event in events
    ]
    play.say("emitted", CLIENT, "plain")


def stray_run(play: Scene) -> None:
    play.lines.append(Line("pass", SECOND, "nobody's", attempt=1))


def run_of_another_order(play: Scene) -> None:
    play.tamper = lambda events: [
        replace(event, order="cut") if event.order == "plain" and event.step == "mail" else event for event in events
    ]


def no_kill(play: Scene) -> None:
    play.drop("kill")


def killed_the_wrong_process(play: Scene) -> None:
    play.find("kill").detail = "999"


def went_on_after_the_kill(play: Scene) -> None:
    play.insert(play.index("kill") + 1, Line("begin", FIRST, "cut", "fraud", 1))


def nothing_left_for_the_second_worker(play: Scene) -> None:
    kill = play.lines.pop(play.index("kill"))
    for line in play.lines:
        line.pid = FIRST if line.pid == SECOND else line.pid
    play.lines.append(kill)


def lines_missing(play: Scene) -> None:
    play.tamper = lambda events: [event for event in events if (event.pid, event.seq) != (FIRST, 5)]


def many_fragments(play: Scene) -> None:
    play.unreadable = 4


VIOLATIONS: list[tuple[Callable[[Scene], None], tuple[str, str]]] = [
    (lost_run, ("lost", "asleep")),
    (lost_order, ("lost", "asleep")),
    (told_wrong_outcome, ("outcome", "sold out")),
    (told_wrong_amount, ("outcome", "plain")),
    (told_twice, ("outcome", "plain")),
    (canceled, ("outcome", "cut")),
    (invalid_order_went_through, ("step too many", "invalid")),
    (no_refusal, ("refusal", "invalid")),
    (refused_twice, ("refusal", "invalid")),
    (refusal_of_a_good_order, ("refusal", "plain")),
    (rerun_after_commit, ("re-run after commit", "cut")),
    (rerun_after_a_later_step, ("re-run after commit", "asleep")),
    (rerun_by_a_retry, ("re-run after commit", "busy")),
    (rerun_after_the_sleep, ("re-run after commit", "plain")),
    (two_at_once, ("re-run without cause", "plain")),
    (rerun_without_kill, ("re-run without cause", "cut")),
    (attempt_charged_for_the_kill, ("re-run without cause", "cut")),
    (attempt_charged_for_the_kill, ("attempts", "cut")),
    (unplanned_failure, ("unplanned failure", "asleep")),
    (no_retry, ("retry", "busy")),
    (step_missing, ("step missing", "plain")),
    (step_never_stored, ("step missing", "plain")),
    (charged_without_the_stock, ("step too many", "sold out")),
    (charged_without_the_stock, ("charge", "sold out")),
    (changed_value, ("changed value", "asleep")),
    (mailed_too_early, ("sleep", "plain")),
    (did_not_leave_its_worker, ("sleep", "asleep")),
    (no_sleep, ("step missing", "plain")),
    (after_the_end, ("after the end", "plain")),
    (charged_twice, ("charge", "plain")),
    (charged_the_wrong_amount, ("charge", "plain")),
    (not_charged, ("charge", "plain")),
    (asked_by_nobody, ("charge", "plain")),
    (charged_a_stranger, ("charge", "stranger")),
    (mailed_twice, ("mail", "cut")),
    (not_mailed, ("mail", "cut")),
    (mailed_a_refused_one, ("mail", "invalid")),
    (two_runs, ("two runs", "plain")),
    (stray_run, ("stray run", "nobody's")),
    (run_of_another_order, ("stray run", "cut")),
    (no_kill, ("kill", "")),
    (killed_the_wrong_process, ("kill", "")),
    (went_on_after_the_kill, ("kill", "")),
    (nothing_left_for_the_second_worker, ("kill", "")),
    (lines_missing, ("effects file", "plain")),
    (many_fragments, ("effects file", "")),
]


@pytest.mark.parametrize(("plant", "named"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_violation_is_named(plant: Callable[[Scene], None], named: tuple[str, str]) -> None:
    play = scene()
    plant(play)
    verdict = play.judge()
    assert not verdict.passed
    assert named in rules(verdict)
    wrong = {order for _, order in rules(verdict)} & play.orders.keys()
    assert sum(count.orders - count.right for count in verdict.outcomes) == len(wrong)


@pytest.mark.parametrize("rule", [*RULES, *ORDER_RULES], ids=lambda rule: rule.__name__)
def test_every_rule_finds_what_no_other_finds(
    monkeypatch: pytest.MonkeyPatch, rule: Callable[..., Iterator[Difference]]
) -> None:
    monkeypatch.setattr("examples.orders.judge.RULES", [other for other in RULES if other is not rule])
    monkeypatch.setattr("examples.orders.judge.ORDER_RULES", [other for other in ORDER_RULES if other is not rule])

    def still_named(plant: Callable[[Scene], None], named: tuple[str, str]) -> bool:
        play = scene()
        plant(play)
        return named in rules(play.judge())

    assert not all(still_named(plant, named) for plant, named in VIOLATIONS)


def test_after_commit_is_counted() -> None:
    play = scene()
    rerun_after_commit(play)
    assert [count.after_commit for count in play.judge().steps if count.step == "price"] == [1]


# --- what the judge stands on ----------------------------------------------------------------------------------


def test_later_steps() -> None:
    assert later_steps("validate") == {"price", "stock", "fraud", "charge", "cooling-off", "mail"}
    assert later_steps("price") == {"charge", "cooling-off", "mail"}
    assert later_steps("charge") == {"cooling-off", "mail"}
    assert later_steps("mail") == frozenset()


def test_the_kill_follows_from_the_seed() -> None:
    _, orders = read_orders()
    assert KillPlan.from_seed(7, orders) == KillPlan.from_seed(7, orders)
    plans = [KillPlan.from_seed(seed, orders) for seed in range(200)]
    assert len({plan.bodies for plan in plans}) > 100
    assert all(0.3 <= plan.bodies / expected_bodies(orders) <= 0.7 for plan in plans)
    assert all(0 <= plan.delay_ms <= 20 for plan in plans)


def test_the_orders_are_a_mixture() -> None:
    inputs, orders = read_orders()
    assert len(inputs) == len(orders) == len({order.order for order in orders}) == 300
    assert "expected" not in inputs[0]
    sorts = Counter(order.outcome for order in orders)
    assert sorts == {"fulfilled": 285, "invalid": 5, "unknown_item": 3, "out_of_stock": 4, "suspicious": 3}
    assert sum(order.busy_bank for order in orders) == 24
    assert set(sorts) == {order.outcome for order in orders[:40]}


def test_fragments_of_lines_are_counted_and_spoil_nothing_else(tmp_path: Path) -> None:
    effects = EffectsFile(tmp_path / "effects.jsonl")
    effects.write("pass", run="run_a")
    descriptor = os.open(tmp_path / "effects.jsonl", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b'\n{"at_ms": 12, "pi')
    os.close(descriptor)
    effects.write("begin", run="run_a", step="price")
    assert [(event.what, event.seq) for event in effects.read_new()] == [("pass", 1), ("begin", 2)]
    assert effects.unreadable == 1
    effects.write("end", run="run_a", step="price")
    assert [event.what for event in effects.read_new()] == ["end"]
    effects.close()


def test_books_carry_out_each_key_once(tmp_path: Path) -> None:
    bank = Books(tmp_path / "bank.jsonl")
    first = bank.carry_out("ORD-1", cents=500)
    assert bank.carry_out("ORD-1", cents=700) == first
    assert [(request.cents, request.done) for request in bank.read()] == [(500, True), (700, False)]
