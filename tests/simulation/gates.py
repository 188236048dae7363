"""The model's gates: mutexes, throttles and rate limits, and the runs that stand in line for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redflow.engines.redis.runs import Lease, Settlement
from tests.model.model import Model
from tests.model.state import Line, Run, pop

_GRANT_MS: Final = 5_000


@dataclass
class Window:
    """A throttle or a rate limit of one key: when its window ends, and what it has admitted and granted."""

    ends: int = 0
    admitted: int = 0
    granted: int = 0
    limit: int = 1


class Gates(Model):
    """A run's life with what stands before an attempt.

    Args:
        now: the time, epoch ms; whoever drives the model moves it.

    Attributes:
        written: names of keys that this call must have written, as far as that is known.
    """

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.written: set[str] = set()
        self.mutexes: dict[str, str] = {}
        self.mutex_lines: dict[str, Line] = defaultdict(dict)
        self.grants: dict[str, int] = {}
        self.throttles: dict[str, Window] = defaultdict(Window)
        self.throttle_lines: dict[str, Line] = defaultdict(dict)
        self.throttled: dict[str, int] = {}
        self.rates: dict[str, Window] = defaultdict(Window)

    def _settle(self, item: Settlement, run: Run) -> str:
        outcome = super()._settle(item, run)
        if outcome in ("retry", "suspended"):
            self._leave_gates(item.lease.run_id)
        return outcome

    def finish(self, run_id: str, to: str, payload: bytes = b"") -> None:
        """End a run, and give on what it held."""
        self.written |= {f"run:{run_id}", "leases"}
        super().finish(run_id, to, payload)
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


def _by_time(times: dict[str, int]) -> list[str]:
    return sorted(times, key=lambda name: (times[name], name))
