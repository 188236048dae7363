"""Invariants of a run's life as a whole, and of what is left at the end: 1, 2, 8, 15, 16, 18 to 20, 23 and 24."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from tests.chaos.history import TERMINAL, History
from tests.support.invariants import faults_in

_PATHS: Final = {
    "": {"queued", "scheduled"},
    "scheduled": {"queued", "canceled", "failed"},
    "queued": {"running", "canceled", "failed", "scheduled"},
    "running": {"succeeded", "failed", "canceled", "scheduled", "queued"},
}
"""The documented graph of statuses, written down a second time: the checker does not ask the engine for it."""
_AFTER_THE_END: Final = ("step", "token", "attempt", "status")
LATEST_MS: Final = 30_000
"""How long after the last fault a run may take to end."""
_YOUNG_MS: Final = 3_000
_STARTED_BY_CLIENTS: Final = (
    *("plain", "retry", "sleep", "event", "parent", "announce", "mutex", "gap", "fails"),
    *("limited", "throttled", "rated", "wide", "long", "append"),
)
_MAY_NOT_REMAIN: Final = (
    *("leases", "due", "grants", "outbox", "cascade", "throttled", "timeouts", "strays", "lined"),
    *("ready:", "suspects:", "line:", "stray:", "parked:", "mutex:", "mutexline:", "throttleline:"),
    *("debounce:", "awaiters:"),
)


def _young(history: History, run: str) -> bool:
    """Whether a run was started by cron so shortly before the end that it may be under way."""
    record = history.runs.get(run, {})
    return record.get("w") == "ticks" and float(record.get("c", "0")) > history.ended_ms - _YOUNG_MS


def terminal_once(history: History, examined: Counter[str]) -> Iterator[str]:
    """1: a run goes along the graph to one end, and nothing follows; clients are told that end."""
    for trail in history.trails.values():
        examined["1"] += 1
        before, ended = "", None
        for note in trail.notes:
            told_by_child = note.kind == "step" and note.words[1] == "Rc"  # how a child of a canceled parent ended
            if ended is not None and note.order > ended and note.kind in _AFTER_THE_END and not told_by_child:
                yield f"run {trail.run}: {note.verb} wrote {note.kind} {' '.join(note.words[:2])!r} after its end"
            if note.kind != "status":
                continue
            if note.words[0] not in _PATHS.get(before, set()):
                yield f"run {trail.run} went from {before or 'nothing'} to {note.words[0]} ({note.verb})"
            before = note.words[0]
            ended = note.order if before in TERMINAL else ended
    for told in history.of("result"):
        status, record = told.data["status"], history.runs.get(told.data["run"], {})
        if "mi" in record:
            continue
        if status != record.get("s"):
            yield f"run {told.data['run']}: a client was told {status}, its record says {record.get('s')}"
        elif status == "succeeded" and told.data["output"] != history.output_of(told.data["run"]):
            yield f"run {told.data['run']}: a client was told another output than is stored"


def no_loss(history: History, examined: Counter[str]) -> Iterator[str]:
    """2: every accepted run comes to its end, within 30 s of the last fault."""
    accepted = {entry.data["run"] for entry in history.ops("start", "ok")}
    last_fault = max((entry.real_ms for entry in history.of("fault")), default=0.0)
    last_start = max((entry.real_ms for entry in history.of("invoke", "play", "played")), default=0.0)
    for run in sorted(accepted | history.trails.keys()):
        examined["2"] += 1
        record = history.runs.get(run)
        if record is None:
            yield f"run {run} was accepted and is gone"
        elif record.get("s") not in TERMINAL:
            if not _young(history, run):
                yield f"run {run} of {record.get('w')} is still {record.get('s')}"
        elif float(record.get("f", "0")) > max(last_fault, last_start, float(record["c"])) + LATEST_MS:
            yield f"run {run} of {record.get('w')} ended later than {LATEST_MS} ms after the last fault"


def idempotency(history: History, examined: Counter[str]) -> Iterator[str]:
    """8: one key is one run in all replies, and an order whose reply was lost made one run at most."""
    by_key: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in history.ops("start", "ok"):
        if entry.data.get("key"):
            examined["8"] += 1
            by_key[entry.data["workflow"], entry.data["key"]].add(entry.data["run"])
    for (workflow, key), runs in by_key.items():
        lasting = {run for run in runs if history.runs.get(run, {}).get("s") == "succeeded"}
        if len(lasting) > 1 or (len(runs) > 1 and len(lasting) == len(runs)):
            yield f"key {key!r} of {workflow} stands for the runs {sorted(runs)}"
    for (workflow, text), runs in _by_input(history, _STARTED_BY_CLIENTS).items():
        examined["8"] += 1
        if len(runs) > 1:
            yield f"one order of {workflow} with input {text} made the runs {sorted(runs)}"


def _by_input(history: History, workflows: tuple[str, ...]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in history.of_workflow(*workflows):
        record = history.runs[run]
        found[record["w"], record["i"]].add(run)
    return found


def no_leak(history: History, examined: Counter[str]) -> Iterator[str]:
    """15: at rest nothing is held, nothing stands in a line, and all bookkeeping agrees with the records."""
    examined["15"] += len(history.snapshot.entries)
    yield from faults_in(history.snapshot)
    resting = {run for run in history.runs if not _young(history, run)}
    for name, entry in history.snapshot.entries.items():
        if not any(name == family or (family.endswith(":") and name.startswith(family)) for family in _MAY_NOT_REMAIN):
            continue
        members = entry.value if isinstance(entry.value, dict | set | list) else [entry.value]
        left = [member for member in members if member[:32] in resting or len(member) < 32]
        if left:
            yield f"{name} still holds {left[:3]}"


def prefix_after_loss(history: History, examined: Counter[str]) -> Iterator[str]:
    """16: what is stored at the end is what the audit wrote last, and what was acknowledged is in the audit."""
    for entry in history.ops("start", "ok"):
        if entry.data["run"] not in history.trails:
            yield f"run {entry.data['run']} was acknowledged, and no script has written it"
    for trail in history.trails.values():
        record = history.runs.get(trail.run)
        if record is None:
            continue
        examined["16"] += 1
        if trail.statuses and trail.statuses[-1].words[0] != record.get("s"):
            yield f"run {trail.run} is {record.get('s')}, the last that was written is {trail.statuses[-1].words[0]}"
        if trail.claims and str(trail.claims[-1].fence) != record.get("n"):
            yield f"run {trail.run} has fence {record.get('n')}, the last claim was {trail.claims[-1].fence}"
        last = {note.words[0]: note.words[3] for note in trail.of("step")}
        for name, sha in last.items():
            payload = record.get(f"s:{name}", "").split(" ", 5)[-1]
            if hashlib.sha1(payload.encode("utf-8", "surrogateescape")).hexdigest() != sha:
                yield f"run {trail.run}: step {name!r} is not what was written last"


def read_your_write(history: History, examined: Counter[str]) -> Iterator[str]:
    """18: a run that was acknowledged is found."""
    for entry in history.ops("read", "ok"):
        examined["18"] += 1
        if not entry.data["found"]:
            yield f"run {entry.data['run']} was acknowledged, and get_run found nothing"


def refused_whole(history: History, examined: Counter[str]) -> Iterator[str]:
    """19: an order that was refused has left nothing."""
    made = {text for _, text in _by_input(history, _STARTED_BY_CLIENTS)}
    for entry in history.ops("start", "fail"):
        examined["19"] += 1
        if json.dumps(entry.data["input"], separators=(",", ":")) in made:
            yield f"{entry.data['workflow']} with input {entry.data['input']} was refused, and a run is there"


def poison(history: History, examined: Counter[str]) -> Iterator[str]:
    """20: three deaths in a row without progress are the end, and every failure is handled by on_failure."""
    hooked = {entry.data["run"] for entry in history.of("hook")}
    for trail in history.trails.values():
        row = 0
        for note in trail.notes:
            if note.kind == "deaths":
                row = max(row, int(note.words[0]))
        deaths = _longest_row_of_deaths(history, trail.run)
        examined["20"] += 1
        if deaths > 5:  # three, and two more if on_failure takes its holders down as well
            yield f"run {trail.run} lost {deaths} holders in a row without progress"
        record: dict[str, Any] = history.runs.get(trail.run, {})
        if record.get("s") == "failed" and trail.workflow in ("fails", "poison") and trail.run not in hooked:
            yield f"run {trail.run} of {trail.workflow} failed, and its on_failure was never called"


def _longest_row_of_deaths(history: History, run: str) -> int:
    row = longest = 0
    for note in history.trails[run].notes:
        if note.kind == "without k" and note.verb == "recover_runs":
            row += 1
            longest = max(longest, row)
        elif (note.kind == "step" and note.words[1].startswith("S")) or note.kind == "status":
            row = row if note.kind == "status" and note.words[0] == "running" else 0
    return longest


def isolation(history: History, examined: Counter[str]) -> Iterator[str]:
    """23: nothing outside of the prefix was touched."""
    examined["23"] += 1
    for name in history.foreign:
        yield f"key {name!r} of somebody else was touched"


def stats(history: History, examined: Counter[str]) -> Iterator[str]:
    """24: get_stats() counts what is there."""
    if history.stats is None:
        return
    examined["24"] += 1
    counted = Counter(record.get("s", "?") for record in history.runs.values())
    if any(counted[status] != told for status, told in history.stats.items()):
        yield f"get_stats() says {history.stats}, the records say {dict(counted)}"
