"""The slots of a worker: every run it holds, from its claim to its settle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from redflow import telemetry
from redflow.definitions import AnyWorkflow
from redflow.domain.outcome import Failed, HandedBack, Outcome
from redflow.domain.payload import pack
from redflow.engines.redis.journal import JournalWriter, RedisJournal, load_big
from redflow.engines.redis.records import claim_of
from redflow.engines.redis.runs import ClaimedRun, Lease, Settlement
from redflow.errors import ConnectionError, RedflowError, make_error_json
from redflow.execution.attempt import UNWIND_S, Announcer, Attempt
from redflow.execution.durable_steps import DurableSteps
from redflow.execution.journal import Claim, Interruption, LeaseLost
from redflow.execution.pipeline import attempt_outcome, interrupted_outcome
from redflow.execution.threads import ThreadPool

log = logging.getLogger("redflow")


@dataclass(slots=True)
class Held:
    """One run in a slot.

    Attributes:
        lease: the right to write to it.
        attempt: its state.
        task: executes it.
    """

    lease: Lease
    attempt: Attempt
    journal: RedisJournal
    task: asyncio.Task[None]


class Executor:
    """Runs claimed runs, each in a task of its own.

    Args:
        writer_of: run id -> what its journal writes through.
        find: name -> definition, None if this worker doesn't know it.
        threads: for plain functions.
        on_free: called when a slot becomes free.
        on_unknown: tells Redis anew which workflows this worker knows.
    """

    def __init__(
        self,
        writer_of: Callable[[str], JournalWriter],
        find: Callable[[str], AnyWorkflow | None],
        threads: ThreadPool,
        on_free: Callable[[], None],
        on_unknown: Callable[[], Awaitable[None]],
    ) -> None:
        self._writer_of = writer_of
        self._find = find
        self._threads = threads
        self._on_free = on_free
        self._on_unknown = on_unknown
        self._announcer = Announcer()
        self.held: dict[str, Held] = {}
        self.leaving: set[str] = set()
        """Those of them that are over: their outcome was sent, Redis has yet to confirm it."""
        self.given_up: list[Lease] = []
        """Leases that were lost here; what of them is still ours goes back when the server is in reach again."""
        self.progress = 0
        """Grows with every run that leaves its slot and every claim that is answered; the watchdog looks at it."""

    def start(self, run: ClaimedRun) -> None:
        """Execute a claimed run."""
        try:
            claim = claim_of(run)
        except (ValueError, KeyError) as exc:
            log.error("run %s fails: its record is broken: %r", run.lease.run_id, exc)
            error = pack(make_error_json(RedflowError(f"the stored record of the run is broken: {exc!r}")).encode())
            self._writer_of(run.lease.run_id).settlements.send(
                Settlement(run.lease, "failed", error, None, "", b"", ())
            )
            return
        _tell(telemetry.RUN_CLAIMED, claim)
        attempt: Attempt

        def interrupted(why: Interruption) -> None:
            self.interrupt(run.lease.run_id, why)

        writer = self._writer_of(run.lease.run_id)
        journal = writer.journal(run.lease, claim.created_at, claim.queue, interrupted)
        attempt = Attempt(
            claim, journal, self._threads, lambda attempt: DurableSteps(attempt, journal), self._announcer
        )
        task = asyncio.get_running_loop().create_task(self._execute(run, attempt, journal))
        attempt.task = task
        attempt.on_interrupt = lambda: self._give_time_to_unwind(run.lease.run_id)
        self.leaving.discard(run.lease.run_id)  # it may be back before its last attempt has heard that it is over
        self.held[run.lease.run_id] = Held(run.lease, attempt, journal, task)

    def outcomes_sent(self, run_ids: Iterable[str]) -> None:
        """The outcomes of these runs are on their way: Redis will have free slots for what it is asked next."""
        self.leaving.update(run_id for run_id in run_ids if run_id in self.held)

    def interrupt(self, run_id: str, why: Interruption) -> None:
        """Interrupt a run if it is held here."""
        held = self.held.get(run_id)
        if held is None or (why == "timed_out" and held.attempt.claim.decided_failure is not None):
            return  # its failure was decided before it was claimed: this claim is there to call its on_failure
        held.attempt.interrupt(why)

    def look_again(self, run_id: str) -> None:
        """A wait of a run may have been decided."""
        held = self.held.get(run_id)
        if held is not None:
            held.attempt.look_again()

    def interrupt_all(self, why: Interruption) -> None:
        """Interrupt every run held here."""
        for held in list(self.held.values()):
            held.attempt.interrupt(why)

    def leases(self) -> list[Lease]:
        """The leases to renew; may be called from any thread."""
        return [held.lease for held in list(self.held.values())]

    async def _execute(self, run: ClaimedRun, attempt: Attempt, journal: RedisJournal) -> None:
        run_id = run.lease.run_id
        try:
            outcome = await self._outcome(run, attempt, journal)
        except asyncio.CancelledError:
            outcome = interrupted_outcome(attempt)
        held = self.held.get(run_id)
        if held is None or held.attempt is not attempt:
            return  # abandoned: its outcome was settled while user code went on
        await self._settle(attempt, journal, outcome, run_id)

    async def _outcome(self, run: ClaimedRun, attempt: Attempt, journal: RedisJournal) -> Outcome | None:
        try:
            await self._fetch_big(run, attempt)
            definition = self._find(attempt.claim.workflow)
            if definition is None:
                # The registry has changed: say so, then let a worker that knows the workflow have the run.
                log.warning("run %s is handed back: its workflow is unknown here by now", attempt.claim.run_id)
                await self._on_unknown()
                return HandedBack()
            return await attempt_outcome(attempt, definition, journal)
        except (LeaseLost, ConnectionError) as exc:
            log.warning("run %s was lost: %s", attempt.claim.run_id, exc)
            attempt.interrupt("lost")
            return None
        except Exception as exc:
            log.exception("run %s fails: it can't be executed", attempt.claim.run_id)
            return interrupted_outcome(attempt) or Failed(pack(make_error_json(exc).encode()))

    async def _fetch_big(self, run: ClaimedRun, attempt: Attempt) -> None:
        """Inputs and decided failures over 32 KiB lie in the run's second hash."""
        run_id = run.lease.run_id
        if attempt.claim.input_json == b"@":
            attempt.claim.input_json = await load_big(self._writer_of(run_id).scripts, run_id, "i")
        if attempt.claim.decided_failure == b"@":
            attempt.claim.decided_failure = await load_big(self._writer_of(run_id).scripts, run_id, "z")

    async def _settle(self, attempt: Attempt, journal: RedisJournal, outcome: Outcome | None, run_id: str) -> None:
        attempt.settling = True
        try:
            if outcome is None or attempt.state == "lost":
                journal.drop()
                self._give_up(run_id, attempt)
                _tell(telemetry.RUN_LOST, attempt.claim)
                log.warning(
                    "run %s was interrupted: its lease is lost; another worker goes on with it", attempt.claim.run_id
                )
            else:
                await journal.settle(outcome, attempt.claim)
                _tell(telemetry.RUN_SETTLED, attempt.claim, outcome=type(outcome).__name__.lower())
        except LeaseLost as exc:
            self._give_up(run_id, attempt)
            log.warning("run %s: %s; another worker goes on with it", attempt.claim.run_id, exc)
        except RedflowError:
            self._give_up(run_id, attempt)
            log.exception(
                "run %s could not be settled; its lease will run out and it goes on elsewhere", attempt.claim.run_id
            )
        finally:
            held = self.held.get(run_id)
            if held is not None and held.attempt is attempt:
                del self.held[run_id]
                self.leaving.discard(run_id)
            attempt.release()
            self.progress += 1
            self._on_free()

    def _give_up(self, run_id: str, attempt: Attempt) -> None:
        held = self.held.get(run_id)
        if held is not None and held.attempt is attempt:
            self.given_up.append(held.lease)

    def _give_time_to_unwind(self, run_id: str) -> None:
        held = self.held.get(run_id)
        if held is not None:
            asyncio.get_running_loop().call_later(UNWIND_S, self._abandon, run_id, held)

    def _abandon(self, run_id: str, held: Held) -> None:
        """User code didn't unwind in time: settle without it."""
        if self.held.get(run_id) is not held or held.attempt.settling:
            return
        log.warning(
            "run %s did not end %g s after it was interrupted (%s); its code is abandoned",
            held.attempt.claim.run_id,
            UNWIND_S,
            held.attempt.state,
        )
        outcome = interrupted_outcome(held.attempt)
        held.attempt.settling = True
        task = asyncio.get_running_loop().create_task(
            self._settle(held.attempt, held.journal, outcome, run_id), name="redflow-abandoned"
        )
        held.task = task


def _tell(event: str, claim: Claim, **more: str) -> None:
    if telemetry.anybody_listens():
        telemetry.emit(event, run_id=claim.run_id, workflow=claim.workflow, attempt=claim.attempt, **more)


def monotonic() -> float:
    """The clock of lease deadlines, seconds."""
    return time.monotonic()
