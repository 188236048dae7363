"""The model of the simulation: the run's life of tests/model, and with it gates, children, cancels of trees and events.

It is told each call that the server executed, in that order, and says what must have come of it. It knows nothing of
Lua, of the network and of what the workers believe.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from redflow.domain.run import RunOrder, public_run_id, stored_run_id
from redflow.engines.redis.runs import Lease, Settlement
from tests.model.model import Model
from tests.model.state import TERMINAL, Line, Place, Run, pop

_GRANT_MS: Final = 5_000
_CHILD: Final = re.compile(rb"(\d+ Rc \d+ -?\d+ - )- ([0-9a-f]+)( \d+ [a-z]+ )", re.DOTALL)
_EVENT: Final = re.compile(rb"(\d+ Re \d+ -?\d+ - )-( \d+ )(.*)", re.DOTALL)
_EVENT_FOUND: Final = re.compile(rb"\d+ Re \d+ -?\d+ - E ")
_DECIDED: Final = re.compile(rb"\d+ R[ce] \d+ -?\d+ - [^-] ")
_UNFINISHED: Final = ("running", "scheduled", "queued")
_END_LETTERS: Final = {"succeeded": b"S", "failed": b"F", "canceled": b"C"}


@dataclass
class Window:
    """A throttle or a rate limit of one key: when its window ends, and what it has admitted and granted."""

    ends: int = 0
    admitted: int = 0
    granted: int = 0
    limit: int = 1


@dataclass
class Event:
    """An event that was accepted."""

    id: str
    data: bytes
    at: int
    number: int
    fingerprint: str
    place: str | None
    resumed: set[str] = field(default_factory=set)
    started: dict[str, str] = field(default_factory=dict)


class SimulatedModel(Model):
    """What the scripts are to do.

    Args:
        now: the time, epoch ms; whoever drives the model moves it.

    Attributes:
        chance: the number by which this call asks sets for "any" of their members.
        written: names of keys that this call must have written, as far as that is known.
    """

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.chance = 0
        self.written: set[str] = set()
        self.mutexes: dict[str, str] = {}
        self.mutex_lines: dict[str, Line] = defaultdict(dict)
        self.grants: dict[str, int] = {}
        self.throttles: dict[str, Window] = defaultdict(Window)
        self.throttle_lines: dict[str, Line] = defaultdict(dict)
        self.throttled: dict[str, int] = {}
        self.rates: dict[str, Window] = defaultdict(Window)
        self.kids: dict[str, set[str]] = defaultdict(set)
        self.reached: dict[str, set[str]] = defaultdict(set)
        self.cascade: dict[str, str] = {}
        self.awaiters: dict[str, set[str]] = defaultdict(set)
        self.events: dict[str, Event] = {}
        self.latest: dict[str, str] = {}
        self.waiting: dict[str, Line] = defaultdict(dict)
        self.event_keys: dict[Place, str] = {}
        self._ends: list[tuple[str, str, bytes]] | None = None

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

    def _any(self, names: set[str] | dict[str, str]) -> list[str]:
        """The members of a set in the order in which this call comes upon them."""
        ordered = sorted(names)
        at = self.chance % max(1, len(ordered))
        return ordered[at:] + ordered[:at]

    # -- the run's life, with what hangs on it ------------------------------------------------------------------

    def _create(self, order: RunOrder) -> tuple[str, str]:
        is_new = order.run_id not in self.runs
        code, run_id = super()._create(order)
        parent = stored_run_id(order.parent_run_id) if order.parent_run_id else None
        if code == "created" and is_new and parent in self.runs:
            assert parent is not None
            above = self.runs[parent]
            self.kids[parent].add(run_id)
            if above.status == "canceled" or above["cr"] is not None:
                self._cascade_from(parent, str(above["cw"] or ""))
        return code, run_id

    def settle(
        self, items: Sequence[Settlement], worker: str, queues: Sequence[str], *, idle: bool
    ) -> tuple[bool, dict[int, str]]:
        """settle_runs; what hangs on the ends of several comes after all of them."""
        self._ends = [] if len(items) > 1 else None
        _, reasons = super().settle(items, worker, queues, idle=False)
        ends, self._ends = self._ends or [], None
        for end in ends:
            self._tell_end(*end)
        return any(self.ready[queue] or self.suspects[queue] for queue in queues), reasons

    def _settle(self, item: Settlement, run: Run) -> str:
        outcome = super()._settle(item, run)
        if outcome in ("retry", "suspended"):
            self._leave_gates(item.lease.run_id)
        if outcome == "suspended" and any(_is_decided(run[wait]) for wait in item.waits):
            self._wake(item.lease.run_id)
        return outcome

    def finish(self, run_id: str, to: str, payload: bytes = b"") -> None:
        """End a run, tell who waits for it, and give on what it held."""
        self.written |= {f"run:{run_id}", "leases"}
        super().finish(run_id, to, payload)
        if self._ends is None:
            self._tell_end(run_id, to, payload)
        else:
            self._ends.append((run_id, to, payload))
        self._leave_gates(run_id)

    def _leave_places(self, run_id: str, run: Run) -> None:
        super()._leave_places(run_id, run)
        if run.status != "running":
            self._leave_gates(run_id)

    def recover(self, limit: int, poison: bytes) -> tuple[int, int | None, int, int]:
        """recover_runs"""
        now, lease, recovered, poisoned = super().recover(limit, poison)
        for run_id in [held for held in _by_time(self.grants) if self.grants[held] <= now][:10]:
            self._pass_grant(run_id)
        return now, lease, recovered, poisoned

    def promote(self, limit: int) -> tuple[int, int | None, int]:
        """promote_runs"""
        now, _, promoted = super().promote(limit)
        for place in [place for place in _by_time(self.throttled) if self.throttled[place] <= now][:50]:
            room = min(self._room(place)[0], limit)
            for run_id in pop(self.throttle_lines[place], max(0, room)):
                run = self.runs[run_id]
                run.fields["tg"] = 1
                run.drop("d")
                self.move(run, "queued")
                self.enqueue(run_id)
                self.throttles[place].granted += 1
                promoted += 1
            self._tend(place)
        return now, self.next_due(), promoted

    def next_due(self) -> int | None:
        """When the next run or line becomes ready, or a run times out."""
        return min([*self.due.values(), *self.timeouts.values(), *self.throttled.values()], default=None)

    def _wake(self, run_id: str) -> None:
        """A wait of this run was decided."""
        run = self.runs[run_id]
        if run.status == "scheduled" and run["r"] is not None:
            self.due.pop(run_id, None)
            run.drop("d")
            self.move(run, "queued")
            self.enqueue(run_id)

    # -- mutex, throttle, rate limit ----------------------------------------------------------------------------

    def admit(self, lease: Lease, first: bool, options: Sequence[str]) -> list[object]:
        """admit_run"""
        run, reason = self.owned(lease)
        if run is None:
            return [reason, self.now, 0]
        if run["cr"] is not None:
            return ["canceled", self.now, 0]
        mutex, rate_key, rate_limit, rate_ms, throttle_key, throttle_limit, throttle_ms = options
        prefix = f"{len(run.workflow.encode())}:{run.workflow}:"
        rate = (prefix + rate_key, int(rate_limit), int(rate_ms)) if rate_key else None
        throttle = (prefix + throttle_key, int(throttle_limit), int(throttle_ms)) if throttle_key else None
        code, left = self._admit(lease.run_id, run, first and run["ad"] is None, mutex, rate, throttle)
        return [code, self.now, left]

    def _admit(
        self,
        run_id: str,
        run: Run,
        first: bool,
        mutex: str,
        rate: tuple[str, int, int] | None,
        throttle: tuple[str, int, int] | None,
    ) -> tuple[str, int]:
        if run["mk"] and run["mk"] != mutex:
            self._leave_mutex(run_id, str(run["mk"]))
        owner = self.mutexes.get(mutex) if mutex else None
        if owner is not None and owner != run_id:
            return self._wait_for_mutex(run_id, run, mutex, first)
        if run["tl"] and (throttle is None or run["tl"] != throttle[0]):
            self._leave_throttle(run_id, str(run["tl"]))
        granted = run["tg"] is not None
        if first and rate is not None:
            window = self.rates[rate[0]]
            if window.ends > self.now and window.admitted >= rate[1]:
                if owner is not None:
                    self._leave_mutex(run_id, mutex)
                return "rate_limited", window.ends - self.now
        if first and throttle is not None:
            self.throttles[throttle[0]].limit = throttle[1]
            if not granted and (self.throttle_lines[throttle[0]] or self._room(throttle[0])[0] <= 0):
                if owner is not None:
                    self._leave_mutex(run_id, mutex)
                return self._stand_in_line(run_id, run, throttle)
        if mutex:
            self.mutexes[mutex] = run_id
            run.fields["mk"] = mutex
            self.grants.pop(run_id, None)
        if first:
            self._pay(run, rate, throttle, granted)
            run.fields["t"] = self.now
            if run["to"] is not None:
                run.fields["ta"] = self.timeouts[run_id] = self.now + run.number("to")
        run.fields["ad"] = run.number("a")
        return "admitted", 0

    def _pay(
        self, run: Run, rate: tuple[str, int, int] | None, throttle: tuple[str, int, int] | None, granted: bool
    ) -> None:
        for window, period_ms in [(self.rates[rate[0]], rate[2])] if rate else []:
            self._count(window, period_ms)
        if throttle is not None:
            window = self.throttles[throttle[0]]
            self._count(window, throttle[2])
            if granted:
                window.granted -= 1
                run.drop("tl", "tg")
            self._tend(throttle[0])

    def _count(self, window: Window, period_ms: int) -> None:
        if window.ends <= self.now:
            window.ends, window.admitted = self.now + period_ms, 0
        window.admitted += 1

    def _wait_for_mutex(self, run_id: str, run: Run, mutex: str, first: bool) -> tuple[str, int]:
        if run["tl"]:
            self._leave_throttle(run_id, str(run["tl"]))
        self._unclaim(run_id, run, "queued", first)
        run.fields["mk"] = mutex
        self.mutex_lines[mutex][run_id] = run.number("c") if first else self.now
        return "mutex_wait", 0

    def _stand_in_line(self, run_id: str, run: Run, throttle: tuple[str, int, int]) -> tuple[str, int]:
        place, _, period_ms = throttle
        _, ends = self._room(place)
        self._unclaim(run_id, run, "scheduled", True)
        run.fields |= {"tl": place, "d": ends or self.now + period_ms}
        self.throttle_lines[place][run_id] = run.number("c")
        self._tend(place)
        return "throttled", 0

    def _unclaim(self, run_id: str, run: Run, to: str, first: bool) -> None:
        self.leases.pop(run_id, None)
        run.drop("x")
        if first:
            run.drop("a", "t", "ta")
            self.timeouts.pop(run_id, None)
        elif run["a"] != run["ad"] and run.number("a") > 1:
            run.fields["a"] = run.number("a") - 1
        else:
            run.fields["r"] = 1
        self.move(run, to)
        self.hand_over(run.workflow)

    def _leave_gates(self, run_id: str) -> None:
        run = self.runs[run_id]
        if run["mk"] is not None:
            self._leave_mutex(run_id, str(run["mk"]))
        if run["tl"] is not None:
            self._leave_throttle(run_id, str(run["tl"]))

    def _leave_mutex(self, run_id: str, mutex: str) -> None:
        self.written |= {f"mutex:{mutex}", f"mutexline:{mutex}"}
        self.mutex_lines[mutex].pop(run_id, None)
        self.runs[run_id].drop("mk")
        if self.mutexes.get(mutex) != run_id:
            return
        self.grants.pop(run_id, None)
        if following := pop(self.mutex_lines[mutex], 1):
            self._grant(next(iter(following)), mutex)
        else:
            del self.mutexes[mutex]

    def _grant(self, run_id: str, mutex: str) -> None:
        self.mutexes[mutex] = run_id
        self.grants[run_id] = self.now + _GRANT_MS
        self.enqueue(run_id, front=True)

    def _pass_grant(self, run_id: str) -> None:
        del self.grants[run_id]
        run = self.runs.get(run_id)
        mutex = None if run is None else run["mk"]
        if run is None or run.status != "queued" or mutex is None or self.mutexes.get(str(mutex)) != run_id:
            return
        line = self.mutex_lines[str(mutex)]
        others = [other for other in sorted(line, key=lambda o: (line[o], o)) if self.runs[other].queue != run.queue]
        if others:
            del line[others[0]]
            run.drop("mk")
            self._grant(others[0], str(mutex))
        else:
            self.grants[run_id] = self.now + _GRANT_MS

    def _leave_throttle(self, run_id: str, place: str) -> None:
        run = self.runs[run_id]
        stood = self.throttle_lines[place].pop(run_id, None) is not None
        if not stood and run["tg"] is not None:
            self.throttles[place].granted -= 1
        run.drop("tl", "tg")
        self._tend(place)

    def _room(self, place: str) -> tuple[int, int | None]:
        """How many more may pass a throttle, and when its window ends."""
        window = self.throttles[place]
        ends = window.ends if window.ends > self.now else None
        return window.limit - (window.admitted if ends else 0) - window.granted, ends

    def _tend(self, place: str) -> None:
        room, ends = self._room(place)
        at = self.now if room > 0 else ends
        if self.throttle_lines[place] and at is not None:
            self.throttled[place] = at
        else:
            self.throttled.pop(place, None)

    # -- cancels and children -----------------------------------------------------------------------------------

    def cancel(self, run_id: str, reason: str) -> str:
        """cancel_run, of one run"""
        run = self.runs.get(run_id)
        if run is not None and run.status not in TERMINAL and run["z"] is None:
            self.due.pop(run_id, None)
            if run["cr"] is None:
                self._cascade_from(run_id, reason)
        return super().cancel(run_id, reason)

    def cancel_tree(self, run_id: str, reason: str, operation: str) -> list[object]:
        """cancel_run"""
        answer, run = self.cancel(run_id, reason), self.runs.get(run_id)
        if operation and run is not None:
            if answer in ("canceled", "requested"):
                run.fields.setdefault("co", operation)
            if answer == "finished" and run["co"] == operation:
                answer = "canceled"
        return [answer, int(run_id in self.cascade)]

    def _cascade_from(self, run_id: str, reason: str) -> None:
        if self.kids.get(run_id):
            self.cascade[run_id] = reason or f"parent run {public_run_id(run_id)} canceled"

    def cancel_children(self, limit: int) -> list[int]:
        """cancel_children"""
        canceled = 0
        for parent in self._any(self.cascade)[:20]:
            reason, kids = self.cascade[parent], self.kids[parent]
            while kids and limit > 0:
                kid = self._any(kids)[0]
                kids.discard(kid)
                self.reached[parent].add(kid)
                limit -= 1
                answer = self.cancel(kid, reason)
                if answer == "finished":
                    self._cascade_from(kid, reason)
                canceled += answer in ("canceled", "requested")
            if not kids:
                self.cascade.pop(parent)
        return [canceled, int(bool(self.cascade))]

    def start_child(
        self, lease: Lease, step: str, header: str, generation: str, awaited: bool, order: RunOrder
    ) -> tuple[str, str]:
        """start_children, one of them"""
        parent, reason = self.owned(lease)
        if parent is None:
            return reason, ""
        if parent["cr"] is not None or parent["z"] is not None:
            return "cancel" if parent["cr"] is not None else "timeout", ""
        order.parent_run_id = public_run_id(lease.run_id)
        code, run_id = self._create(order)
        if code == "unknown_workflow":
            return code, run_id
        child = self.runs[run_id]
        if code == "created":
            child.fields["dp"] = parent.number("dp") + 1
        if awaited:
            whose = "own" if code == "created" else "foreign"
            parent.fields[step] = f"{header}- {run_id} {generation} {whose} ".encode()
            if child.status in TERMINAL:
                output = child["o"] if child.status == "succeeded" else child["e"]
                self._resolve_child(
                    run_id, child.status, output if isinstance(output, bytes) else b"", lease.run_id, step
                )
            else:
                self.awaiters[run_id].add(f"{lease.run_id} {step}")
        else:
            parent.fields[step] = f'{header}"{public_run_id(run_id)}"'.encode()
        parent.drop("x")
        return code, run_id

    def _tell_end(self, run_id: str, to: str, payload: bytes) -> None:
        self.written.add(f"awaiters:{run_id}")
        for awaiter in sorted(self.awaiters.pop(run_id, ())):
            parent, _, step = awaiter.partition(" ")
            self._resolve_child(run_id, to, b"" if to == "canceled" else payload, parent, step)

    def _resolve_child(self, child: str, to: str, payload: bytes, parent: str, step: str) -> None:
        run = self.runs.get(parent)
        packed = None if run is None else run[step]
        if run is None or run.status not in _UNFINISHED or not isinstance(packed, bytes):
            return
        found = _CHILD.fullmatch(packed)
        if found is None or found[2].decode() != child:
            return
        self.written.add(f"run:{parent}")
        run.fields[step] = found[1] + _END_LETTERS[to] + b" " + found[2] + found[3] + payload
        self._wake(parent)

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

    def accept_event(self, event_id: str, name: str, data: bytes, key: str, fingerprint: str) -> list[object]:
        """accept_event, of events without subscribers"""
        event = self.events.get(event_id)
        if event is not None:
            return ["same", event_id, 1, [], sorted(public_run_id(run) for run in event.resumed)]
        place = _place(name, key[1:]) if key else None
        event = Event(event_id, data, self.now, len(self.events) + 1, fingerprint, place)
        self.events[event_id] = event
        if place is not None:
            self.latest[place] = event_id
            self._wake_waiters(place, event)
        return ["accepted", event_id, 1, [], sorted(public_run_id(run) for run in event.resumed)]

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
        if run.status not in _UNFINISHED:
            return False
        told = f"{event.at} {len(event.id.encode())} {event.id} ".encode()
        run.fields[f"v:{place}"] = event.number
        run.fields[step] = found[1] + b"E" + found[2] + found[3] + told + event.data
        self.written.add(f"run:{run_id}")
        self._wake(run_id)
        return True


def _place(name: str, key: str) -> str:
    return f"{len(name.encode())}:{name}:{key}"


def _by_time(times: dict[str, int]) -> list[str]:
    return sorted(times, key=lambda name: (times[name], name))


def _is_decided(packed: bytes | int | str | None) -> bool:
    return isinstance(packed, bytes) and _DECIDED.match(packed) is not None
