"""The journal of a running attempt over the scripts; writes of a worker's runs that fall together travel together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from redflow.domain.outcome import Canceled, Failed, HandedBack, Outcome, Retry, Succeeded, Suspended
from redflow.domain.step import FIELD_PREFIX, StepRecord, pack_header
from redflow.engines.redis.batch import Batcher
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.records import pack_trace
from redflow.engines.redis.runs import Lease, RunScripts, Settlement, StepWrite
from redflow.errors import ConnectionError
from redflow.execution.journal import Claim, LeaseLost

log = logging.getLogger("redflow")

_NOTE_DELAY_S: Final = 0.05

IdleMark = Callable[[], bool]


class JournalWriter:
    """What the journals of one worker share: the batches, the clock and the scripts.

    Args:
        scripts: the scripts of the prefix.
        clock: the server's time.
        worker: id of the worker.
        queues: the queues it serves.
        wants_idle_mark: asked at each settle: shall the script mark this worker idle if nothing is ready?
        on_settled: told after each settle whether a queue has a ready run.
    """

    def __init__(
        self,
        scripts: RunScripts,
        clock: ServerClock,
        worker: str,
        queues: list[str],
        wants_idle_mark: IdleMark,
        on_settled: Callable[[bool], None],
    ) -> None:
        self.scripts = scripts
        self.clock = clock
        self._worker = worker
        self._queues = queues
        self._wants_idle_mark = wants_idle_mark
        self._on_settled = on_settled
        self.records: Batcher[StepWrite, str] = Batcher(self._record)
        self.settlements: Batcher[Settlement, str] = Batcher(self._settle)

    async def _record(self, writes: list[StepWrite]) -> list[str]:
        reasons = await self.scripts.record(writes)
        return [reasons.get(index, "") for index in range(len(writes))]

    async def _settle(self, items: list[Settlement]) -> list[str]:
        more, reasons = await self.scripts.settle(items, self._worker, self._queues, idle=self._wants_idle_mark())
        self._on_settled(more)
        return [reasons.get(index, "") for index in range(len(items))]


class RedisJournal:
    """Journal and settler of one attempt.

    Args:
        writer: shared by all attempts of the worker.
        lease: the right to write.
        created_at: creation of the run, epoch ms; step times are stored relative to it.
        on_cancel: called when a write tells that a cancel was requested.
    """

    sleeps_durably = True

    __slots__ = ("_created_at", "_lease", "_note_timer", "_notes", "_on_cancel", "_writer")

    def __init__(self, writer: JournalWriter, lease: Lease, created_at: int, on_cancel: Callable[[], None]) -> None:
        self._writer = writer
        self._lease = lease
        self._created_at = created_at
        self._on_cancel = on_cancel
        self._notes: dict[str, StepRecord] = {}
        self._note_timer: asyncio.TimerHandle | None = None

    def now_ms(self) -> int:
        """The server's time, epoch ms."""
        return self._writer.clock.now_ms()

    def may_begin(self) -> bool:
        """Whether the lease certainly holds, so that new work may begin."""
        return time.monotonic() < self._lease.good_until

    async def record(self, step: StepRecord) -> None:
        """Make a step durable, and what was noted before it."""
        self._notes.pop(step.name, None)
        for noted in self._take_notes():
            self._writer.records.send(noted)
        try:
            reason = await self._writer.records.submit(self._packed(step))
        except ConnectionError as exc:
            log.warning("run %s is given up: %s", self._lease.run_id, exc)
            raise LeaseLost(str(exc)) from exc
        if reason == "cancel":
            self._on_cancel()
        elif reason:
            raise LeaseLost(f"the write of step {step.name!r} was refused: {reason}")

    def note(self, step: StepRecord) -> None:
        """Make a step durable with the next write of this run, or in a moment by itself."""
        self._notes[step.name] = step
        if self._note_timer is None:
            self._note_timer = asyncio.get_running_loop().call_later(_NOTE_DELAY_S, self._flush_notes)

    async def load(self, step: StepRecord) -> bytes:
        """A payload that is stored apart."""
        return await load_big(self._writer.scripts, self._lease.run_id, FIELD_PREFIX + step.name)

    async def decide_failure(self, error_json: bytes) -> bool:
        """Record that the run fails for good; False when a cancel request came first."""
        try:
            answer = await self._writer.scripts.decide_failure(self._lease, error_json)
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        if answer not in ("ok", "canceled"):
            raise LeaseLost(f"the failure was refused: {answer}")
        return answer == "ok"

    async def settle(self, outcome: Outcome, claim: Claim) -> None:
        """Write how the attempt ended.

        Raises:
            LeaseLost: somebody else has the run.
        """
        if isinstance(outcome, HandedBack):
            self._take_notes()
            await self._writer.scripts.release([self._lease])
            return
        try:
            reason = await self._writer.settlements.submit(self._settlement(outcome, claim))
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        if reason in ("stale", "gone"):
            raise LeaseLost(f"the outcome was refused: {reason}")

    def drop(self) -> None:
        """Forget what was noted but not written; the lease is lost."""
        self._take_notes()

    def _settlement(self, outcome: Outcome, claim: Claim) -> Settlement:
        kind, payload, due, trace_field, trace = "canceled", b"", None, "", b""
        if isinstance(outcome, Succeeded):
            kind, payload = "succeeded", outcome.output_json
        elif isinstance(outcome, Failed):
            kind, payload = "failed", outcome.error_json
        elif isinstance(outcome, Retry):
            kind, payload, due = "retry", outcome.error_json, outcome.due_at
            trace_field, trace = f"a:{claim.attempt}", pack_trace(outcome, claim.started_at)
        elif isinstance(outcome, Suspended):
            kind, due = "suspended", outcome.due_at
        else:
            assert isinstance(outcome, Canceled)
        return Settlement(self._lease, kind, payload, due, trace_field, trace, self._take_notes())

    def _flush_notes(self) -> None:
        for write in self._take_notes():
            self._writer.records.send(write)

    def _take_notes(self) -> list[StepWrite]:
        if self._note_timer is not None:
            self._note_timer.cancel()
            self._note_timer = None
        notes, self._notes = self._notes, {}
        return [self._packed(step) for step in notes.values()]

    def _packed(self, step: StepRecord) -> StepWrite:
        return StepWrite(self._lease, FIELD_PREFIX + step.name, pack_header(step, self._created_at), step.payload)


async def load_big(scripts: RunScripts, run_id: str, field: str) -> bytes:
    """A payload of a run's second hash.

    Raises:
        LeaseLost: it is gone, and so is the run.
    """
    payload = await scripts.connection.read("HGET", scripts.keys.big(run_id), field)
    if not isinstance(payload, bytes):
        raise LeaseLost(f"the payload {field!r} of run {run_id} is gone")
    return payload
