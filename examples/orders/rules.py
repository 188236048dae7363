"""The rules of the judge. Each is a function that yields the differences it finds; the tables list them.

What redflow can be held to, seen from outside: a step's body may begin again only

- after it failed as planned (the busy bank), in the run's next attempt, or
- in the same attempt, after its worker was killed before anything told that the step was stored. Such a body may
  have done its work; the idempotency key makes bank and outbox refuse the repetition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from examples.orders.evidence import Difference, Evidence, ExpectedOrder
from examples.orders.shop import Request
from examples.orders.story import CHECKS, COOLING_OFF, STEPS, Execution, Stories, Story, later_steps

CLOCK_TOLERANCE_MS: Final = 100
"""Workers only estimate the server's clock, by which sleeps are timed."""


# --- rules about the whole -------------------------------------------------------------------------------------


def _kills_happened(evidence: Evidence, stories: Stories) -> Iterator[Difference]:
    """A demo whose kill hit nothing would prove nothing."""
    if len(stories.killings) != evidence.kills:
        yield Difference("kill", "", f"{evidence.kills} kills announced, {len(stories.killings)} carried out")
    for killing in stories.killings:
        if not any(event.pid == killing.pid for event in stories.lines[: killing.at]):
            yield Difference("kill", "", f"process {killing.pid} was killed but had not done anything")
        if any(event.pid == killing.pid for event in stories.lines[killing.at :]):
            yield Difference("kill", "", f"process {killing.pid} went on after it was killed")
    dead = {killing.pid for killing in stories.killings}
    if dead and not any(taken_over(story, dead) for story in stories.by_order.values()):
        yield Difference("kill", "", "no run of the killed worker was left to be taken over")


def _no_strays(evidence: Evidence, stories: Stories) -> Iterator[Difference]:
    for run, event in {line.event.run: line.event for line in stories.strays}.items():
        yield Difference("stray run", event.order, f"run {run} was not asked for: {event.what} {event.step}")


def _file_is_whole(evidence: Evidence, stories: Stories) -> Iterator[Difference]:
    last: Counter[int] = Counter()
    for event in stories.lines:
        if event.seq != last[event.pid] + 1:
            yield Difference(
                "effects file", event.order, f"process {event.pid}: line {event.seq} follows {last[event.pid]}"
            )
        last[event.pid] = event.seq
    # A kill can hit one write to each of the three files at most.
    if evidence.unreadable > 3 * evidence.kills:
        yield Difference("effects file", "", f"{evidence.unreadable} fragments of lines")


def _books_are_ours(evidence: Evidence, stories: Stories) -> Iterator[Difference]:
    for rule, book in (("charge", evidence.bank), ("mail", evidence.outbox)):
        for key in sorted({request.key for request in book} - stories.by_order.keys()):
            yield Difference(rule, key, "no such order")


RULES: Final[tuple[Callable[[Evidence, Stories], Iterator[Difference]], ...]] = (
    _kills_happened,
    _no_strays,
    _file_is_whole,
    _books_are_ours,
)


# --- rules about one order -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """An order, what must become of it, and what did."""

    expected: ExpectedOrder
    story: Story
    evidence: Evidence

    def difference(self, rule: str, detail: str) -> Difference:
        """Something is wrong with this order."""
        return Difference(rule, self.expected.order, detail)


def _one_run(case: Case) -> Iterator[Difference]:
    runs = case.story.runs
    if not runs:
        yield case.difference("lost", "no run was started")
    elif len(runs) > 1:
        yield case.difference("two runs", ", ".join(runs))


def _told_once(case: Case) -> Iterator[Difference]:
    told = [line.event.detail for line in case.story.of("told")]
    if not told:
        yield case.difference("lost", "the client never learned how it ended")
    elif told != [case.expected.told]:
        yield case.difference("outcome", f"told {' and '.join(told)}, not {case.expected.told}")


def _nothing_after_the_end(case: Case) -> Iterator[Difference]:
    ended = next((line.at for line in case.story.of("told")), None)
    for line in case.story.lines:
        if ended is not None and line.at > ended and line.event.what not in ("told", "emitted"):
            yield case.difference("after the end", f"{line.event.what} {line.event.step}")


def _refused_as_planned(case: Case) -> Iterator[Difference]:
    lines = case.story.of("refused")
    told = case.expected.plan.told
    if told == "succeeded":
        if lines:
            yield case.difference("refusal", f"on_failure was called: {lines[0].event.detail}")
        return
    kinds = {line.event.detail for line in lines}
    if kinds != {told.removeprefix("failed ")}:
        yield case.difference("refusal", f"on_failure was called with {sorted(kinds)}, not {told}")
    for earlier, later in pairwise(lines):
        if not _killed_between(case, earlier.event.pid, earlier.at, later.at):
            yield case.difference("refusal", "on_failure was called again, with no worker killed in between")


def _steps_as_planned(case: Case) -> Iterator[Difference]:
    plan = case.expected.plan
    for step in STEPS:
        bodies, stored = case.story.bodies(step), case.story.stored(step)
        if step in plan.stored:
            if not stored or not any(body.ending is not None and not body.failed for body in bodies):
                yield case.difference("step missing", step)
        elif stored or (bodies and step != plan.fails_in):
            yield case.difference("step too many", step)
        digests = {line.event.detail for line in stored}
        if len(digests) > 1:
            yield case.difference("changed value", f"{step} returned {len(digests)} different values")


