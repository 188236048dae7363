"""`ctx.step`: named steps that run once and are remembered.

On every pass the handler runs from its first line; a step that succeeded in this run gives its stored output back,
by name, without calling anything.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from typing import Final, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from redflow import telemetry
from redflow._step_api import StepOutput
from redflow.domain.duration import resolve_delay_ms
from redflow.domain.names import check_name
from redflow.domain.payload import decode, encode, pack, unpack
from redflow.domain.step import STORED_APART, StepKind, StepRecord
from redflow.errors import (
    CanceledError,
    LimitExceededError,
    NonRetriableError,
    OutputSerializationError,
    PayloadTooLargeError,
    RedflowError,
    StepTypeError,
    TimeoutError,
    make_error_json,
)
from redflow.execution.attempt import UNWIND_S, Attempt
from redflow.execution.functions import FunctionFacts, function_facts
from redflow.execution.journal import LeaseLost
from redflow.execution.threads import result_of
from redflow.types import CancelSignal, ReceivedEvent

T = TypeVar("T")

MAX_STEPS: Final = 10_000
_current_step: ContextVar[str | None] = ContextVar("redflow_step", default=None)


class Steps:
    """The step methods of one attempt. See `redflow.types.StepApi` for what each promises."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._journal = attempt.journal

    async def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]] | Callable[..., T],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> T:
        """Run `fn(*args, **kwargs)` once and remember its result under `name`."""
        known = self._enter(name)
        if not callable(fn):
            raise NonRetriableError(_no_function(name, fn))
        limit_s = _timeout_s(timeout_ms)
        facts = function_facts(fn)
        if known is not None and known.status == "succeeded":
            return cast(T, self._read(known, await self._payload(known), facts))  # reason: stored JSON of this step
        step = self._open(name, known, "run")
        with self._in_flight(step):
            output = await self._perform(step, Call(fn, args, kwargs, facts, limit_s))
        return cast(T, output)  # reason: fn's result after its JSON round trip

    async def wait_for(self, name: str, target: object, *, timeout_ms: float | None = None) -> None:
        """Sleep durably until `target`; the run leaves its worker."""
        known = self._enter(name)
        limit_s = _timeout_s(timeout_ms)
        if known is not None and known.status == "succeeded":
            return
        if known is not None and known.due_at is not None:
            step, due = known, known.due_at
        else:
            # A wait that was open when its attempt failed goes on in the next: its due time is fixed for good.
            interrupted = known is not None and known.kind == "sleep" and known.status == "canceled"
            now = known.started_at if known is not None and interrupted else self._journal.now_ms()
            try:
                due = now + resolve_delay_ms(target, now_ms=now, label=f"wait_for target of step {name!r}")
            except (ValueError, TypeError) as exc:
                raise RedflowError(str(exc)) from exc
            step = self._open(name, known, "sleep")
            step.started_at = now
            step.payload = str(due).encode()
        deadline = None if limit_s is None else step.started_at + int(limit_s * 1000)
        await self._sleep_until(step, due if deadline is None else min(due, deadline))
        if deadline is not None and deadline < due:
            raise self._failed(step, TimeoutError(f"Step timed out: {name}"))
        self._journal.note(step.finished("succeeded", max(due, step.started_at), self._attempt.claim.attempt, b"null"))

    async def wait_for_event(
        self, name: str, event_name: str, correlation_key: str, timeout: object
    ) -> ReceivedEvent | None:
        """Not on this engine yet."""
        raise _not_here(name, "wait_for_event")

    async def run_workflow(
        self,
        name: str,
        workflow: object,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> StepOutput:
        """Not on this engine yet."""
        raise _not_here(name, "run_workflow")

    async def emit_workflow(
        self,
        name: str,
        workflow: object,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str:
        """Not on this engine yet."""
        raise _not_here(name, "emit_workflow")

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
        """Not on this engine yet."""
        raise _not_here(name, "emit_event")

    # -- entering -----------------------------------------------------------------------------------------------

    def _enter(self, name: str) -> StepRecord | None:
        """The checks that every step call begins with; returns what is known of the step."""
        attempt = self._attempt
        attempt.check_open()
        outer = _current_step.get()
        if outer is not None:
            raise NonRetriableError(f"step {name!r} was called inside step {outer!r}: steps can't contain steps")
        if name in attempt.names:
            raise RedflowError(f"Duplicate step name: {name!r}; a name may be used once in a run")
        check_name(name, what="step name")
        attempt.names.add(name)
        if len(attempt.names) > MAX_STEPS:
            raise LimitExceededError(f"step {name!r} is one too many: a run may have {MAX_STEPS} steps")
        return attempt.claim.steps.get(name)

    def _open(self, name: str, known: StepRecord | None, kind: StepKind) -> StepRecord:
        attempt = self._attempt
        if known is not None:
            seq = known.seq
        else:
            seq, attempt.next_seq = attempt.next_seq, attempt.next_seq + 1
        return StepRecord(name, seq, "running", attempt.claim.attempt, self._journal.now_ms(), kind=kind)

    @contextmanager
    def _in_flight(self, step: StepRecord) -> Iterator[None]:
        attempt = self._attempt
        attempt.in_flight[step.name] = asyncio.current_task()
        attempt.began(step)
        try:
            yield
        finally:
            del attempt.in_flight[step.name]
            attempt.started.pop(step.name, None)
            attempt.consider_sleep()

    # -- performing ---------------------------------------------------------------------------------------------

    async def _perform(self, step: StepRecord, call: Call) -> object:
        attempt = self._attempt
        if not self._journal.may_begin():
            attempt.interrupt("lost")
            raise asyncio.CancelledError("the lease of this run may have run out")
        try:
            value = await self._call(step.name, call)
        except asyncio.CancelledError:
            self._interrupted(step)
            raise
        except TimeoutError as exc:
            raise self._failed(step, exc) from None
        except builtins.TimeoutError as exc:
            raise self._failed(step, TimeoutError(f"Step timed out: {step.name}")) from exc
        except BaseException as exc:
            raise self._failed(step, exc) from None
        try:
            stored = _write(value, call.facts, step.name)
            output = self._read(step, stored, call.facts)
        except RedflowError as exc:
            raise self._failed(step, exc) from exc.__cause__
        attempt.started.pop(step.name, None)
        self._tell(step, "succeeded")
        try:
            await self._journal.record(
                step.finished("succeeded", self._journal.now_ms(), attempt.claim.attempt, stored)
            )
        except LeaseLost:
            attempt.interrupt("lost")
            raise asyncio.CancelledError("the lease of this run is lost") from None
        return output

    async def _call(self, name: str, call: Call) -> object:
        signal: CancelSignal | None = None
        if call.facts.wants_signal and "signal" not in call.kwargs:
            signal = self._attempt.signal if call.limit_s is None else CancelSignal()
            call.kwargs["signal"] = signal
        if call.limit_s is None:
            return await self._invoke(name, call)
        return await self._call_with_limit(name, call, call.limit_s, signal)

    async def _call_with_limit(self, name: str, call: Call, limit_s: float, signal: CancelSignal | None) -> object:
        work = asyncio.ensure_future(self._invoke(name, call))
        self._attempt.limits[name] = time.monotonic() + limit_s
        try:
            done, _ = await asyncio.wait({work}, timeout=limit_s)
        except asyncio.CancelledError:
            if signal is not None:
                signal.set()
            work.cancel()
            work.add_done_callback(_forget)
            await asyncio.wait({work}, timeout=UNWIND_S)
            raise
        finally:
            del self._attempt.limits[name]
        if done:
            return work.result()
        if signal is not None:
            signal.set()
        work.cancel()
        await asyncio.wait({work}, timeout=UNWIND_S)
        work.add_done_callback(_forget)
        raise TimeoutError(f"Step timed out: {name}")

    async def _invoke(self, name: str, call: Call) -> object:
        token = _current_step.set(name)
        try:
            if call.facts.is_async:
                value = call.fn(*call.args, **call.kwargs)
            else:
                value = await self._in_thread(partial(call.fn, *call.args, **call.kwargs))
            if inspect.isawaitable(value):
                return await value
            if inspect.isgenerator(value) or inspect.isasyncgen(value):
                raise NonRetriableError(f"step {name!r} gave a generator; return a list instead")
            return value
        except (SystemExit, KeyboardInterrupt) as exc:
            # A task that ends with one of these takes the event loop along, and with it every run of this worker.
            raise NonRetriableError(f"step {name!r} raised {type(exc).__name__}: {exc}") from exc
        finally:
            _current_step.reset(token)

    async def _in_thread(self, function: Callable[[], object]) -> object:
        return await result_of(self._attempt.threads.submit(function), UNWIND_S)

    # -- endings ------------------------------------------------------------------------------------------------

    def _failed(self, step: StepRecord, error: BaseException) -> BaseException:
        """Note the failure; returns the error to raise."""
        if self._attempt.state == "running":
            self._end(step, "failed", error)
        return error

    def _interrupted(self, step: StepRecord) -> None:
        if self._attempt.state in ("running", "ended", "canceled"):
            self._end(step, "canceled", CanceledError(f"Step canceled: {step.name}"))

    def _end(self, step: StepRecord, status: str, error: BaseException) -> None:
        payload = pack(make_error_json(error).encode())
        ended = step.finished(
            "failed" if status == "failed" else "canceled", self._journal.now_ms(), self._attempt.claim.attempt, payload
        )
        self._tell(step, status)
        self._attempt.started.pop(step.name, None)
        self._attempt.unsuccessful.append(ended)
        self._journal.note(ended)

    def _tell(self, step: StepRecord, status: str) -> None:
        claim = self._attempt.claim
        telemetry.emit(telemetry.STEP_ENDED, run_id=claim.run_id, step=step.name, status=status, attempt=claim.attempt)

    async def _sleep_until(self, step: StepRecord, wakes_at: int) -> None:
        attempt = self._attempt
        if wakes_at <= self._journal.now_ms():
            return
        self._journal.note(step)
        future = attempt.park(step.name, wakes_at)
        try:
            await future
        except asyncio.CancelledError:
            self._interrupted(step)
            raise
        finally:
            if attempt.state != "suspended":
                attempt.unpark(step.name)
                attempt.consider_sleep()

    # -- values -------------------------------------------------------------------------------------------------

    async def _payload(self, step: StepRecord) -> bytes:
        return await self._journal.load(step) if step.payload == STORED_APART else step.payload

    def _read(self, step: StepRecord, stored: bytes, facts: FunctionFacts) -> object:
        text = unpack(stored)
        if facts.adapter is None:
            return decode(text)
        try:
            return facts.adapter.validate_json(text)
        except ValidationError as exc:
            raise StepTypeError(f"the stored output of step {step.name!r} no longer fits its type: {exc}") from exc


class Call:
    """One function call, as the step runner passes it on."""

    __slots__ = ("args", "facts", "fn", "kwargs", "limit_s")

    def __init__(
        self,
        fn: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        facts: FunctionFacts,
        limit_s: float | None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.facts = facts
        self.limit_s = limit_s


def _write(value: object, facts: FunctionFacts, name: str) -> bytes:
    try:
        if facts.adapter is not None:
            value = facts.adapter.dump_python(value, mode="json", warnings="error")
        return pack(encode(value, what="step output"))
    except PayloadTooLargeError:
        raise
    except (TypeError, ValueError, PydanticSerializationError) as exc:
        raise OutputSerializationError(f"Step output is not JSON-serializable: {name}", exc) from exc


def _timeout_s(timeout_ms: float | None) -> float | None:
    if timeout_ms is None:
        return None
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float) or not 0 < timeout_ms < float("inf"):
        raise NonRetriableError(f"timeout_ms must be a positive number of ms, got {timeout_ms!r}")
    return timeout_ms / 1000


def _not_here(name: str, verb: str) -> NonRetriableError:
    return NonRetriableError(f"step {name!r}: step.{verb} works in run_inline only in this version of redflow")


def _no_function(name: str, fn: object) -> str:
    if inspect.iscoroutine(fn):
        fn.close()
        return f"step {name!r} was given a coroutine; give the function and its arguments: step.run(name, fn, *args)"
    return f"step {name!r} needs a function, got {type(fn).__name__}"


def _forget(work: asyncio.Future[object]) -> None:
    """The late result of a step that was given up: looked at, so that asyncio doesn't complain, and dropped."""
    if not work.cancelled():
        work.exception()
