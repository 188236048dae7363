"""The journal of a running attempt over the scripts; writes of a worker's runs that fall together travel together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Literal

from redflow.domain.event import EventRef
from redflow.domain.outcome import Canceled, Failed, Retry, Succeeded, Suspended
from redflow.domain.run import MAX_NESTING, RunOrder, public_run_id
from redflow.domain.sealing import StepSeals
from redflow.domain.step import FIELD_PREFIX, ChildRef, StepRecord, pack_header, unpack_step
from redflow.engine import Emitted, EventOrder
from redflow.engines.redis import admission
from redflow.engines.redis.batch import Batcher
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.events import Events
from redflow.engines.redis.records import pack_trace
from redflow.engines.redis.replies import as_text
from redflow.engines.redis.runs import ChildStart, Lease, RunScripts, Settlement, StepWrite
from redflow.engines.redis.scripts import verb
from redflow.errors import ConnectionError, LimitExceededError, NotDurableError, UnknownWorkflowError
from redflow.execution.admission import Admission, AdmissionRequest
from redflow.execution.journal import Claim, Interruption, LeaseLost, StartRefused
from redflow.types import Durability, ResolvedDebounce

log = logging.getLogger("redflow")

OPEN_WAIT = verb("open_wait", args="now, id, fence, token, field, header, event, correlation_key, deadline")
CLOSE_WAIT = verb("close_wait", args="id, field, event, correlation_key")

_NOTE_DELAY_S: Final = 0.05
_SETTLES_IN_FLIGHT: Final = 1
"""The next outcomes wait for the answer to the last: meanwhile the server does claims and steps, which is what this
worker waits for. With four at a time a backlog is drained at nine tenths of the speed."""
_BEGIN_MARGIN_S: Final = 0.01
"""A step begins so long before the end of its lease at the latest, seconds: between the look and the first line of its
body a busy machine may do something else. A soak of 600,000 steps saw 2 ms."""
_DURABLE_TRIES: Final = 5
"""How often a write of a step is confirmed to be durable or not, before its attempt fails."""

INTERRUPTIONS: Final[Mapping[str, Interruption]] = MappingProxyType({"cancel": "canceled", "timeout": "timed_out"})
"""What it means for an attempt that a script tells this reason."""

IdleMark = Callable[[], bool]
Settled = Succeeded | Failed | Canceled | Retry | Suspended
"""The outcomes that the script of that name writes."""


class JournalWriter:
    """What the journals of one worker share: the batches, the clock and the scripts.

    Args:
        scripts: the scripts of the prefix.
        events: the events of the prefix.
        clock: the server's time.
        worker: id of the worker.
        queues: the queues it serves.
        on_interrupt: called with a stored run id when a write tells that a cancel of the run was requested, or that
            its time-out has passed.
        wants_idle_mark: asked at each settle: shall the script mark this worker idle if nothing is ready?
        on_settling: told the runs whose outcomes have just been sent.
        on_settled: told after each settle whether a queue has a ready run.
    """

    def __init__(
        self,
        scripts: RunScripts,
        events: Events,
        clock: ServerClock,
        worker: str,
        queues: list[str],
        on_interrupt: Callable[[str, Interruption], None],
        wants_idle_mark: IdleMark,
        on_settling: Callable[[list[str]], None],
        on_settled: Callable[[bool], None],
    ) -> None:
        self.scripts = scripts
        self.events = events
        self.clock = clock
        self.now_ms = clock.now_ms
        self._worker = worker
        self._queues = queues
        self.on_interrupt = on_interrupt
        self._wants_idle_mark = wants_idle_mark
        self._on_settling = on_settling
        self._on_settled = on_settled
        self.records: Batcher[StepWrite, str] = Batcher(self._record, lambda step: len(step.payload))
        self.children: Batcher[ChildStart, tuple[str, str]] = Batcher(
            self._start, lambda start: len(start.order.input_json)
        )
        self.settlements: Batcher[Settlement, str] = Batcher(self._settle, _weight, _SETTLES_IN_FLIGHT)
        self._durable_records: dict[Durability, Batcher[StepWrite, tuple[str, bool]]] = {}

    def durable_records(self, durability: Durability) -> Batcher[StepWrite, tuple[str, bool]]:
        """Records steps and waits until they are safe; per step the reason, and whether that was confirmed."""
        if durability not in self._durable_records:

            async def write(writes: list[StepWrite]) -> list[tuple[str, bool]]:
                reasons, confirmed = await self.scripts.record_durably(writes, durability)
                return [(reasons.get(index, ""), confirmed) for index in range(len(writes))]

            self._durable_records[durability] = Batcher(write, lambda step: len(step.payload))
        return self._durable_records[durability]

    def journal(self, lease: Lease, created_at: int, queue: str) -> RedisJournal:
        """A journal for one attempt of a run of a queue."""
        return RedisJournal(self, lease, created_at)

    async def _start(self, starts: list[ChildStart]) -> list[tuple[str, str]]:
        return await self.scripts.start_children(starts, None)

    def _record(self, writes: list[StepWrite]) -> Awaitable[list[str]]:
        return _of_each(len(writes), self.scripts.record(writes))

    def _settle(self, items: list[Settlement]) -> Awaitable[list[str]]:
        reply = self.scripts.settle(items, self._worker, self._queues, idle=self._wants_idle_mark())
        self._on_settling([item.lease.run_id for item in items])
        return self._settled(items, reply)

    async def _settled(self, items: list[Settlement], reply: Awaitable[tuple[bool, dict[int, str]]]) -> list[str]:
        """Tell each run what came of its outcome: no task waits for that."""
        answers: Sequence[str | Exception]
        try:
            more, reasons = await reply
        except Exception as exc:
            answers = [exc] * len(items)
        else:
            self._on_settled(more)
            answers = [reasons.get(index, "") for index in range(len(items))]
        for item, answer in zip(items, answers, strict=True):
            if item.told is not None:
                item.told(answer)
        return [""] * len(items)

    def claim_was_taken_back(self) -> None:
        """A run left its slot without a settle: others may be ready for it."""
        self._on_settled(True)


def _weight(item: Settlement) -> int:
    own = len(item.payload) + len(item.trace)
    return own + sum(len(step.payload) for step in item.steps) if item.steps else own


async def _of_each(count: int, reply: Awaitable[dict[int, str]]) -> list[str]:
    """The reason for each item of a batch; '' for most."""
    reasons = await reply
    return [reasons.get(index, "") for index in range(count)]


class RedisJournal:
    """Journal and settler of one attempt.

    Args:
        writer: shared by all attempts of the worker.
        lease: the right to write.
        created_at: creation of the run, epoch ms; step times are stored relative to it.

    Attributes:
        under_way: notes that were sent and are not confirmed yet, and a mutex that was asked for.
        seals: encrypts and decrypts the steps; None: nothing does.
    """

    sleeps_durably = True

    __slots__ = ("_created_at", "_lease", "_note_timer", "_notes", "_writer", "seals", "under_way")

    def __init__(self, writer: JournalWriter, lease: Lease, created_at: int) -> None:
        self._writer = writer
        self._lease = lease
        self._created_at = created_at
        self._notes: dict[str, StepRecord] = {}
        self._note_timer: asyncio.TimerHandle | None = None
        self.under_way: set[asyncio.Future[str]] = set()
        vault = writer.scripts.vault
        self.seals = None if vault is None else StepSeals(vault, public_run_id(lease.run_id))

    def may_begin(self) -> bool:
        """Whether the lease certainly holds, so that new work may begin."""
        return time.monotonic() < self._lease.good_until - _BEGIN_MARGIN_S

    def now_ms(self) -> int:
        """The server's time, epoch ms."""
        return self._writer.now_ms()

    async def record(self, step: StepRecord, durability: Durability = Durability.NONE) -> None:
        """Make a step durable, and what was noted before it."""
        if self._notes:
            self._notes.pop(step.name, None)
            for noted in self._take_notes():
                self._send(noted)
        packed = self._packed(step)
        try:
            if durability is Durability.NONE:
                reason = await self._writer.records.submit(packed)
            else:
                write = self._writer.durable_records(durability)
                reason = await self._until_confirmed(step, durability, lambda: write.submit(packed))
        except ConnectionError as exc:
            log.warning("run %s is given up: %s", self._lease.run_id, exc)
            raise LeaseLost(str(exc)) from exc
        if reason in INTERRUPTIONS:
            self._writer.on_interrupt(self._lease.run_id, INTERRUPTIONS[reason])
        elif reason:
            raise LeaseLost(f"the write of step {step.name!r} was refused: {reason}")

    async def prepare(self, durability: Durability) -> None:
        """See that the server can make a step that durable."""
        try:
            await self._writer.scripts.connection.check_durability(durability)
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc

    async def confirm(self, step: StepRecord, durability: Durability) -> None:
        """Wait until a step that is recorded is safe, and with it all that was written before."""
        field = FIELD_PREFIX + step.name
        ask = self._writer.scripts.confirm_step
        try:
            answer = await self._until_confirmed(step, durability, lambda: ask(self._lease, field, durability))
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        if answer != "ok":
            raise LeaseLost(f"step {step.name!r} could not be confirmed: {answer}")

    async def _until_confirmed(
        self, step: StepRecord, durability: Durability, write: Callable[[], Awaitable[tuple[str, bool]]]
    ) -> str:
        """Write, and again until it is confirmed (that does no harm); the script's answer.

        Raises:
            NotDurableError: it was written, but not confirmed in so many tries.
        """
        for number in range(_DURABLE_TRIES):
            answer, confirmed = await write()
            if confirmed or answer not in ("", "ok", *INTERRUPTIONS):
                return answer
            if number == 0:
                log.warning("run %s: step %r is not %s yet", self._lease.run_id, step.name, durability)
        raise NotDurableError(
            f"step {step.name!r} is recorded, but that it is {durability} was not confirmed in {_DURABLE_TRIES} tries",
            run_id=public_run_id(self._lease.run_id),
        )

    def note(self, step: StepRecord) -> None:
        """Make a step durable with the next write of this run, or in a moment by itself."""
        self._notes[step.name] = step
        if self._note_timer is None:
            self._note_timer = asyncio.get_running_loop().call_later(_NOTE_DELAY_S, self._flush_notes)

    async def load(self, step: StepRecord) -> bytes:
        """A payload that is stored apart."""
        stored = await load_big(self._writer.scripts, self._lease.run_id, FIELD_PREFIX + step.name)
        return stored if self.seals is None else self.seals.open_content(step, stored)

    def correlation_key(self, key: str) -> str:
        """A correlation key as the server knows it."""
        vault = self._writer.scripts.vault
        return key if vault is None else vault.blind("correlation", key)

    async def start_child(self, step: StepRecord, order: RunOrder, generation: int, *, awaited: bool) -> StepRecord:
        """Start a run for a step and write the step, in one trip."""
        written = step if awaited else step.finished("succeeded", self.now_ms(), step.attempt, b"")
        header = pack_header(written, self._created_at)
        start = ChildStart(self._lease, FIELD_PREFIX + step.name, header, generation, awaited, order)
        for noted in self._take_notes():
            self._send(noted)
        try:
            code, run_id = await self._writer.children.submit(start)
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        if code in INTERRUPTIONS:
            raise StartRefused(INTERRUPTIONS[code])
        if code == "unknown_workflow":
            raise UnknownWorkflowError(order.workflow)
        if code == "too_deep":
            raise LimitExceededError(
                f"step {step.name!r} nests children too deep: at most {MAX_NESTING} levels, got {MAX_NESTING + 1}"
            )
        if code not in ("created", "found"):
            raise LeaseLost(f"the start of step {step.name!r} was refused: {code}")
        if not awaited:
            written.payload = f'"{public_run_id(run_id)}"'.encode()
            return written
        if code == "found":
            return await self.reload(step)
        written.payload = ChildRef("-", run_id, generation, True).packed()
        return written

    async def open_wait(self, step: StepRecord, ref: EventRef) -> StepRecord:
        """Begin to wait for an event, and write the step, in one trip."""
        scripts, lease = self._writer.scripts, self._lease
        for noted in self._take_notes():
            self._send(noted)
        args = (
            scripts.now,
            lease.run_id,
            lease.fence,
            lease.token,
            FIELD_PREFIX + step.name,
            pack_header(step, self._created_at),
            ref.event,
            ref.correlation_key,
            ref.deadline,
        )
        try:
            answer = as_text(await scripts.connection.call(OPEN_WAIT, scripts.keys.base, args))
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        if answer in INTERRUPTIONS:
            raise StartRefused(INTERRUPTIONS[answer])
        if answer not in ("open", "found"):
            raise LeaseLost(f"the wait of step {step.name!r} was refused: {answer}")
        if answer == "found":
            return await self.reload(step)
        step.payload = ref.packed()
        return step

    async def close_wait(self, step: StepRecord, ref: EventRef) -> bool:
        """End a wait whose time is over; False when the event came first."""
        scripts = self._writer.scripts
        args = (self._lease.run_id, FIELD_PREFIX + step.name, ref.event, ref.correlation_key)
        return as_text(await scripts.connection.call(CLOSE_WAIT, scripts.keys.base, args)) == "closed"

    async def emit_event(self, order: EventOrder) -> Emitted:
        """Emit an event on behalf of a step."""
        return await self._writer.events.emit(order)

    async def event_contract(self, name: str) -> str | None:
        """The contract of an event's data."""
        return await self._writer.events.contract(name)

    async def reload(self, step: StepRecord) -> StepRecord:
        """The step as its record is now."""
        scripts, field = self._writer.scripts, FIELD_PREFIX + step.name
        packed = await scripts.connection.read("HGET", scripts.keys.run(self._lease.run_id), field)
        if not isinstance(packed, bytes):
            raise LeaseLost(f"the record of step {step.name!r} is gone")
        found = unpack_step(step.name, packed, self._created_at)
        return found if self.seals is None else self.seals.opened(found)

    async def cancel_child(self, run_id: str, reason: str) -> None:
        """Cancel a run and all below it."""
        _answer, cascade = await self._writer.scripts.cancel_tree(run_id, reason)
        if cascade:
            await self._writer.scripts.carry_cancels_on()

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Let the run pass its gates, or put it where it has to wait; see `Gate.admit`."""
        return await admission.admit(self._writer.scripts, self._lease, request)

    async def debounce(self, debounce: ResolvedDebounce) -> str:
        """Debounce a run that was created without its key; see `Gate.debounce`."""
        return await admission.debounce(self._writer.scripts, self._lease, debounce)

    async def decide_failure(self, error_json: bytes) -> Interruption | None:
        """Record that the run fails for good; what came first, if something did: a cancel request, or the time-out."""
        try:
            answer = await self._writer.scripts.decide_failure(self._lease, self._sealed("error", error_json))
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        if answer not in ("ok", "canceled", "timeout"):
            raise LeaseLost(f"the failure was refused: {answer}")
        return None if answer == "ok" else "canceled" if answer == "canceled" else "timed_out"

    def settle(self, outcome: Settled, claim: Claim, told: Callable[[str | Exception], None]) -> None:
        """Send how the attempt ended with the next batch, once nothing of it is `under_way` any more.

        Args:
            outcome: how.
            claim: the run.
            told: called with the script's answer ('' for most), or with what went wrong.
        """
        self._writer.settlements.send(self._settlement(outcome, claim, told))

    async def hand_back(self) -> None:
        """Give the run to another worker, in the same attempt."""
        self._take_notes()
        await self._writer.scripts.release([self._lease])

    def drop(self) -> None:
        """Forget what was noted but not written; the lease is lost."""
        self._take_notes()

    def _settlement(self, outcome: Settled, claim: Claim, told: Callable[[str | Exception], None]) -> Settlement:
        kind, payload, due, trace_field, trace = "canceled", b"", None, "", b""
        waits: Sequence[str] = ()
        if isinstance(outcome, Succeeded):
            kind, payload = "succeeded", self._sealed("output", outcome.output_json)
        elif isinstance(outcome, Failed):
            kind, payload = "failed", self._sealed("error", outcome.error_json)
        elif isinstance(outcome, Retry):
            kind, payload, due = "retry", self._sealed("error", outcome.error_json), outcome.due_at
            stored = outcome if self.seals is None else replace(outcome, error_json=payload)
            trace_field, trace = f"a:{claim.attempt}", pack_trace(stored, claim.started_at, self.seals)
        elif isinstance(outcome, Suspended):
            kind, due = "suspended", outcome.due_at
            waits = [FIELD_PREFIX + name for name in outcome.waits]
        else:
            assert isinstance(outcome, Canceled)
        return Settlement(self._lease, kind, payload, due, trace_field, trace, self._take_notes(), waits, told)

    def _sealed(self, kind: Literal["output", "error"], payload: bytes) -> bytes:
        """The run's output or error as it is stored."""
        vault = self._writer.scripts.vault
        return payload if vault is None else vault.seal_of_run(payload, kind, self._lease.run_id)

    def _send(self, write: StepWrite) -> None:
        self._watch(self._writer.records.submit(write))

    def _watch(self, future: asyncio.Future[str]) -> None:
        """The attempt's outcome is not sent before this has come to its end."""
        self.under_way.add(future)
        future.add_done_callback(self._sent)

    def _sent(self, done: asyncio.Future[str]) -> None:
        """A note is written, or was refused, which whoever writes next is told, too."""
        self.under_way.discard(done)
        if not done.cancelled():
            done.exception()

    def _flush_notes(self) -> None:
        for write in self._take_notes():
            self._send(write)

    def _take_notes(self) -> Sequence[StepWrite]:
        if not self._notes:
            return ()
        if self._note_timer is not None:
            self._note_timer.cancel()
            self._note_timer = None
        notes, self._notes = self._notes, {}
        return [self._packed(step) for step in notes.values()]

    def _packed(self, step: StepRecord) -> StepWrite:
        payload = step.payload if self.seals is None else self.seals.sealed(step)
        return StepWrite(self._lease, FIELD_PREFIX + step.name, pack_header(step, self._created_at), payload)


async def load_big(scripts: RunScripts, run_id: str, field: str) -> bytes:
    """A payload of a run's second hash.

    Raises:
        LeaseLost: it is gone, and so is the run.
    """
    payload = await scripts.connection.read("HGET", scripts.keys.big(run_id), field)
    if not isinstance(payload, bytes):
        raise LeaseLost(f"the payload {field!r} of run {run_id} is gone")
    return payload
