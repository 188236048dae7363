"""The steps that reach beyond their run: children and events. What a sleeping run waits for is decided by scripts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from redflow._step_api import AnyWorkflowLike, StepOutput
from redflow.definitions import WorkflowDefinition, validate_input_with_schema
from redflow.domain.duration import resolve_delay_ms
from redflow.domain.event import EventRef, event_ref
from redflow.domain.names import check_key, check_name
from redflow.domain.orders import build_order
from redflow.domain.payload import decode, pack, unpack
from redflow.domain.run import RunOrder, child_run_id, public_run_id, stored_run_id
from redflow.domain.step import STORED_APART, ChildRef, StepRecord, child_ref
from redflow.emitting import accept_event, build_event, is_blank
from redflow.errors import CanceledError, RedflowError, TimeoutError, make_error_json
from redflow.execution.attempt import Attempt
from redflow.execution.failures import failure_again, run_failure
from redflow.execution.journal import DurableJournal, LeaseLost, StartRefused
from redflow.execution.steps import Steps, step_limit_s
from redflow.types import Durability, ReceivedEvent, StepWaitForTarget


def _event_key(run_id: str, step: str, event: str) -> str:
    """The idempotency key of an event that a step emits, short whatever the names are."""
    return hashlib.sha256(json.dumps([run_id, step, event]).encode()).hexdigest()


def _generation(known: StepRecord | None) -> tuple[int, bool]:
    """Which child of a step is to be awaited now, and whether that is the one it had before."""
    if known is None or known.kind != "child" or not known.payload:
        return 1, False
    ref = child_ref(known.payload)
    return (ref.generation, True) if ref.end == "-" else (ref.generation + 1, False)


class DurableSteps(Steps):
    """`ctx.step` of an attempt whose engine keeps children."""

    def __init__(self, attempt: Attempt, journal: DurableJournal) -> None:
        super().__init__(attempt)
        self._durable = journal

    async def run_workflow(
        self,
        name: str,
        workflow: AnyWorkflowLike,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> StepOutput:
        """See `StepApi.run_workflow`."""
        known = self._enter(name, "child")
        limit_s = step_limit_s(timeout_ms)
        if known is not None and known.status == "succeeded":
            return decode(unpack(await self._content(known)))
        if known is not None and self._ended_badly_before(known):
            raise await self._again(known)
        if known is not None and self._is_open(known):
            step = known
        else:
            generation, goes_on = _generation(known)
            step = self._open(name, known, "child")
            order = await self._order(
                step,
                workflow,
                input,
                generation,
                run_at=run_at,
                queue=queue_override,
                priority=priority,
                run_timeout_ms=run_timeout_ms,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
            step = await self._start(step, order, generation, awaited=True)
            if goes_on:
                step = await self._durable.reload(step)  # it may have ended meanwhile
        return await self._end_of_child(step, limit_s)

    async def emit_workflow(
        self,
        name: str,
        workflow: AnyWorkflowLike,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str:
        """See `StepApi.emit_workflow`."""
        known = self._enter(name, "run")
        step_limit_s(timeout_ms)
        if known is None or known.status != "succeeded":
            step = self._open(name, known, "run")
            order = await self._order(
                step,
                workflow,
                input,
                1,
                run_at=run_at,
                queue=queue_override,
                priority=priority,
                run_timeout_ms=run_timeout_ms,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
            known = await self._start(step, order, 1, awaited=False)
        run_id = decode(unpack(await self._payload(known)))
        if not isinstance(run_id, str):
            raise RedflowError(f"the record of step {name!r} holds no run id")
        return run_id

    async def wait_for_event(
        self, name: str, event_name: str, correlation_key: str, timeout: StepWaitForTarget
    ) -> ReceivedEvent | None:
        """See `StepApi.wait_for_event`."""
        known = self._enter(name, "event")
        event, key = (
            check_name(event_name, what="event name").strip(),
            check_key(correlation_key, what="correlation_key"),
        )
        plain_key, key = key, self._durable.correlation_key(key)
        if known is not None and known.payload and known.kind == "event":
            ref = event_ref(known.payload)
            if ref.correlation_key == plain_key:
                key = plain_key  # it began to wait when keys were not blinded
            if (ref.event, ref.correlation_key) != (event, key):
                raise RedflowError(
                    f"step {name!r} changed wait target: it waited for {ref.event!r} with {ref.correlation_key!r}, "
                    f"now for {event!r} with {key!r}"
                )
        if known is not None and known.status == "succeeded":
            return await self._received(known)
        if known is not None and self._is_open(known):
            return await self._event_or_timeout(known)
        deadline = self._deadline(name, known, timeout)
        step = self._open(name, known, "event")
        opened = await self._ask_engine(
            step, lambda: self._durable.open_wait(step, EventRef("-", deadline, event, key))
        )
        return await self._event_or_timeout(opened)

    async def emit_event(
        self,
        name: str,
        event_name: str,
        input: object,
        *,
        correlation_key: str | None = None,
        event_id: str | None = None,
        timeout_ms: float | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> list[str]:
        """See `StepApi.emit_event`."""
        claim = self._attempt.claim
        check_name(event_name, what="event name")
        if is_blank(idempotency_key):
            idempotency_key = _event_key(claim.run_id, name, event_name)

        async def emit() -> list[str]:
            order = build_event(
                event_name,
                input,
                made_id=f"evt_{uuid.uuid4()}",
                correlation_key=correlation_key,
                event_id=event_id,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
                parent_run_id=claim.run_id,
            )
            return (await accept_event(self._durable, order)).run_ids

        return await self.run(name, emit, timeout_ms=timeout_ms)

    # -- starting -----------------------------------------------------------------------------------------------

    async def _order(
        self,
        step: StepRecord,
        workflow: AnyWorkflowLike,
        input: object,
        generation: int,
        *,
        run_at: datetime | None,
        queue: str | None,
        priority: int | None,
        run_timeout_ms: float | str | None,
        idempotency_key: str | None,
        idempotency_ttl: int | None,
    ) -> RunOrder:
        if not isinstance(workflow, str) and not hasattr(workflow, "name"):
            raise ValueError(f"workflow must be a name or a definition, got {type(workflow).__name__}")
        claim = self._attempt.claim
        parent = stored_run_id(claim.run_id) or ""
        max_attempts: int | None = None
        if isinstance(workflow, WorkflowDefinition):
            schema = workflow.options.input_schema
            if schema is not None:
                input = await validate_input_with_schema(schema, input)
            dump = getattr(input, "model_dump", None)
            input = dump(mode="json") if callable(dump) else input
            queue, max_attempts = queue or workflow.options.queue, workflow.max_attempts
            priority = workflow.options.priority if priority is None else priority
            run_timeout_ms = workflow.options.timeout_ms if run_timeout_ms is None else run_timeout_ms
        return build_order(
            child_run_id(parent, step.name, generation),
            workflow if isinstance(workflow, str) else workflow.name,
            input,
            now_ms=self._journal.now_ms(),
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            run_at=run_at,
            queue=queue,
            max_attempts=max_attempts,
            parent_run_id=claim.run_id,
            priority=priority,
            run_timeout_ms=run_timeout_ms,
        )

    async def _start(self, step: StepRecord, order: RunOrder, generation: int, *, awaited: bool) -> StepRecord:
        return await self._ask_engine(step, lambda: self._durable.start_child(step, order, generation, awaited=awaited))

    async def _ask_engine(self, step: StepRecord, ask: Callable[[], Awaitable[StepRecord]]) -> StepRecord:
        """Have the engine write the step, as durably as the workflow wants it."""
        durability = self._attempt.durability
        if durability is Durability.NONE:
            return await self._asked(step, ask)
        await self._make_sure(None, durability)
        written = await self._asked(step, ask)
        await self._confirm(written, durability)
        return written

    async def _asked(self, step: StepRecord, ask: Callable[[], Awaitable[StepRecord]]) -> StepRecord:
        """Have the engine write the step; it refuses when the lease is gone or the run is to end."""
        attempt = self._attempt
        if not self._journal.may_begin():
            self._lease_is_over()
        attempt.enter(step, announce=False)
        try:
            return await ask()
        except LeaseLost:
            attempt.interrupt("lost")
            raise asyncio.CancelledError("the lease of this run is lost") from None
        except StartRefused as exc:
            attempt.interrupt(exc.why)
            if exc.why == "timed_out":
                raise asyncio.CancelledError("the time-out of this run has passed") from None
            raise CanceledError() from exc
        except RedflowError as exc:
            raise self._failed(step, exc) from exc.__cause__
        finally:
            attempt.leave(step)

    # -- waiting ------------------------------------------------------------------------------------------------

    def _is_open(self, known: StepRecord) -> bool:
        """Whether a wait that an earlier pass began still holds: it is decided, or the engine knows of it.

        A run that failed while it slept, by its time-out say, has left it open. When it is retried the engine has to be
        asked anew, since what came meanwhile did not reach it: nothing does that has ended.
        """
        if known.status != "running" or not known.payload:
            return False
        if known.attempt == self._attempt.claim.attempt:
            return True
        return (event_ref(known.payload).end if known.kind == "event" else child_ref(known.payload).end) != "-"

    async def _end_of_child(self, step: StepRecord, limit_s: float | None) -> StepOutput:
        """The child's output. While it lives the parent may sleep; every wake-up looks at the step's record."""
        deadline = None if limit_s is None else step.started_at + int(limit_s * 1000)
        while True:
            ref = child_ref(step.payload)
            if ref.end != "-":
                return await self._finish(step, ref)
            if deadline is not None and deadline <= self._journal.now_ms():
                raise await self._give_up(step, ref)
            await self._wait_for_decision(step, deadline)
            step = await self._durable.reload(step)

    async def _wait_for_decision(self, step: StepRecord, deadline: int | None) -> None:
        attempt = self._attempt
        future = attempt.park(step.name, deadline, decided_elsewhere=True)
        try:
            await future
        except asyncio.CancelledError:
            self._interrupted(step)
            raise
        finally:
            if attempt.state != "suspended":
                attempt.unpark(step.name)
                attempt.consider_sleep()

    async def _event_or_timeout(self, step: StepRecord) -> ReceivedEvent | None:
        """The event, or None when its time was over first. The record decides, not the clock of this process."""
        while True:
            ref = event_ref(step.payload)
            if ref.end == "E":
                return await self._end_wait(step)
            if ref.deadline <= self._journal.now_ms():
                if not await self._durable.close_wait(step, ref):
                    step = await self._durable.reload(step)
                    continue
                ref.end = "T"
                step.payload = ref.packed()
                return await self._end_wait(step)
            await self._wait_for_decision(step, ref.deadline)
            step = await self._durable.reload(step)

    def _deadline(self, name: str, known: StepRecord | None, timeout: StepWaitForTarget) -> int:
        """When a wait ends that is opened now; one that was open when its attempt failed keeps its time."""
        if known is not None and known.kind == "event" and known.payload:
            return event_ref(known.payload).deadline
        now = self._journal.now_ms()
        try:
            return now + resolve_delay_ms(timeout, now_ms=now, label=f"wait_for_event timeout of step {name!r}")
        except (ValueError, TypeError) as exc:
            raise RedflowError(str(exc)) from exc

    async def _end_wait(self, step: StepRecord) -> ReceivedEvent | None:
        now = max(self._journal.now_ms(), step.started_at)
        self._tell(step, "succeeded")
        self._journal.note(step.finished("succeeded", now, self._attempt.claim.attempt, step.payload))
        return await self._received(step)

    async def _received(self, step: StepRecord) -> ReceivedEvent | None:
        ref = event_ref(step.payload)
        if ref.end != "E":
            return None
        data = await self._journal.load(step) if ref.data == STORED_APART else ref.data
        return {"id": ref.event_id, "name": ref.event, "data": decode(unpack(data)), "ts": ref.ts}

    async def _finish(self, step: StepRecord, ref: ChildRef) -> StepOutput:
        claim, now = self._attempt.claim, self._journal.now_ms()
        if ref.end == "S":
            ended = step.finished("succeeded", now, claim.attempt, ref.packed())
            self._tell(step, "succeeded")
            self._journal.note(ended)
            return decode(unpack(await self._content(step)))
        if ref.end == "C":
            raise self._ended_badly(
                step, ref, "canceled", CanceledError(f"Child run canceled: {public_run_id(ref.run_id)}")
            )
        stored = decode(unpack(await self._content(step)))
        error = run_failure(stored if isinstance(stored, dict) else {}, public_run_id(ref.run_id))
        raise self._ended_badly(step, ref, "failed", error)

    async def _give_up(self, step: StepRecord, ref: ChildRef) -> BaseException:
        if ref.own:
            await self._durable.cancel_child(ref.run_id, f"parent run {self._attempt.claim.run_id} canceled")
        return self._ended_badly(step, ref, "failed", TimeoutError(f"Step timed out: {step.name}"))

    def _ended_badly(self, step: StepRecord, ref: ChildRef, status: str, error: RedflowError) -> RedflowError:
        if self._attempt.state == "running":
            self._end(step, status, error)
        return error

    def _ended_badly_before(self, known: StepRecord) -> bool:
        """Whether a child failed, timed out or was canceled in an earlier pass of this attempt."""
        if known.kind != "child" or not known.payload or known.attempt != self._attempt.claim.attempt:
            return False
        return known.status == "failed" or (known.status == "canceled" and child_ref(known.payload).end == "C")

    async def _again(self, known: StepRecord) -> RedflowError:
        ref = child_ref(known.payload)
        ref.content = await self._content(known)
        self._attempt.unsuccessful.append(replace(known, payload=ref.packed()))
        return failure_again(ref.content)

    def _end(self, step: StepRecord, status: str, error: BaseException) -> None:
        """A step that ends without its child or event keeps what it waited for in its record."""
        if step.kind == "event" and step.payload:
            self._end_with(step, status, step.payload)
        elif step.kind == "child" and step.payload:
            ref = child_ref(step.payload)
            # A child that still lives when its parent's attempt ends stays this step's child in the next one.
            ref.end = "F" if status == "failed" else ref.end
            ref.content = pack(make_error_json(error).encode())
            self._end_with(step, status, ref.packed())
        elif step.kind in ("child", "event"):
            super()._end(replace(step, kind="run"), status, error)  # it never began to wait
        else:
            super()._end(step, status, error)

    async def _content(self, step: StepRecord) -> bytes:
        ref = child_ref(step.payload)
        return await self._journal.load(step) if ref.content == STORED_APART else ref.content