def _no_rerun(case: Case) -> Iterator[Difference]:
    for step in STEPS:
        for execution in case.story.bodies(step):
            if stored_before(case.story, execution):
                yield case.difference("re-run after commit", f"{step}, by process {execution.begin.pid}")
        for earlier, later in pairwise(case.story.bodies(step)):
            if stored_before(case.story, later):
                continue
            if not _may_follow(case, earlier, later):
                yield case.difference(
                    "re-run without cause",
                    f"{step}: attempt {earlier.begin.attempt} of process {earlier.begin.pid}, "
                    f"then attempt {later.begin.attempt} of process {later.begin.pid}",
                )


def stored_before(story: Story, execution: Execution) -> bool:
    """Whether the step was proven to be stored before this body began."""
    later = later_steps(execution.step)
    return any(line.at < execution.at for line in story.stored(execution.step)) or any(
        other.at < execution.at for other in story.executions if other.step in later
    )


def _may_follow(case: Case, earlier: Execution, later: Execution) -> bool:
    attempts = later.begin.attempt - earlier.begin.attempt
    if attempts == 1:
        return _planned_failure(case.expected, earlier)
    return attempts == 0 and _killed_between(case, earlier.begin.pid, earlier.at, later.at)


def _killed_between(case: Case, pid: int, after: int, before: int) -> bool:
    events = case.evidence.events
    return any(events[at].what == "kill" and events[at].detail == str(pid) for at in range(after, before))


def _planned_failure(expected: ExpectedOrder, execution: Execution) -> bool:
    if not execution.failed or execution.ending is None:
        return False
    if expected.busy_bank and execution.step == "charge" and execution.begin.attempt == 1:
        return execution.ending.detail == "RetryAfterError"
    return execution.step == expected.plan.fails_in and execution.ending.detail == "NonRetriableError"


def _failures_as_planned(case: Case) -> Iterator[Difference]:
    for execution in case.story.executions:
        if execution.failed and execution.ending and not _planned_failure(case.expected, execution):
            yield case.difference("unplanned failure", f"{execution.step}: {execution.ending.detail}")
    if case.expected.plan.fails_in and not any(e.failed for e in case.story.executions):
        yield case.difference("step missing", f"{case.expected.plan.fails_in} did not refuse the order")


def _retry_really_happened(case: Case) -> Iterator[Difference]:
    attempts = {line.event.attempt for line in case.story.of("pass")}
    if not case.expected.busy_bank:
        if attempts - {1}:
            yield case.difference("attempts", f"{sorted(attempts)}, not 1 only")
        return
    if attempts != {1, 2}:
        yield case.difference("retry", f"attempts {sorted(attempts)}, not 1 and 2")
    if not any(_planned_failure(case.expected, body) for body in case.story.bodies("charge")):
        yield case.difference("retry", "the bank was not busy once")
    kept = {line.event.step for line in case.story.of("kept") if line.event.attempt == 2}
    for step in CHECKS:
        if step not in kept:
            yield case.difference("retry", f"the second attempt did not use the stored {step}")


def _slept_durably(case: Case) -> Iterator[Difference]:
    charged, mails = case.story.stored("charge"), case.story.bodies("mail")
    if not charged or not mails:
        return  # other rules say so
    # The sleep begins after the first of these lines, whoever wrote it: the handler writes it, then goes to sleep.
    asleep_ms = mails[0].begin.at_ms - charged[0].event.at_ms
    if asleep_ms < case.evidence.cooling_off_ms - CLOCK_TOLERANCE_MS:
        yield case.difference("sleep", f"mailed {asleep_ms:.0f} ms after the charge")
    if not any(charged[0].at < line.at < mails[0].at for line in case.story.of("pass")):
        yield case.difference("sleep", "the run did not leave its worker")
    if not case.story.stored(COOLING_OFF):
        yield case.difference("step missing", COOLING_OFF)


def _charged_once(case: Case) -> Iterator[Difference]:
    cents = [request.cents for request in case.evidence.bank if request.key == case.expected.order and request.done]
    wanted = [case.expected.cents] if case.expected.outcome == "fulfilled" else []
    if cents != wanted:
        yield case.difference("charge", f"charged {cents or 'nothing'}, not {wanted or 'nothing'}")
    yield from _asked_often_enough(case, "charge", case.evidence.bank)


def _mailed_once(case: Case) -> Iterator[Difference]:
    mails = [request for request in case.evidence.outbox if request.key == case.expected.order and request.done]
    wanted = 1 if case.expected.outcome == "fulfilled" else 0
    if len(mails) != wanted:
        yield case.difference("mail", f"{len(mails)} mails, not {wanted}")
    yield from _asked_often_enough(case, "mail", case.evidence.outbox)


def _asked_often_enough(case: Case, step: str, book: Sequence[Request]) -> Iterator[Difference]:
    """Nobody but the step's bodies may ask, each once."""
    asked = sum(request.key == case.expected.order for request in book)
    bodies = sum(not body.failed for body in case.story.bodies(step))
    if asked > bodies:
        yield case.difference(step, f"asked for {asked} times by {bodies} bodies")


ORDER_RULES: Final[tuple[Callable[[Case], Iterator[Difference]], ...]] = (
    _one_run,
    _told_once,
    _nothing_after_the_end,
    _refused_as_planned,
    _steps_as_planned,
    _no_rerun,
    _failures_as_planned,
    _retry_really_happened,
    _slept_durably,
    _charged_once,
    _mailed_once,
)


def taken_over(story: Story, dead: set[int]) -> bool:
    """Whether a killed worker began this order's run and another one went on with it."""
    passes = [line.event.pid in dead for line in story.of("pass")]
    return any(passes) and not all(passes)
