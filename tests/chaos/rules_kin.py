"""Invariants between runs: events and subscribers, parents and children, waits and cancels (10, 14 to 14c)."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from tests.chaos.facts import EVENT_TIMEOUT_MS, SUBSCRIBERS
from tests.chaos.history import TERMINAL, History

IN_TIME_MS: Final = EVENT_TIMEOUT_MS / 2
"""An event that was emitted so soon after its run was created was in time for its wait."""


def fan_out(history: History, examined: Counter[str]) -> Iterator[str]:
    """10: an event starts one run of each subscriber, and its record counts what it did."""
    started: Counter[tuple[str, Any]] = Counter()
    for run in history.of_workflow(*SUBSCRIBERS):
        started[history.runs[run]["w"], history.input_of(run).get("n")] += 1
    certain = {entry.data["data"]["n"] for entry in history.ops("emit", "ok") if entry.data["name"] == "news"}
    for run in history.of_workflow("announce"):
        if history.runs[run].get("s") == "succeeded":
            certain.add(history.input_of(run).get("n"))
    for number in certain:
        for workflow in SUBSCRIBERS:
            examined["10"] += 1
            if started[workflow, number] == 0:
                yield f"event {number} was accepted, and {workflow} has no run of it"
    for (workflow, number), times in started.items():
        if times > 1:
            yield f"event {number} started {times} runs of {workflow}"
    for event in history.snapshot.names("event:"):
        record = history.snapshot.hash(f"event:{event}")
        delivered = sum(json.loads(value)[0] == "delivered" for name, value in record.items() if name.startswith("d:"))
        if record.get("fan") == "pending":
            yield f"event {event} is still pending"
        elif int(record.get("nd", "0")) != delivered:
            yield f"event {event} counts {record.get('nd')} deliveries and has {delivered}"


def parent_and_child(history: History, examined: Counter[str]) -> Iterator[str]:
    """14: a parent has one child per step, and got what that child stored, byte for byte."""
    kids: dict[tuple[str, Any], list[str]] = defaultdict(list)
    for trail in history.trails.values():
        if trail.workflow == "child" and trail.parent:
            kids[trail.parent, history.input_of(trail.run).get("k")].append(trail.run)
    for parent in history.of_workflow("parent"):
        if history.runs[parent].get("s") != "succeeded":
            continue
        examined["14"] += 1
        _, outputs = history.output_of(parent)
        for k, output in enumerate(outputs):
            runs = kids[parent, k]
            if len(runs) != 1:
                yield f"step kid{k} of run {parent} has the children {runs}"
            elif history.output_of(runs[0]) != output:
                yield f"run {parent} got {output!r} of its child {runs[0]}, which stored {history.output_of(runs[0])!r}"


def waiter(history: History, examined: Counter[str]) -> Iterator[str]:
    """14b: a wait is decided once, by its event or its time-out, as the event's record tells."""
    resumed = {
        run: event
        for event in history.snapshot.names("resumed:")
        for run in history.snapshot.members(f"resumed:{event}")
    }
    for trail in history.trails.values():
        ends: dict[str, tuple[str, str]] = {}
        for note in trail.of("step"):
            name, letters, sha, first = note.words[0], note.words[1], note.words[3], note.words[5]
            if letters.endswith("e") and first in ("E", "T") and ends.setdefault(name, (first, sha))[0] != first:
                yield f"the wait {name!r} of run {trail.run} was decided twice: {ends[name][0]} and {first}"
    emitted = {entry.data["data"]["n"]: entry.real_ms for entry in history.ops("emit", "ok")}
    for run in history.of_workflow("event"):
        record = history.runs[run]
        if record.get("s") != "succeeded":
            continue
        examined["14b"] += 1
        output = history.output_of(run)
        if output is None and run in resumed:
            yield f"run {run} timed out, and event {resumed[run]} says that it resumed it"
        elif output is not None and run in resumed and resumed[run] != output[0]:
            yield f"run {run} got event {output[0]}, and event {resumed[run]} says that it resumed it"
        elif output is not None and output[1].get("n") != history.input_of(run).get("n"):
            yield f"run {run} got the event of somebody else: {output}"
        elif (
            output is None
            and "timeout_ms" not in history.input_of(run)
            and emitted.get(history.input_of(run).get("n"), math.inf) < float(record["c"]) + IN_TIME_MS
        ):
            yield f"run {run} got no event, and it was emitted in time"
    for entry in history.ops("emit", "ok"):
        for run in entry.data["resumed"]:
            if resumed.get(run) != entry.data["event"]:
                yield f"event {entry.data['event']} was told to resume run {run}, and its record does not say so"


def cascade(history: History, examined: Counter[str]) -> Iterator[str]:
    """14c: a cancel reaches all that is below a run."""
    kids: dict[str, list[str]] = defaultdict(list)
    for trail in history.trails.values():
        if trail.parent:
            kids[trail.parent].append(trail.run)
    for entry in history.ops("cancel", "ok"):
        if not entry.data["done"] or history.runs.get(entry.data["run"], {}).get("s") != "canceled":
            continue
        below = list(kids[entry.data["run"]])
        while below:
            run = below.pop()
            below += kids[run]
            examined["14c"] += 1
            status = history.runs.get(run, {}).get("s")
            if status not in TERMINAL:
                yield f"run {entry.data['run']} was canceled, and {run} below it is {status}"
