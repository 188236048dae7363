"""Says in one sentence what a run waits for, from facts that were read in one instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from redflow.types import Pause, RunExplanation, RunStatus, RunWaitsFor

_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step of a run that has begun and not ended.

    Attributes:
        name: of the step.
        kind: run, sleep, event or child.
        until: when the wait ends by itself, epoch ms; None: never.
        event: awaited event.
        correlation_key: and key.
        child: public id of the awaited child.
        child_status: its status; "" if it is gone.
    """

    name: str
    kind: str
    until: int | None = None
    event: str = ""
    correlation_key: str = ""
    child: str = ""
    child_status: str = ""


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that gave a sign of life lately.

    Attributes:
        id: of the worker.
        queues: scoped names of the queues it serves.
        concurrency: its slots.
        knows: whether it can run the workflow in question.
    """

    id: str
    queues: Sequence[str]
    concurrency: int
    knows: bool


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that tells why a run is where it is. Times are epoch ms.

    Attributes:
        run_id: public id.
        workflow: its workflow.
        queue: its scoped queue.
        status: its status.
        now: the server's time.
        attempt: attempts started.
        max_attempts: attempts allowed.
        created_at: when it was accepted.
        available_at: when it becomes ready.
        finished_at: when it ended.
        error: name and message of the last failed attempt, or of the run's failure.
        asleep: it sleeps within its attempt.
        holder: worker that executes it.
        cancel_requested: somebody asked to cancel it.
        cancel_reason: why.
        merged_into: public id of the run that took its place.
        debounced: it waits for later inputs.
        mutex: key of the mutex it holds or stands in line for.
        place: what it stands in: ready, suspects, due, line, stray, parked, mutexline, throttleline; "" for nothing.
        position: 1 for the first there.
        size: how many stand there.
        moves_at: when the line of its throttle moves on.
        steps: its open steps.
        timeout_at: when it times out.
        decided: its failure is decided, and its on_failure is to be called.
        workers: live workers.
        known: workflows that live workers know, if none knows this one.
        holders: (public id, workflow) of the runs in its way.
        limit: max_concurrency of the workflow.
        queue_paused: the pause of its queue.
        workflow_paused: the pause of its workflow.
    """

    run_id: str
    workflow: str
    queue: str
    status: RunStatus
    now: int
    attempt: int = 0
    max_attempts: int = 3
    created_at: int = 0
    available_at: int | None = None
    finished_at: int | None = None
    error: str = ""
    asleep: bool = False
    holder: str = ""
    cancel_requested: bool = False
    cancel_reason: str = ""
    merged_into: str = ""
    debounced: bool = False
    mutex: str = ""
    place: str = ""
    position: int = 0
    size: int = 0
    moves_at: int | None = None
    steps: Sequence[OpenStep] = field(default_factory=tuple)
    timeout_at: int | None = None
    decided: bool = False
    workers: Sequence[LiveWorker] = field(default_factory=tuple)
    known: Sequence[str] = field(default_factory=tuple)
    holders: Sequence[tuple[str, str]] = field(default_factory=tuple)
    limit: int | None = None
    queue_paused: Pause | None = None
    workflow_paused: Pause | None = None


def explain(facts: RunFacts) -> RunExplanation:
    """Why a run is where it is."""
    waits_for, reason, until = _reason(facts)
    unfinished = facts.status not in ("succeeded", "failed", "canceled")
    if unfinished and facts.decided:
        reason = f"{reason[:-1]}; its failure is decided, and its on_failure is to be called."
    elif unfinished and facts.timeout_at is not None:
        reason = f"{reason[:-1]}; it times out at {_moment(facts, facts.timeout_at)}."
    explanation: RunExplanation = {
        "run_id": facts.run_id,
        "workflow": facts.workflow,
        "queue": facts.queue,
        "status": facts.status,
        "waits_for": waits_for,
        "reason": reason,
    }
    if until is not None:
        explanation["until"] = until
    if unfinished and facts.timeout_at is not None:
        explanation["timeout_at"] = facts.timeout_at
    if facts.holders:
        explanation["held_by"] = [run_id for run_id, _ in facts.holders]
    if facts.place in ("ready", "line", "mutexline", "throttleline"):
        explanation["position"] = facts.position
    return explanation


Reason = tuple[RunWaitsFor, str, int | None]


def _reason(facts: RunFacts) -> Reason:
    if facts.status in ("succeeded", "failed", "canceled"):
        return "nothing", _ended(facts), None
    if facts.cancel_requested:
        why = f": {facts.cancel_reason}" if facts.cancel_reason else ""
        return "cancel", f"It is being canceled{why}; worker {facts.holder or '(none)'} was asked to stop it.", None
    if facts.status == "running" and facts.holder:
        inside = [step.name for step in facts.steps]
        steps = f", in step {_named(inside)}" if inside else ""
        text = f"Worker {facts.holder} executes it: attempt {facts.attempt} of {facts.max_attempts}{steps}."
        return "nothing", text, None
    if facts.status == "scheduled":
        return _scheduled(facts)
    return _ready(facts)


def _ended(facts: RunFacts) -> str:
    at = _time(facts.finished_at or facts.now)
    if facts.merged_into:
        return f"Its debounce merged it into {facts.merged_into} at {at}."
    if facts.status == "failed":
        return f"It failed at {at}, in attempt {facts.attempt} of {facts.max_attempts}: {facts.error}."
    if facts.status == "canceled":
        return f"It was canceled at {at}{': ' + facts.cancel_reason if facts.cancel_reason else ''}."
    return f"It succeeded at {at}."


