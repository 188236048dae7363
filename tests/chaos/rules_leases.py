"""Invariants of claims, fences and steps: 3 to 7b, 17 and 21."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.chaos.history import CLOCK_SLACK_MS, FREEZES, TERMINAL, History, Trail
from tests.chaos.ledger import Entry

THAW_MS: Final = 100.0
"""A body that was about to begin when its process was frozen begins within this time of the thaw."""
_BY_HOLDER: Final = frozenset(("record_steps", "settle_runs", "decide_failure", "open_wait", "start_children"))
_LET_GO: Final = frozenset(("recover_runs", "release_runs", "time_out_runs"))


def _begins(history: History) -> dict[tuple[str, str], list[Entry]]:
    begun: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in history.of("begin"):
        begun[entry.data["run"], entry.data["step"]].append(entry)
    return begun


def no_rerun(history: History, examined: Counter[str]) -> Iterator[str]:
    """3: no body begins after its step was committed, and a stored output never changes."""
    begins = _begins(history)
    for trail in history.trails.values():
        committed: dict[str, tuple[int, int, int, str]] = {}
        for note in trail.of("step"):
            name, letters, sha, writer = note.words[0], note.words[1], note.words[3], note.words[4]
            if letters[0] != "S":
                continue
            examined["3"] += 1
            if name in committed and committed[name][3] != sha:
                yield f"the stored output of step {name!r} of run {trail.run} changed"
            fence = int(writer.partition(" ")[0] or "0")
            committed.setdefault(name, (note.order, note.at_ms, fence, sha))
        for name, (order, at_ms, fence, _) in committed.items():
            for begin in begins.get((trail.run, name), ()):
                claim = trail.claim(begin.data["fence"])
                later = claim is not None and claim.order > order
                same = begin.data["fence"] == fence and begin.real_ms > at_ms + CLOCK_SLACK_MS
                if later or same:
                    yield f"step {name!r} of run {trail.run} began in {begin.pid} after it was committed"
    yield from _uncommitted(history)


def _uncommitted(history: History) -> Iterator[str]:
    """Steps that ended in runs that succeeded, and whose results were never written."""
    ended = {(entry.data["run"], entry.data["step"]) for entry in history.of("end")}
    for run, step in sorted(ended):
        trail = history.trails.get(run)
        if trail is None or history.runs.get(run, {}).get("s") != "succeeded":
            continue
        if not any(note.words[0] == step and note.words[1].startswith("S") for note in trail.of("step")):
            yield f"run {run} succeeded, and the result of its step {step!r} was never committed"


def bounded_rerun(history: History, examined: Counter[str]) -> Iterator[str]:
    """4: a body begins again in an attempt only if its holder was hit; a lease is taken only from a holder that was."""
    for (run, step), begun in _begins(history).items():
        trail = history.trails.get(run)
        if trail is None:
            continue
        examined["4"] += len(begun)
        ordered = sorted(begun, key=lambda entry: entry.data["fence"])
        for first, second in pairwise(ordered):
            if first.data["attempt"] != second.data["attempt"]:
                continue
            fences = range(first.data["fence"], second.data["fence"])
            between = [claim for claim in trail.claims if claim.fence in fences]
            if not any(claim.ended_by in _LET_GO for claim in between):
                yield f"step {step!r} of run {run} began twice in attempt {first.data['attempt']}, and nobody was hit"
    for trail in history.trails.values():
        for claim in trail.claims:
            if claim.ended_by != "recover_runs":
                continue
            pid = history.pids.get(claim.worker)
            if not history.hit(pid, claim.at_ms - 2 * history.lease_ms, claim.ended_ms):
                yield f"run {trail.run} was taken from worker {claim.worker} ({pid}), which nothing had happened to"


def single_lease(history: History, examined: Counter[str]) -> Iterator[str]:
    """5: fences increase, claims never overlap, none is taken before its lease is over, each has one process."""
    for trail in history.trails.values():
        examined["5"] += len(trail.claims)
        for told in trail.overlaps:
            yield f"run {trail.run}: {told}"
        for earlier, later in pairwise(trail.claims):
            if later.fence <= earlier.fence:
                yield f"run {trail.run} was claimed with fence {later.fence} after {earlier.fence}"
        for claim in trail.claims:
            if claim.ended_by == "recover_runs" and claim.ended_ms < claim.lease_ms:
                early = claim.lease_ms - claim.ended_ms
                yield f"run {trail.run} was taken from {claim.worker} {early} ms before its lease was over"
    holders: dict[tuple[str, int], int] = {}
    for entry in history.of("begin"):
        place = entry.data["run"], entry.data["fence"]
        if entry.data["fence"] and holders.setdefault(place, entry.pid) != entry.pid:
            yield f"fence {place[1]} of run {place[0]} was at work in {holders[place]} and in {entry.pid}"


def fenced_commit(history: History, examined: Counter[str]) -> Iterator[str]:
    """6: what a holder writes, it writes under the claim that holds at that moment."""
    for trail in history.trails.values():
        for note in trail.of("step", "status"):
            writer = note.words[-2] if note.kind == "step" else note.words[-1]
            if note.verb not in _BY_HOLDER or not writer:
                continue
            examined["6"] += 1
            fence, _, token = writer.partition(" ")
            claim = trail.claim(int(fence))
            current = claim is not None and claim.token == token and claim.order < note.order
            held = claim is not None and (claim.ended is None or claim.ended >= note.order)
            if not (current and held):
                what = f"{note.kind} {note.words[0]!r} of run {trail.run}"
                yield f"{note.verb} wrote {what} under the stale fence {fence}"


def stale_silence(history: History, examined: Counter[str]) -> Iterator[str]:
    """7: a holder begins nothing once somebody else has the run, nor past its own deadline."""
    for entry in history.of("begin"):
        trail = history.trails.get(entry.data["run"])
        if trail is None:
            continue
        examined["7"] += 1
        fence = entry.data["fence"]
        newer = [claim for claim in trail.claims if claim.fence > fence > 0]
        stolen = bool(newer) and entry.real_ms > newer[0].at_ms + CLOCK_SLACK_MS
        overdue = fence > 0 and entry.data["left"] < 0 and entry.data["step"] != "deadly"
        if (stolen or overdue) and not history.hit(entry.pid, entry.real_ms - THAW_MS, entry.real_ms, FREEZES):
            why = "somebody else had claimed it" if stolen else f"its lease was over for {-entry.data['left']:.0f} ms"
            yield f"process {entry.pid} began step {entry.data['step']!r} of run {trail.run} although {why}"


def cancel_silence(history: History, examined: Counter[str]) -> Iterator[str]:
    """7b: a canceled run never succeeds, and begins nothing once its holder must have heard of it."""
    asked: dict[str, int] = {}
    for trail in history.trails.values():
        for note in trail.of("cancel"):
            asked.setdefault(trail.run, note.at_ms)
        if trail.run not in asked:
            continue
        examined["7b"] += 1
        order = trail.of("cancel")[0].order
        for note in trail.statuses:
            if note.words[0] in TERMINAL - {"canceled"} and note.order > order:
                yield f"run {trail.run} ended {note.words[0]} after its cancel was accepted"
    for entry in history.of("begin"):
        at_ms = asked.get(entry.data["run"])
        if at_ms is not None and entry.real_ms > at_ms + history.lease_ms + 1_000:
            late = entry.real_ms - at_ms
            yield f"step {entry.data['step']!r} of run {entry.data['run']} began {late:.0f} ms after its cancel"


def epoch(history: History, examined: Counter[str]) -> Iterator[str]:
    """17: the heartbeat counter only grows, and no fence of a run is given out twice."""
    last = 0
    for note in history.audit:
        if note.kind == "epoch":
            examined["17"] += 1
            if int(note.words[0]) <= last:
                yield f"the epoch went from {last} to {note.words[0]}"
            last = int(note.words[0])
    for trail in history.trails.values():
        for fence, times in Counter(claim.fence for claim in trail.claims).items():
            if times > 1:
                yield f"fence {fence} of run {trail.run} was given out {times} times"


_ATTEMPTS: Final = {
    "plain": 1,
    "sleep": 1,
    "event": 1,
    "parent": 1,
    "child": 1,
    "gap": 1,
    "mutex": 1,
    "append": 1,
    "wide": 1,
    "long": 1,
    "retry": 2,
}
"""How many attempts a run of these takes, whatever happens to its holders."""


def attempts(history: History, examined: Counter[str]) -> Iterator[str]:
    """21: attempts are numbered without gaps, and what happens to a holder costs none."""
    for trail in history.trails.values():
        yield from _numbered(trail)
        last = history.runs.get(trail.run, {})
        wanted = _ATTEMPTS.get(trail.workflow)
        if wanted is not None and last.get("s") == "succeeded":
            examined["21"] += 1
            if int(last.get("a", "0")) != wanted:
                yield f"run {trail.run} of {trail.workflow} took {last.get('a')} attempts and should take {wanted}"


def _numbered(trail: Trail) -> Iterator[str]:
    at = 0
    for note in trail.of("attempt", "without a"):
        if note.kind == "without a":
            at = 0
        elif note.verb == "admit_run":
            at = int(note.words[0])
        else:
            if int(note.words[0]) != at + 1:
                yield f"run {trail.run}: attempt {note.words[0]} follows attempt {at}"
            at = int(note.words[0])
