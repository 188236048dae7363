"""The model of the simulation: the run's life of tests/model, and with it gates, families, events and cron.

It is told each call that the server executed, in that order, and says what must have come of it. It knows nothing of
Lua, of the network and of what the workers believe.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from redflow.domain.run import RunOrder, public_run_id
from redflow.engines.redis.runs import Lease
from tests.model.state import Line
from tests.simulation.kin import UNFINISHED, Families

_EVENT: Final = re.compile(rb"(\d+ Re \d+ -?\d+ - )-( \d+ )(.*)", re.DOTALL)
_EVENT_FOUND: Final = re.compile(rb"\d+ Re \d+ -?\d+ - E ")


@dataclass
class Event:
    """An event that was accepted, the runs that it woke and those that it started, by trigger."""

    id: str
    data: bytes
    at: int
    number: int
    fingerprint: str
    resumed: set[str] = field(default_factory=set)
    started: dict[str, str] = field(default_factory=dict)


@dataclass
class Cron:
    """A cron trigger: when it is due, and the last run that it started."""

    workflow: str
    expression: str
    zone: str
    given: str
    due: int | None = None
    last: str = ""


class SimulatedModel(Families):
    """What the scripts are to do.

    Args:
        now: the time, epoch ms; whoever drives the model moves it.
    """

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.events: dict[str, Event] = {}
        self.latest: dict[str, str] = {}
        self.waiting: dict[str, Line] = defaultdict(dict)
        self.subscribers: dict[str, dict[str, str]] = defaultdict(dict)
        self.crons: dict[str, Cron] = {}

    def expire(self, name: str) -> None:
        """The time of a key is over."""
        family, _, rest = name.partition(":")
        if family == "worker":
            self.workers[rest].gone = True
        elif family == "waiting":
            self.waiting.pop(rest, None)
        elif family == "throttle":
            self.throttles.pop(rest, None)
        elif family == "rate":
            self.rates.pop(rest, None)
        elif family == "idem":
            for place in [p for p in self.holders if f"{len(p[0].encode())}:{p[0]}:{p[1]}" == rest]:
                del self.holders[place]

    # -- events -------------------------------------------------------------------------------------------------

    def open_wait(self, lease: Lease, step: str, header: str, name: str, key: str, deadline: int) -> str:
        """open_wait"""
        run, reason = self.owned(lease)
        if run is None:
            return reason
        if run["cr"] is not None or run["z"] is not None:
            return "cancel" if run["cr"] is not None else "timeout"
        before, place = run[step], _place(name, key)
        if isinstance(before, bytes) and _EVENT_FOUND.match(before):
            return "found"
        run.fields[step] = f"{header}- {deadline} {len(place.encode())} {place} ".encode()
        event = self.events.get(self.latest.get(place, ""))
        if event is not None and event.at >= run.number("c") and self.now <= deadline:
            received = run[f"v:{place}"]
            if (received is None or event.number > int(received)) and self._give(lease.run_id, step, place, event):
                return "found"
        self.waiting[place][f"{lease.run_id} {step}"] = deadline
        return "open"

    def close_wait(self, run_id: str, step: str, name: str, key: str) -> str:
        """close_wait"""
        self.waiting[_place(name, key)].pop(f"{run_id} {step}", None)
        packed = self.runs[run_id][step] if run_id in self.runs else None
        return "found" if isinstance(packed, bytes) and _EVENT_FOUND.match(packed) else "closed"

    def accept_event(
        self, event_id: str, name: str, data: bytes, key: str, parent: str, fingerprint: str
    ) -> list[object]:
        """accept_event"""
        event = self.events.get(event_id)
        if event is not None:
            code = "same" if event.fingerprint == fingerprint else "conflict"
            return self._told(code, event) if code == "same" else [code, event_id, 1, [], []]
        place = _place(name, key[1:]) if key else None
        event = Event(event_id, data, self.now, len(self.events) + 1, fingerprint)
        self.events[event_id] = event
        if place is not None:
            self.latest[place] = event_id
            self._wake_waiters(place, event)
        for trigger, workflow in sorted(self.subscribers[name].items()):
            digest = hashlib.sha1(f"{event_id} {trigger}".encode()).hexdigest()[:11]
            run_id = f"{self.now:012x}70008{event.number % 65536:04x}{digest}"
            code, run_id = self._create(RunOrder(run_id, workflow, data, parent_run_id=parent or None))
            if code != "unknown_workflow":
                event.started[trigger] = public_run_id(run_id)
        return self._told("accepted", event)

    def _told(self, code: str, event: Event) -> list[object]:
        started = [event.started[trigger] for trigger in sorted(event.started)]
        return [code, event.id, 1, started, sorted(public_run_id(run) for run in event.resumed)]

    def subscribe(self, workflow: str, wanted: Sequence[tuple[str, str]]) -> list[str]:
        """subscribe_workflow: (trigger, event) of each; contracts are none"""
        for triggers in self.subscribers.values():
            for trigger in [trigger for trigger, its in triggers.items() if its == workflow]:
                del triggers[trigger]
        for trigger, event in wanted:
            self.subscribers[event][trigger] = workflow
        return ["ok"]

    def _wake_waiters(self, place: str, event: Event) -> None:
        line = self.waiting[place]
        for wait in [wait for wait, deadline in line.items() if deadline < event.at]:
            del line[wait]
        for wait in sorted(line, key=lambda wait: (line[wait], wait)):
            run_id, _, step = wait.partition(" ")
            run = self.runs.get(run_id)
            received = None if run is None else run[f"v:{place}"]
            if received is not None and int(received) >= event.number:
                continue
            del line[wait]
            if self._give(run_id, step, place, event):
                event.resumed.add(run_id)

    def _give(self, run_id: str, step: str, place: str, event: Event) -> bool:
        run = self.runs.get(run_id)
        packed = None if run is None else run[step]
        found = _EVENT.fullmatch(packed) if isinstance(packed, bytes) else None
        if run is None or found is None or found[3] != f"{len(place.encode())} {place} ".encode():
            return False
        if run.status not in UNFINISHED:
            return False
        told = f"{event.at} {len(event.id.encode())} {event.id} ".encode()
        run.fields[f"v:{place}"] = event.number
        run.fields[step] = found[1] + b"E" + found[2] + found[3] + told + event.data
        self.written.add(f"run:{run_id}")
        self._wake(run_id)
        return True

    # -- cron ---------------------------------------------------------------------------------------------------

    def schedule_crons(self, workflow: str, version: int | None, triggers: Sequence[Sequence[str]]) -> str:
        """schedule_crons: (trigger, expression, timezone, input, user_id, next) of each"""
        meta = self.metas.get(workflow)
        if meta is None:
            return "unregistered"
        if version is not None and meta.version is not None and meta.version > version:
            return "older"
        names = [trigger[0] for trigger in triggers]
        for old in [name for name, cron in self.crons.items() if cron.workflow == workflow and name not in names]:
            del self.crons[old]
        for trigger, expression, zone, given, _user_id, following in triggers:
            known = self.crons.get(trigger)
            kept = known is not None and (known.expression, known.zone) == (expression, zone) and known.due is not None
            cron = self.crons.setdefault(trigger, Cron(workflow, expression, zone, given))
            if not kept:
                cron.due = int(following) if following else None
        return "ok"

    def next_tick(self) -> int | None:
        """When the next cron trigger is due."""
        return min((cron.due for cron in self.crons.values() if cron.due is not None), default=None)

    def due_crons(self, limit: int) -> list[object]:
        """due_crons"""
        due = {name: cron.due for name, cron in self.crons.items() if cron.due is not None and cron.due <= self.now}
        names = sorted(due, key=lambda name: (due[name], name))[:limit]
        told = [[name, due[name], self.crons[name].expression, self.crons[name].zone] for name in names]
        return [self.now, self.next_tick(), *told]

    def fire_cron(
        self, trigger: str, due: str, following: str, fires: str, run_id: str, latest_ms: int
    ) -> list[object]:
        """fire_cron"""
        cron = self.crons.get(trigger)
        if cron is None or str(cron.due or "") != due:
            return ["taken", self.next_tick()]
        if fires and self.now - int(fires) > latest_ms:
            return ["late", self.next_tick()]
        cron.due = int(following) if following else None
        code = self._fire(cron, run_id) if fires else "missed"
        return [code, self.next_tick()]

    def _fire(self, cron: Cron, run_id: str) -> str:
        last = self.runs.get(cron.last)
        if last is not None and last.status in UNFINISHED:
            return "skipped"
        code, _ = self._create(RunOrder(run_id, cron.workflow, cron.given.encode()))
        if code == "created":
            cron.last = run_id
        return "fired" if code == "created" else code


def _place(name: str, key: str) -> str:
    return f"{len(name.encode())}:{name}:{key}"