def _scheduled(facts: RunFacts) -> Reason:
    until = facts.available_at
    if facts.place == "throttleline":
        until = facts.moves_at
        moves = f", and that moves on at {_moment(facts, until)}" if until is not None else ""
        return "throttle", f"It is number {facts.position} of {facts.size} in the line of its throttle{moves}.", until
    if facts.asleep:
        return _asleep(facts)
    when = _moment(facts, until) if until is not None else "an unknown time"
    if facts.attempt and facts.error:
        following = f"Attempt {facts.attempt + 1} of {facts.max_attempts} begins at {when}"
        return "time", f"{following}; the last one failed: {facts.error}.", until
    if facts.debounced:
        return "time", f"Its debounce waits for a later input until {when}.", until
    return "time", f"It is to start at {when}.", until


def _asleep(facts: RunFacts) -> Reason:
    waits = [step for step in facts.steps if step.kind in ("sleep", "event", "child")]
    texts = [_wait(facts, step) for step in waits[:_MOST_NAMED]]
    if len(waits) > _MOST_NAMED:
        texts.append(f"and {len(waits) - _MOST_NAMED} more")
    kinds = {step.kind for step in waits}
    waits_for: RunWaitsFor = "event" if "event" in kinds else "child" if "child" in kinds else "time"
    until = facts.available_at
    if not texts:
        return "time", f"It sleeps until {_moment(facts, until) if until is not None else 'it is woken'}.", until
    return waits_for, f"It sleeps: {'; '.join(texts)}.", until


def _wait(facts: RunFacts, step: OpenStep) -> str:
    limit = f", at the latest until {_moment(facts, step.until)}" if step.until is not None else ""
    if step.kind == "event":
        return f"step {step.name!r} waits for event {step.event!r} with key {step.correlation_key!r}{limit}"
    if step.kind == "child":
        return f"step {step.name!r} waits for the child {step.child} ({step.child_status or 'gone'})"
    return f"step {step.name!r} waits until {_moment(facts, step.until or facts.now)}"


def _ready(facts: RunFacts) -> Reason:
    number = f"It is number {facts.position} of {facts.size}"
    if facts.place == "parked":
        return "workflow", f"No worker has registered the workflow {facts.workflow!r} yet; {_known(facts)}.", None
    if facts.place in ("ready", "suspects", "line", "stray") and (paused := _paused(facts)):
        return "paused", paused, None
    if facts.place == "mutexline":
        owner = _runs(facts) or "nobody, at this moment"
        return "mutex", f"{number} in line for the mutex {facts.mutex!r}, held by {owner}.", None
    if facts.place == "line":
        slots = f"{facts.limit} slots" if facts.limit != 1 else "only slot"
        text = f"{number} in line for one of the {slots}" if facts.limit != 1 else f"{number} in line for the {slots}"
        held = _runs(facts)
        return "slot", f"{text} of {facts.workflow!r}{', held by ' + held if held else ''}.", None
    serving = [worker for worker in facts.workers if facts.queue in worker.queues]
    if not serving:
        queues = sorted({queue for worker in facts.workers for queue in worker.queues})
        others = f"those that live serve {_named(queues)}" if queues else "no worker lives"
        return "worker", f"It is ready, but no live worker serves its queue {facts.queue!r}: {others}.", None
    if not any(worker.knows for worker in serving):
        text = f"No live worker of its queue {facts.queue!r} knows the workflow {facts.workflow!r}; {_known(facts)}."
        return "workflow", text, None
    if facts.place == "stray":
        met = f"A worker that doesn't know {facts.workflow!r} met it"
        return "worker", f"{met}; one of queue {facts.queue!r} that does takes it next.", None
    if facts.place == "suspects":
        met = "Two workers in a row died while they held it"
        return "worker", f"{met}; it waits for one that holds no other such run.", None
    able = sum(worker.concurrency for worker in serving if worker.knows)
    return "worker", f"{number} in its queue {facts.queue!r}, waiting for one of the {able} slots of its workers.", None


def _paused(facts: RunFacts) -> str:
    """What of it is paused, in a sentence; "" for nothing."""
    found = [("queue", facts.queue, facts.queue_paused)]
    if facts.status != "running":  # one that was interrupted goes on in spite of its workflow's pause
        found.append(("workflow", facts.workflow, facts.workflow_paused))
    told: list[str] = []
    for what, name, pause in found:
        if pause is not None:
            why = f" ({pause['reason']})" if "reason" in pause else ""
            told.append(f"its {what} {name!r} is paused since {_time(pause['since'])}{why}")
    return f"It is ready, but {' and '.join(told)}." if told else ""


def _known(facts: RunFacts) -> str:
    if any(worker.knows for worker in facts.workers):
        queues = sorted({queue for worker in facts.workers if worker.knows for queue in worker.queues})
        return f"workers of other queues do: {_named(queues)}"
    return f"live workers know {_named(facts.known)}" if facts.known else "no live worker knows any workflow"


def _runs(facts: RunFacts) -> str:
    """The runs in its way; those of other workflows with their names."""
    shown = [run if of == facts.workflow or not of else f"{run} of {of!r}" for run, of in facts.holders]
    more = "" if len(shown) <= _MOST_NAMED else f" and {len(shown) - _MOST_NAMED} more"
    return ", ".join(shown[:_MOST_NAMED]) + more


def _named(names: Sequence[str]) -> str:
    more = "" if len(names) <= _MOST_NAMED else f" and {len(names) - _MOST_NAMED} more"
    return ", ".join(repr(name) for name in names[:_MOST_NAMED]) + more


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(facts: RunFacts, at_ms: int) -> str:
    left = at_ms - facts.now
    if left <= 0:
        return f"{_time(at_ms)} (now due)"
    seconds = left / 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{_time(at_ms)} (in {seconds / size:.0f} {unit})"
    return f"{_time(at_ms)} (in {seconds:.1f} s)"
