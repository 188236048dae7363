"""The violations to plant in the evidence of a demo, each with a rule and an order that the judge must name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from examples.orders.shop import Request
from tests.e2e.demo_scene import CLIENT, COOLING_OFF_MS, FIRST, SECOND, Line, Scene, whole_body


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
    play.lines[at : at + 1] = [
        Line(what, SECOND, "asleep", "validate", 1, "digest of validate") for what in whole_body()
    ]


def rerun_by_a_retry(play: Scene) -> None:
    """The second attempt does not use what the first one stored."""
    at = play.index("kept", "busy", "fraud")
    play.lines[at : at + 1] = [Line(what, FIRST, "busy", "fraud", 2, "digest of fraud") for what in whole_body()]


def rerun_after_the_sleep(play: Scene) -> None:
    at = play.index("kept", "plain", "charge")
    play.lines[at : at + 1] = [Line(what, FIRST, "plain", "charge", 1, "digest of charge") for what in whole_body()]


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
    play.insert(at + 1, *(Line(what, FIRST, "asleep", "stock", 1, "digest of stock") for what in whole_body()))


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
