"""One attempt: the shared state of a handler, its steps and whoever interrupts them.

    running ──> ended        the handler returned or raised
            ├─> suspended    everything it waits for is an open wait: the run sleeps
            ├─> canceled     a cancel was requested
            ├─> timed_out    the run's time-out has passed: handed back, its failure decided
            ├─> stopping     the worker stops: handed back, same attempt
            └─> lost         the lease is gone: nothing may be written any more

The state leaves `running` once and never comes back. From then on a step call writes nothing and calls nothing, so
user code may do what it likes while it unwinds, and can't change the outcome.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final, Literal

from redflow.domain.step import StepRecord
from redflow.errors import CanceledError
from redflow.execution.awaiting import RUNNABLE, Runnable, leaves
from redflow.execution.journal import Claim, Interruption, Journal
from redflow.execution.threads import ThreadPool
from redflow.types import CancelSignal, StepApi

log = logging.getLogger("redflow")

State = Literal["running", "ended", "suspended", "canceled", "timed_out", "stopping", "lost"]

UNWIND_S: Final = 0.5
"""How long user code may take to unwind, seconds; then it is abandoned."""
_AWAKE_WARNING_S: Final = 10.0
_LOOK_EVERY_MS: Final = 2000
"""The net under a lost message that a wait was decided, while the run is awake."""
_OVERDUE_S: Final = 1.0
_ANNOUNCE_S: Final = 0.05
"""A step that lasts longer, twice this at most, is recorded as running; shorter ones cost one write only. Seconds."""


_making_signals: Final = threading.Lock()


class OpenWait:
    """A wait that is parked on a future until its time."""

    __slots__ = ("decided_elsewhere", "future", "task", "wakes_at")

    def __init__(
        self,
        future: asyncio.Future[None],
        wakes_at: int | None,
        task: asyncio.Task[object] | None,
        decided_elsewhere: bool,
    ) -> None:
        self.future = future
        self.wakes_at = wakes_at
        self.task = task
        self.decided_elsewhere = decided_elsewhere


class Announcer:
    """Says of steps that last that they are running, for those who look: one timer for all runs of a worker.

    Attributes:
        loop: the event loop of these runs.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._looks = 0
        self._watched: dict[Attempt, int] = {}
        """Attempts with steps under way, and after how many looks the first of them began."""
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, attempt: Attempt) -> None:
        """A step of this attempt has begun, the only one for now."""
        self._watched[attempt] = self._looks
        if self._timer is None:
            self._timer = self.loop.call_later(_ANNOUNCE_S, self._look)

    def forget(self, attempt: Attempt) -> None:
        """The steps of this attempt have ended."""
        self._watched.pop(attempt, None)

    def _look(self) -> None:
        self._looks += 1
        for attempt, began in list(self._watched.items()):
            if self._looks - began > 1:
                del self._watched[attempt]
                attempt.announce()
        self._timer = self.loop.call_later(_ANNOUNCE_S, self._look) if self._watched else None


