"""Invariants of gates and times: mutex, throttle, rate limit, debounce, concurrency, cron (9, 11 to 13, 22)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.chaos.facts import DEBOUNCE_PERIOD_MS, DEBOUNCE_TIMEOUT_MS, LIMITED, RATE, THROTTLE
from tests.chaos.history import TERMINAL, History, Note

_TICK_MS: Final = 1_000


def mutex(history: History, examined: Counter[str]) -> Iterator[str]:
    """9: admitted sections of one key never overlap; nor do bodies in the world, if nobody was frozen."""
    wants: dict[str, str] = {}
    inside: dict[str, str] = {}
    for note in history.audit:
        if note.kind == "mutex":
            wants[note.run] = note.words[0]
        elif note.kind == "admitted" and note.run in wants:
            examined["9"] += 1
            key = wants[note.run]
            other = inside.get(key)
            if other not in (None, note.run):
                yield f"mutex {key!r}: run {note.run} was admitted while {other} was inside"
            inside[key] = note.run
        elif note.kind == "status" and note.words[0] != "running":
            for key in [key for key, run in inside.items() if run == note.run]:
                del inside[key]
    yield from _overlaps_in_the_world(history)


def _overlaps_in_the_world(history: History) -> Iterator[str]:
    entered: dict[tuple[int, str], float] = {}
    sections: dict[str, list[tuple[float, float, int, str]]] = defaultdict(list)
    for entry in history.of("enter", "leave"):
        place = entry.pid, entry.data["run"]
        if entry.kind == "enter":
            entered[place] = entry.real_ms
        elif place in entered:
            sections[entry.data["key"]].append((entered.pop(place), entry.real_ms, *place))
    for key, spans in sections.items():
        for first, second in pairwise(sorted(spans)):
            hit = any(history.hit(pid, first[0] - history.lease_ms, first[1]) for pid in (first[2], second[2]))
            if second[0] < first[1] and first[3] != second[3] and not hit:
                yield f"mutex {key!r}: runs {first[3]} and {second[3]} were inside at once, and nobody was frozen"


def throttle(history: History, examined: Counter[str]) -> Iterator[str]:
    """11: a window, opened by its first admission, admits no more than its limit; the same for a rate limit."""
    for workflow, (limit, period) in (("throttled", THROTTLE), ("rated", RATE)):
        admitted: dict[str, list[int]] = defaultdict(list)
        seen: set[str] = set()
        for note in history.audit:
            if note.kind == "admitted" and note.run not in seen and history.trails[note.run].workflow == workflow:
                seen.add(note.run)
                admitted[str(history.input_of(note.run).get("key"))].append(note.at_ms)
        for key, times in admitted.items():
            examined["11"] += len(times)
            opened, count = times[0], 0
            for at_ms in times:
                if at_ms >= opened + period:
                    opened, count = at_ms, 0
                count += 1
                if count == limit + 1:
                    yield f"{workflow} {key!r}: more than {limit} runs were admitted in the window of {opened}"


def debounce(history: History, examined: Counter[str]) -> Iterator[str]:
    """11b: one waiting run per key, which starts in its time and has the last input that was accepted for it."""
    told: dict[str, int] = {}
    unsure: dict[str, set[int]] = defaultdict(set)
    for entry in history.ops("start", "ok", "info"):
        if entry.data["workflow"] != "debounced":
            continue
        if entry.kind == "ok":
            told[entry.data["run"]] = entry.data["input"]["n"]
        else:
            unsure[entry.data["input"]["key"]].add(entry.data["input"]["n"])
    for run, last in told.items():
        examined["11b"] += 1
        stored = history.input_of(run)
        if history.runs.get(run) and stored.get("n") != last and stored.get("n") not in unsure[str(stored.get("key"))]:
            yield f"debounced run {run} has input {stored.get('n')}, the last that was accepted is {last}"
    waiting: dict[str, str] = {}
    for run in sorted(history.of_workflow("debounced"), key=lambda run: float(history.runs[run].get("c", "0"))):
        yield from _started_in_time(history, run)
        key, trail = str(history.input_of(run).get("key")), history.trails.get(run)
        if trail is None or not trail.notes:
            continue
        other = history.trails.get(waiting.get(key, ""))
        started = next((claim.order for claim in other.claims), None) if other else None
        if (
            other
            and (started is None or started > trail.notes[0].order)
            and not _ended_before(other.statuses, trail.notes[0])
        ):
            yield f"debounce {key!r}: run {run} was made while {other.run} was waiting"
        waiting[key] = run


def _ended_before(statuses: list[Note], note: Note) -> bool:
    return any(status.words[0] in TERMINAL and status.order <= note.order for status in statuses)


def _started_in_time(history: History, run: str) -> Iterator[str]:
    trail = history.trails.get(run)
    if trail is None or not trail.claims or not trail.statuses:
        return
    created, first = trail.statuses[0].at_ms, trail.claims[0]
    last = max((note.at_ms for note in trail.of("rearmed") if note.order < first.order), default=created)
    due = min(last + DEBOUNCE_PERIOD_MS, created + DEBOUNCE_TIMEOUT_MS)
    if first.at_ms < due:
        yield f"debounced run {run} was claimed {due - first.at_ms} ms before its time"


def not_before_its_time(history: History, examined: Counter[str]) -> Iterator[str]:
    """12: a sleep and a retry delay end at their time, not before."""
    for trail in history.trails.values():
        due: int | None = None
        if trail.workflow == "throttled":
            continue  # moves on with its window
        for note in trail.of("due", "status"):
            if note.kind == "due":
                due = int(note.words[0])
            elif note.words[0] == "queued" and note.verb == "promote_runs" and due is not None:
                examined["12"] += 1
                if note.at_ms < due:
                    yield f"run {trail.run} was made ready {due - note.at_ms} ms before its time"
        retried = [note for note in trail.statuses if note.verb == "settle_runs" and note.words[0] == "scheduled"]
        for note in retried:
            times = [int(other.words[0]) for other in trail.of("due") if other.order == note.order]
            later = next((claim for claim in trail.claims if claim.order > note.order), None)
            if times and later and later.at_ms < times[0] and trail.workflow in ("retry", "sleep"):
                yield f"run {trail.run} was claimed {times[0] - later.at_ms} ms before its time"


def cron(history: History, examined: Counter[str]) -> Iterator[str]:
    """13: a tick starts one run; what did not start is told as skipped or missed."""
    fired: dict[str, list[Note]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for note in history.audit:
        if note.kind == "tick ft":
            examined["13"] += 1
            fired[note.run].append(note)
        elif note.kind in ("tick sc", "tick mc"):
            left_out[note.run] += int(note.words[0])
    for trigger, notes in fired.items():
        for tick, often in Counter(note.words[0] for note in notes).items():
            if often > 1:
                yield f"tick {tick} of {trigger} fired {often} times"
        times = sorted({int(note.words[0]) for note in notes})
        gaps = (times[-1] - times[0]) // _TICK_MS + 1 - len(times)
        if gaps > left_out[trigger]:
            yield f"cron {trigger}: {gaps} ticks are missing and {left_out[trigger]} were told as skipped or missed"
    started = [trail.run for trail in history.trails.values() if trail.workflow == "ticks"]
    known = {note.words[0] for note in history.audit if note.kind == "tick fr"}
    for run in started:
        if run not in known:
            yield f"cron run {run} belongs to no tick"
    if len(started) < len(known):
        yield f"{len(known)} ticks fired and {len(started)} runs were started"


def concurrency(history: History, examined: Counter[str]) -> Iterator[str]:
    """22: no more runs of a workflow are running than it allows, and no more in a worker than it has slots."""
    running: set[str] = set()
    for note in history.audit:
        if note.kind != "status" or history.trails[note.run].workflow != "limited":
            continue
        if note.words[0] == "running":
            running.add(note.run)
            examined["22"] += 1
            if len(running) > LIMITED:
                yield f"{len(running)} runs of 'limited' were running at {note.at_ms}, {LIMITED} are allowed"
        else:
            running.discard(note.run)
    yield from _slots(history)


def _slots(history: History) -> Iterator[str]:
    changes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for trail in history.trails.values():
        for claim in trail.claims:
            changes[claim.worker].append((claim.order, 1))
            if claim.ended is not None:
                changes[claim.worker].append((claim.ended, -1))
    for worker, slots in history.concurrency.items():
        held = most = 0
        for _, change in sorted(changes[worker]):
            held += change
            most = max(most, held)
        # One that was hit lets go here before Redis knows of it.
        if most > slots and not history.hit(history.pids[worker], 0, history.ended_ms):
            yield f"worker {worker} held {most} runs in {slots} slots"
