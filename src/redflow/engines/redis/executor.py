"""The slots of a worker: every run it holds, from its claim to its settle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from redflow import telemetry
from redflow.definitions import AnyWorkflow
from redflow.domain.outcome import Failed, HandedBack, Outcome, Suspended, Waiting
from redflow.domain.payload import pack
from redflow.domain.sealing import StepSeals
from redflow.engines.redis.definitions import event_trigger_id
from redflow.engines.redis.journal import JournalWriter, RedisJournal, load_big
from redflow.engines.redis.opening import open_claim
from redflow.engines.redis.records import claim_of
from redflow.engines.redis.replies import fault_of
from redflow.engines.redis.runs import ClaimedRun, Lease, Settlement
from redflow.errors import (
    ConnectionError,
    PayloadDecodeError,
    PayloadKeyMissingError,
    RedflowError,
    make_error_json,
)
from redflow.execution.attempt import UNWIND_S, Announcer, Attempt
from redflow.execution.durable_steps import DurableSteps
from redflow.execution.journal import Claim, Interruption, LeaseLost
from redflow.execution.pipeline import attempt_outcome, interrupted_outcome
from redflow.execution.threads import ThreadPool

log = logging.getLogger("redflow")

KEY_PAUSE_MS: Final = 15_000
"""How long a run sleeps that this worker has no key for, so that another may take it, ms."""


@dataclass(slots=True)
class Held:
    """One run in a slot.

    Attributes:
        lease: the right to write to it.
        attempt: its state.
        journal: where its steps and its outcome are written.
    """

    lease: Lease
    attempt: Attempt
    journal: RedisJournal


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
        self._emptied: asyncio.Future[None] | None = None
        self.progress = 0
        """Grows with every run that leaves its slot and every claim that is answered; the watchdog looks at it."""

    def start(self, run: ClaimedRun) -> None:
        """Execute a claimed run."""
        try:
            claim = claim_of(run)
        except (ValueError, KeyError) as exc:
            fault = fault_of(exc)
            log.error("run %s fails: its record is broken: %s", run.lease.run_id, fault)
            error = pack(make_error_json(RedflowError(f"the stored record of the run is broken: {fault}")).encode())
            self._writer_of(run.lease.run_id).settlements.send(
                Settlement(run.lease, "failed", error, None, "", b"", ())
            )
            return
        if telemetry.anybody_listens():
            _tell(telemetry.RUN_CLAIMED, claim)
        lease = run.lease
        writer = self._writer_of(lease.run_id)
        journal = writer.journal(lease, claim.created_at, claim.queue)
        attempt = Attempt(
            claim, journal, self._threads, lambda attempt: DurableSteps(attempt, journal), self._announcer
        )
        held = Held(lease, attempt, journal)
        attempt.task = self._announcer.loop.create_task(self._execute(held))
        attempt.on_interrupt = lambda: self._give_time_to_unwind(held)
        self.leaving.discard(lease.run_id)  # it may be back before its last attempt has heard that it is over
        self.held[lease.run_id] = held

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

    async def emptied(self, patience_s: float) -> None:
        """Wait until no run is held any more, but no longer than so many seconds."""
        if self.held:
            self._emptied = self._announcer.loop.create_future()
            await asyncio.wait({self._emptied}, timeout=patience_s)

    async def _execute(self, held: Held) -> None:
        attempt, outcome = held.attempt, None
        claim = attempt.claim
        try:
            if claim.input_json == b"@" or claim.decided_failure == b"@":
                await self._fetch_big(claim, held.lease.run_id)
            definition = self._find(claim.workflow)
            if definition is not None:
                if held.journal.seals is not None:
                    await self._open(held, definition, held.journal.seals)
                outcome = await attempt_outcome(attempt, definition, held.journal)
            else:
                outcome = await self._hand_back_unknown(claim)
        except asyncio.CancelledError:
            outcome = interrupted_outcome(attempt)
        except (LeaseLost, ConnectionError) as exc:
            log.warning("run %s was lost: %s", claim.run_id, exc)
            attempt.interrupt("lost")
        except PayloadKeyMissingError as exc:
            outcome = interrupted_outcome(attempt) or self._without_key(held, exc)
        except PayloadDecodeError as exc:
            log.error("run %s fails: its record is broken: %s", claim.run_id, exc)
            outcome = interrupted_outcome(attempt) or Failed(pack(make_error_json(exc).encode()))
        except Exception as exc:
            log.exception("run %s fails: it can't be executed", claim.run_id)
            outcome = interrupted_outcome(attempt) or Failed(pack(make_error_json(exc).encode()))
        if not attempt.settling:  # else abandoned: its outcome was sent while user code went on
            await self._settle(held, outcome)

    async def _open(self, held: Held, definition: AnyWorkflow, seals: StepSeals) -> None:
        """Decrypt what the claim brought.

        Raises:
            PayloadDecodeError
        """
        scripts = self._writer_of(held.lease.run_id).scripts
        assert scripts.vault is not None
        triggers = [event_trigger_id(definition.name, trigger) for trigger in definition.options.event]
        await open_claim(scripts.vault, held.attempt.claim, scripts, seals, triggers)

    def _without_key(self, held: Held, exc: PayloadKeyMissingError) -> Outcome:
        """What becomes of a run that this worker has no key for.

        It sleeps, so that another may take it. One whose failure is decided would come back at once, and for ever, so
        it ends: nobody can say here what its on_failure is to be told.
        """
        claim = held.attempt.claim
        if claim.decided_failure is not None:
            log.error("run %s fails, and its on_failure is not called: %s", claim.run_id, exc)
            return Failed(claim.decided_failure)
        log.error("run %s waits %d s for a worker that has the key: %s", claim.run_id, KEY_PAUSE_MS // 1000, exc)
        return Suspended(held.journal.now_ms() + KEY_PAUSE_MS)

    async def _hand_back_unknown(self, claim: Claim) -> Outcome:
        """The registry has changed: say so, then let a worker that knows the workflow have the run."""
        log.warning("run %s is handed back: its workflow is unknown here by now", claim.run_id)
        await self._on_unknown()
        return HandedBack()

    async def _fetch_big(self, claim: Claim, run_id: str) -> None:
        """Inputs and decided failures over 32 KiB lie in the run's second hash."""
        if claim.input_json == b"@":
            claim.input_json = await load_big(self._writer_of(run_id).scripts, run_id, "i")
        if claim.decided_failure == b"@":
            claim.decided_failure = await load_big(self._writer_of(run_id).scripts, run_id, "z")

    # -- the end ------------------------------------------------------------------------------------------------

    async def _settle(self, held: Held, outcome: Outcome | None) -> None:
        """Send how the attempt ended. The slot is free when Redis has confirmed it; no task waits for that."""
        held.attempt.settling = True
        try:
            if outcome is None or held.attempt.state == "lost":
                self._lose(held)
                return
            if held.journal.under_way:  # a step that arrives after the outcome is refused
                await asyncio.wait(held.journal.under_way)
            if isinstance(outcome, Waiting):
                self._writer_of(held.lease.run_id).claim_was_taken_back()
                self._over(held, outcome)
            elif isinstance(outcome, HandedBack):
                await held.journal.hand_back()
                self._over(held, outcome)
            else:
                held.journal.settle(outcome, held.attempt.claim, partial(self._answered, held, outcome))
        except RedflowError as exc:
            self._answered(held, outcome, exc)
        except BaseException:
            self._free(held)
            raise

    def _answered(self, held: Held, outcome: Outcome | None, answer: str | Exception) -> None:
        """What came of an outcome that was sent."""
        if answer == "":
            self._over(held, outcome)
            return
        run_id = held.attempt.claim.run_id
        if isinstance(answer, Exception) and not isinstance(answer, ConnectionError):
            self._give_up(held)
            log.error(
                "run %s could not be settled; its lease will run out and it goes on elsewhere", run_id, exc_info=answer
            )
            self._free(held)
        elif isinstance(answer, ConnectionError) or answer in ("stale", "gone") or answer.startswith("broken"):
            self._give_up(held)
            log.warning("run %s: its outcome was refused: %s; another worker goes on with it", run_id, answer)
            self._free(held)
        else:
            self._over(held, outcome)

    def _lose(self, held: Held) -> None:
        held.journal.drop()
        self._give_up(held)
        claim = held.attempt.claim
        if telemetry.anybody_listens():
            _tell(telemetry.RUN_LOST, claim)
        log.warning("run %s was interrupted: its lease is lost; another worker goes on with it", claim.run_id)
        self._free(held)

    def _over(self, held: Held, outcome: Outcome | None) -> None:
        if telemetry.anybody_listens():
            _tell(telemetry.RUN_SETTLED, held.attempt.claim, outcome=type(outcome).__name__.lower())
        self._free(held)

    def _free(self, held: Held) -> None:
        """A run leaves its slot."""
        run_id = held.lease.run_id
        if self.held.get(run_id) is held:
            del self.held[run_id]
            self.leaving.discard(run_id)
            if not self.held and self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)
        held.attempt.release()
        self.progress += 1
        self._on_free()

    def _give_up(self, held: Held) -> None:
        if self.held.get(held.lease.run_id) is held:
            self.given_up.append(held.lease)

    def _give_time_to_unwind(self, held: Held) -> None:
        self._announcer.loop.call_later(UNWIND_S, self._abandon, held)

    def _abandon(self, held: Held) -> None:
        """User code didn't unwind in time: settle without it."""
        if self.held.get(held.lease.run_id) is not held or held.attempt.settling:
            return
        log.warning(
            "run %s did not end %g s after it was interrupted (%s); its code is abandoned",
            held.attempt.claim.run_id,
            UNWIND_S,
            held.attempt.state,
        )
        outcome = interrupted_outcome(held.attempt)
        held.attempt.settling = True
        held.attempt.task = self._announcer.loop.create_task(self._settle(held, outcome), name="redflow-abandoned")


def _tell(event: str, claim: Claim, **more: str) -> None:
    telemetry.emit(event, run_id=claim.run_id, workflow=claim.workflow, attempt=claim.attempt, **more)


def monotonic() -> float:
    """The clock of lease deadlines, seconds."""
    return time.monotonic()