class Attempt:
    """The state of one attempt.

    Args:
        claim: the run.
        journal: where its steps are kept.
        threads: the worker's pool for plain functions.
        make_steps: makes the step methods of this attempt.
        announcer: told of steps that begin.
    """

    # What most attempts leave as it is, and seldom look at, belongs to the class, so that making one stays cheap.
    thread_call: asyncio.Task[object] | None = None
    thread_handler: asyncio.Future[object] | None = None
    on_interrupt: Callable[[], None] | None = None
    on_suspend: Callable[[], None] | None = None
    _signal: CancelSignal | None = None
    _interrupted = False
    _check_planned = False
    _watched: frozenset[asyncio.Future[object]] = frozenset()
    _waits_since: float | None = None
    _warned_awake = False
    _timer: asyncio.TimerHandle | None = None

    def __init__(
        self,
        claim: Claim,
        journal: Journal,
        threads: ThreadPool,
        make_steps: Callable[[Attempt], StepApi],
        announcer: Announcer,
    ) -> None:
        self.claim = claim
        self.journal = journal
        self.threads = threads
        self.make_steps = make_steps
        self._announcer = announcer
        self.state: State = "running"
        self.settling = False
        """The outcome is on its way to the engine; interruptions come too late."""
        self.task: asyncio.Task[object] | None = None
        self.names: set[str] = set()
        self.next_seq = 1 + max((step.seq for step in claim.steps.values()), default=0) if claim.steps else 1
        self.in_flight: dict[str, asyncio.Task[object] | None] = {}
        self.started: dict[str, StepRecord] = {}
        self.limits: dict[str, float] = {}
        """When steps under way run out of their time-outs, monotonic seconds."""
        self.open_waits: dict[str, OpenWait] = {}
        self.unsuccessful: list[StepRecord] = []

    # -- interruption -------------------------------------------------------------------------------------------

    @property
    def signal(self) -> CancelSignal:
        """Set when the attempt is interrupted; made when somebody first asks for it, in any thread."""
        with _making_signals:
            if self._signal is None:
                self._signal = CancelSignal()
        # In this order, and `interrupt` in the other: one of the two sees what the other did.
        if self._interrupted and not self._signal.is_set():
            self._signal.set()
        return self._signal

    def interrupt(self, why: Interruption) -> None:
        """Stop user code: set the signal and cancel what runs. The first interruption stays, but for a lost lease."""
        if self.settling:
            return
        if self.state == "ended" and why in ("canceled", "timed_out"):
            return  # the script that settles sees the request and decides
        if self.state not in ("running", "ended"):
            if why == "lost":
                self.state = "lost"
            return
        self.state = why
        self._interrupted = True
        if self._signal is not None:
            self._signal.set()
        self._cancel_tasks()

    def close(self) -> None:
        """The handler has come to its end; its open steps no longer count."""
        if self.state == "running":
            self.state = "ended"
        if self._timer is not None:
            self._timer.cancel()

    def release(self) -> None:
        """Nobody will ask anything of it any more: let go of what refers back to it.

        Without this every run would be a cycle of two dozen objects, and the garbage collector the worker's main work.
        """
        self.task = self.on_interrupt = self.on_suspend = None

    def cancel_leftovers(self) -> list[asyncio.Task[object]]:
        """Cancel the tasks of steps that are still open at the end; returns those tasks."""
        tasks = [task for task in self.in_flight.values() if task is not None and task is not self.task]
        for task in tasks:
            task.cancel()
        for wait in self.open_waits.values():
            wait.future.cancel()
            if wait.task is not None and wait.task is not self.task:
                tasks.append(wait.task)
        return tasks

    def enter(self, step: StepRecord, *, announce: bool = True) -> None:
        """A step is under way, until `leave`.

        Args:
            step: the step.
            announce: whether its record shall say that it is running, if it lasts, for those who look.
        """
        self.in_flight[step.name] = asyncio.current_task(self._announcer.loop)
        if announce:
            if not self.started:
                self._announcer.watch(self)
            self.started[step.name] = step

    def calm(self, step: StepRecord) -> None:
        """A step's function has ended: nobody needs to be told any more that it is running."""
        if self.started.pop(step.name, None) is not None and not self.started:
            self._announcer.forget(self)

    def leave(self, step: StepRecord) -> None:
        """A step is over."""
        del self.in_flight[step.name]
        self.calm(step)
        if self.open_waits:
            self.consider_sleep()

    def announce(self) -> None:
        """Note the steps that have begun and still last."""
        if self.state != "running":
            return
        for step in self.started.values():
            self.journal.note(step)
        self.started.clear()

    def check_open(self) -> None:
        """Every step call comes through here first.

        Raises:
            CanceledError: a cancel was requested.
            asyncio.CancelledError: the attempt is over for another reason.
        """
        if self.state == "canceled":
            raise CanceledError()
        if self.state != "running":
            raise asyncio.CancelledError(f"the attempt is over: {self.state}")

    def _cancel_tasks(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.cancel_leftovers()
        if self.task is not None and self.task is not _running_task():
            self.task.cancel()
        if self.on_interrupt is not None:
            self.on_interrupt()

    def overdue_step(self, now_s: float) -> str | None:
        """A step far past its time-out, so that nothing on the event loop can end it; any thread may ask."""
        for name, limit_s in list(self.limits.items()):
            if now_s > limit_s + _OVERDUE_S:
                return name
        return None

    # -- the sleep rule -----------------------------------------------------------------------------------------

    def park(self, name: str, wakes_at: int | None, *, decided_elsewhere: bool = False) -> asyncio.Future[None]:
        """Open a wait; the future ends when it is time to look, while the run is awake.

        Args:
            name: of the step.
            wakes_at: when the wait is over, epoch ms; None: only a decision ends it.
            decided_elsewhere: a script may decide it (a child's end, say); then the step's record tells.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open_waits[name] = OpenWait(future, wakes_at, asyncio.current_task(), decided_elsewhere)
        self._set_timer()
        self.consider_sleep()
        return future

    def unpark(self, name: str) -> None:
        """A wait ended."""
        self.open_waits.pop(name, None)

    def consider_sleep(self) -> None:
        """Look, once the ready tasks have run, whether the run may sleep."""
        if not self._check_planned and self.open_waits and not self.in_flight and self.state == "running":
            self._check_planned = True
            asyncio.get_running_loop().call_soon(self._check_sleep)

    def _check_sleep(self) -> None:
        self._check_planned = False
        if self.state != "running" or self.in_flight or not self.open_waits or self.task is None:
            return
        awake_by = self._leaf_that_keeps_awake()
        if awake_by is None:
            if self.journal.sleeps_durably:
                self.state = "suspended"
                if self.on_suspend is not None:
                    self.on_suspend()
                self._cancel_tasks()
            return
        if isinstance(awake_by, Runnable):
            self._check_planned = True
            asyncio.get_running_loop().call_soon(self._check_sleep)
            return
        self._watch(awake_by)

    def _leaf_that_keeps_awake(self) -> asyncio.Future[object] | Runnable | None:
        waits = {id(wait.future) for wait in self.open_waits.values() if not wait.future.done()}
        roots: list[asyncio.Future[object]] = [self.task] if self.task is not None else []
        while roots:
            for leaf in leaves(roots.pop()):
                if isinstance(leaf, Runnable):
                    return RUNNABLE
                if id(leaf) in waits:
                    continue
                if leaf is self.thread_handler and self.thread_call is not None:
                    roots.append(self.thread_call)
                    continue
                return leaf
        return None

    def _watch(self, leaf: asyncio.Future[object]) -> None:
        """Something that is no wait keeps the run awake: look again when it ends, and name it if it lasts."""
        if leaf not in self._watched:
            self._watched |= {leaf}
            leaf.add_done_callback(self._leaf_done)
        loop = asyncio.get_running_loop()
        if self._waits_since is None:
            self._waits_since = loop.time()
            loop.call_later(_AWAKE_WARNING_S, self._warn_awake, leaf)

    def _leaf_done(self, leaf: asyncio.Future[object]) -> None:
        self._watched -= {leaf}
        self._waits_since = None
        self.consider_sleep()

    def _warn_awake(self, leaf: asyncio.Future[object]) -> None:
        if self.state != "running" or leaf.done() or self._warned_awake:
            return
        self._warned_awake = True
        log.warning(
            "run %s waits in %s but can't sleep: its handler also awaits %r, which is no step; it keeps its slot",
            self.claim.run_id,
            ", ".join(sorted(self.open_waits)),
            leaf,
        )

    def _set_timer(self) -> None:
        """End waits whose time comes while the run is awake."""
        if self._timer is not None:
            self._timer.cancel()
        open_waits = [wait for wait in self.open_waits.values() if not wait.future.done()]
        due = [wait.wakes_at for wait in open_waits if wait.wakes_at is not None]
        if any(wait.decided_elsewhere for wait in open_waits):
            due.append(self.journal.now_ms() + _LOOK_EVERY_MS)
        if due:
            delay_s = max(0, min(due) - self.journal.now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._end_due_waits)

    def _end_due_waits(self) -> None:
        now = self.journal.now_ms()
        for wait in self.open_waits.values():
            due = wait.wakes_at is not None and wait.wakes_at <= now
            if (due or wait.decided_elsewhere) and not wait.future.done():
                wait.future.set_result(None)
        self._set_timer()

    def look_again(self) -> None:
        """A wait of this run may have been decided: those that are decided elsewhere look at their records."""
        for wait in self.open_waits.values():
            if wait.decided_elsewhere and not wait.future.done():
                wait.future.set_result(None)

    def earliest_wake(self) -> int | None:
        """When a sleeping run must be ready again, epoch ms; None if only a decision wakes it."""
        return min((wait.wakes_at for wait in self.open_waits.values() if wait.wakes_at is not None), default=None)

    def decided_elsewhere(self) -> list[str]:
        """The steps it sleeps for that a script may decide."""
        return [name for name, wait in self.open_waits.items() if wait.decided_elsewhere]


def _running_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
