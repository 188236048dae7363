"""The steps that reach beyond their run: children. What a sleeping parent waits for is decided by scripts."""

from __future__ import annotations

import asyncio
from datetime import datetime

from redflow._step_api import AnyWorkflowLike, StepOutput
from redflow.definitions import WorkflowDefinition, validate_input_with_schema
from redflow.domain.orders import build_order
from redflow.domain.payload import decode, pack, unpack
from redflow.domain.run import RunOrder, child_run_id, public_run_id, stored_run_id
from redflow.domain.step import STORED_APART, ChildRef, StepRecord, child_ref
from redflow.errors import CanceledError, RedflowError, TimeoutError, make_error_json
from redflow.execution.attempt import Attempt
from redflow.execution.failures import run_failure
from redflow.execution.journal import DurableJournal, LeaseLost, StartRefused
from redflow.execution.steps import Steps, step_limit_s


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
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> StepOutput:
        """See `StepApi.run_workflow`."""
        known = self._enter(name)
        limit_s = step_limit_s(timeout_ms)
        if known is not None and known.status == "succeeded":
            return decode(unpack(await self._content(known)))
        if known is not None and known.status == "running" and known.payload:
            step = known
        else:
            generation = child_ref(known.payload).generation + 1 if known is not None and known.payload else 1
            step = self._open(name, known, "child")
            order = await self._order(
                step,
                workflow,
                input,
                generation,
                run_at=run_at,
                queue=queue_override,
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
            step = await self._start(step, order, generation, awaited=True)
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
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str:
        """See `StepApi.emit_workflow`."""
        known = self._enter(name)
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
                idempotency_key=idempotency_key,
                idempotency_ttl=idempotency_ttl,
            )
            known = await self._start(step, order, 1, awaited=False)
        run_id = decode(unpack(await self._payload(known)))
        if not isinstance(run_id, str):
            raise RedflowError(f"the record of step {name!r} holds no run id")
        return run_id

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
        idempotency_key: str | None,
        idempotency_ttl: int | None,
    ) -> RunOrder:
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
        )

    async def _start(self, step: StepRecord, order: RunOrder, generation: int, *, awaited: bool) -> StepRecord:
        attempt = self._attempt
        self._check_lease()
        with self._in_flight(step, announce=False):
            try:
                return await self._durable.start_child(step, order, generation, awaited=awaited)
            except LeaseLost:
                attempt.interrupt("lost")
                raise asyncio.CancelledError("the lease of this run is lost") from None
            except StartRefused as exc:
                attempt.interrupt("canceled")
                raise CanceledError() from exc
            except RedflowError as exc:
                raise self._failed(step, exc) from exc.__cause__

    # -- waiting ------------------------------------------------------------------------------------------------

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
            letter = "C" if status == "canceled" else "F"
            content = pack(make_error_json(error).encode())
            packed = ChildRef(letter, ref.run_id, ref.generation, ref.own, content).packed()
            self._end_with(step, status, packed)
        return error

    async def _content(self, step: StepRecord) -> bytes:
        ref = child_ref(step.payload)
        return await self._journal.load(step) if ref.content == STORED_APART else ref.content
