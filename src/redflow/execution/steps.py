"""`ctx.step`: named steps that run once and are remembered.

On every pass the handler runs from its first line; a step that succeeded in this run gives its stored output back,
by name, without calling anything.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from functools import partial
from types import CoroutineType
from typing import Final, NoReturn, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from redflow import telemetry
from redflow.domain.duration import resolve_delay_ms
from redflow.domain.names import check_name
from redflow.domain.payload import decode, encode, pack, raise_if_sealed, unpack
from redflow.domain.step import METHODS, STORED_APART, StepKind, StepRecord
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
from redflow.execution.failures import failure_again
from redflow.execution.functions import FunctionFacts, function_facts
from redflow.execution.journal import LeaseLost
from redflow.execution.mapping import map_steps
from redflow.execution.retrying import Tries
from redflow.execution.threads import result_of
from redflow.types import CancelSignal, Durability, StepRetry

log = logging.getLogger("redflow")

Item = TypeVar("Item")
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
        known = self._enter(name, "run")
        if not callable(fn):
            raise NonRetriableError(_no_function(name, fn))
        limit_s = None if timeout_ms is None else step_limit_s(timeout_ms)
        # Any other value of this name is fn's own.
        tries: Tries | None = None
        if kwargs and isinstance(retry := kwargs.get("retry"), StepRetry):
            del kwargs["retry"]
            tries = Tries(retry, name, self._journal.now_ms)
        durability = self._attempt.durability
        if kwargs and isinstance(own := kwargs.get("durability"), Durability):
            del kwargs["durability"]
            durability = own
        facts = function_facts(fn)
        if durability is not Durability.NONE:
            await self._make_sure(known, durability)
        if known is not None and known.status == "succeeded":
            return cast(T, _read(unpack(await self._payload(known)), facts, name))  # reason: stored JSON of this step
        step = self._open(name, known, "run")
        self._attempt.enter(step)
        try:
            output = await self._perform(step, Call(fn, args, kwargs, facts, limit_s, tries, durability))
        finally:
            self._attempt.leave(step)
        return cast(T, output)  # reason: fn's result after its JSON round trip

    async def map(
        self,
        name: str,
        fn: Callable[[Item], Awaitable[T]] | Callable[[Item], T],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]:
        """Run `fn(item)` for each item, as the steps `name[0]`, `name[1]` and so on."""

        async def run_one(step: str, item: Item) -> T:
            options: dict[str, object] = {} if retry is None else {"retry": retry}
            return await self.run(step, fn, item, timeout_ms=timeout_ms, **options)

        return await map_steps(run_one, name, items, concurrency)

    async def wait_for(self, name: str, target: object, *, timeout_ms: float | None = None) -> None:
        """Sleep durably until `target`; the run leaves its worker."""
        known = self._enter(name, "sleep")
        limit_s = step_limit_s(timeout_ms)
        if known is not None and known.status == "succeeded":
            return
        if known is not None and known.kind == "sleep" and self._failed_before(known):
            self._attempt.unsuccessful.append(known)
            raise failure_again(await self._payload(known))
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

    # -- entering -----------------------------------------------------------------------------------------------

    def _enter(self, name: str, kind: StepKind | None = None) -> StepRecord | None:
        """The checks that every step call begins with; returns what is known of the step."""
        attempt = self._attempt
        attempt.check_open()
        outer = _current_step.get()
        if outer is not None:
            raise NonRetriableError(f"step {name!r} was called inside step {outer!r}: steps can't contain steps")
        names = attempt.names
        if name in names:
            raise RedflowError(f"Duplicate step name: {name!r}; a name may be used once in a run")
        check_name(name, what="step name")
        names.add(name)
        if len(names) > MAX_STEPS:
            raise LimitExceededError(f"step {name!r} is one too many: a run may have {MAX_STEPS} steps")
        known = attempt.claim.steps.get(name)
        if known is not None and kind is not None and known.excludes(kind):
            raise StepTypeError(
                f"step {name!r} was {METHODS[known.kind]} when it was recorded and is {METHODS[kind]} now: "
                "what does something else needs another name"
            )
        return known

    def _open(self, name: str, known: StepRecord | None, kind: StepKind) -> StepRecord:
        attempt = self._attempt
        if known is not None:
            seq = known.seq
        else:
            seq, attempt.next_seq = attempt.next_seq, attempt.next_seq + 1
        return StepRecord(name, seq, "running", attempt.claim.attempt, self._journal.now_ms(), kind=kind)

    # -- performing ---------------------------------------------------------------------------------------------

    async def _perform(self, step: StepRecord, call: Call) -> object:
        attempt = self._attempt
        while True:
            if not self._journal.may_begin():
                self._lease_is_over()
            try:
                stored, output = _round_trip(await self._call(step.name, call), call.facts, step.name)
                break
            except asyncio.CancelledError:
                self._interrupted(step)
                raise
            except BaseException as exc:
                pause_ms = None if call.tries is None else call.tries.pause_ms(exc)
                if pause_ms is None or attempt.state != "running":
                    raise self._failed(step, exc) from exc.__cause__
                log.info(
                    "run %s: a try of step %r failed, the next follows in %d ms",
                    attempt.claim.run_id,
                    step.name,
                    pause_ms,
                )
            try:
                await self._pause(pause_ms)
            except asyncio.CancelledError:
                self._interrupted(step)
                raise
        attempt.calm(step)
        if telemetry.anybody_listens():
            self._tell(step, "succeeded")
        step.status, step.finished_at, step.payload = "succeeded", self._journal.now_ms(), stored
        try:
            await self._journal.record(step, call.durability)
        except LeaseLost:
            raise self._lost() from None
        if call.durability is not Durability.NONE:
            attempt.confirmed |= {call.durability}
        return output

    async def _make_sure(self, known: StepRecord | None, durability: Durability) -> None:
        """Before a step that shall be durable: what this pass finds recorded must be so, too, and it must be possible.

        One confirmation does for the whole pass, since it covers all that was written before it.
        """
        if durability in self._attempt.confirmed:
            return
        if known is not None and known.status == "succeeded":
            await self._confirm(known, durability)
            return
        try:
            await self._journal.prepare(durability)
        except LeaseLost:
            raise self._lost() from None

    async def _confirm(self, recorded: StepRecord, durability: Durability) -> None:
        try:
            await self._journal.confirm(recorded, durability)
        except LeaseLost:
            raise self._lost() from None
        self._attempt.confirmed |= {durability}

    def _lost(self) -> BaseException:
        self._attempt.interrupt("lost")
        return asyncio.CancelledError("the lease of this run is lost")

    async def _pause(self, pause_ms: int) -> None:
        await asyncio.sleep(pause_ms / 1000)

    def _lease_is_over(self) -> NoReturn:
        """A holder stops by its own clock before its lease can have run out."""
        self._attempt.interrupt("lost")
        raise asyncio.CancelledError("the lease of this run may have run out")

    def _call(self, name: str, call: Call) -> Awaitable[object]:
        """One try: what the function returns."""
        signal: CancelSignal | None = None
        if call.facts.wants_signal and (call.own_signal or "signal" not in call.kwargs):
            signal = self._attempt.signal if call.limit_s is None else CancelSignal()
            call.own_signal = True
            call.kwargs["signal"] = signal
        if call.limit_s is None:
            return self._invoke(name, call)
        return self._call_with_limit(name, call, call.limit_s, signal)

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
            if not work.cancelled() and isinstance(work.exception(), GeneratorExit):
                raise RuntimeError("a step function raised GeneratorExit") from work.exception()
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
            if type(value) is CoroutineType or inspect.isawaitable(value):
                return await value
            if inspect.isgenerator(value) or inspect.isasyncgen(value):
                raise NonRetriableError(f"step {name!r} gave a generator; return a list instead")
            return value
        except (SystemExit, KeyboardInterrupt) as exc:
            # A task that ends with one of these takes the event loop along, and with it every run of this worker.
            raise NonRetriableError(f"step {name!r} raised {type(exc).__name__}: {exc}") from exc
        except TimeoutError:
            raise
        except builtins.TimeoutError as exc:
            raise TimeoutError(f"Step timed out: {name}") from exc
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

    def _failed_before(self, known: StepRecord) -> bool:
        """Whether a step failed in an earlier pass of this attempt."""
        return known.status == "failed" and known.attempt == self._attempt.claim.attempt

    def _interrupted(self, step: StepRecord) -> None:
        if self._attempt.state in ("running", "ended", "canceled"):
            self._end(step, "canceled", CanceledError(f"Step canceled: {step.name}"))

    def _end(self, step: StepRecord, status: str, error: BaseException) -> None:
        self._end_with(step, status, pack(make_error_json(error).encode()))

    def _end_with(self, step: StepRecord, status: str, payload: bytes) -> None:
        ended = step.finished(
            "failed" if status == "failed" else "canceled", self._journal.now_ms(), self._attempt.claim.attempt, payload
        )
        self._tell(step, status)
        self._attempt.calm(step)
        self._attempt.unsuccessful.append(ended)
        self._journal.note(ended)

    def _tell(self, step: StepRecord, status: str) -> None:
        if not telemetry.anybody_listens():
            return
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


class Call:
    """One function call, as the step runner passes it on."""

    __slots__ = ("args", "durability", "facts", "fn", "kwargs", "limit_s", "own_signal", "tries")

    def __init__(
        self,
        fn: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        facts: FunctionFacts,
        limit_s: float | None,
        tries: Tries | None,
        durability: Durability,
    ) -> None:
        self.tries = tries
        self.durability = durability
        self.own_signal = False
        """The signal in kwargs was made here: each try gets a new one."""
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.facts = facts
        self.limit_s = limit_s


def _round_trip(value: object, facts: FunctionFacts, name: str) -> tuple[bytes, object]:
    """A function's result as it is stored, and as the handler gets it: what a later pass would read."""
    try:
        if facts.adapter is not None:
            value = facts.adapter.dump_python(value, mode="json", warnings="error")
        text = encode(value, what="step output")
    except PayloadTooLargeError:
        raise
    except (TypeError, ValueError, PydanticSerializationError) as exc:
        raise OutputSerializationError(f"Step output is not JSON-serializable: {name}", exc) from exc
    return pack(text), _read(text, facts, name)


def _read(text: bytes, facts: FunctionFacts, name: str) -> object:
    if facts.adapter is None:
        return decode(text)
    try:
        return facts.adapter.validate_json(text)
    except ValidationError as exc:
        raise_if_sealed(text)
        raise StepTypeError(f"the stored output of step {name!r} no longer fits its type: {exc}") from exc


def step_limit_s(timeout_ms: float | None) -> float | None:
    """A step's `timeout_ms` in seconds; None means no limit."""
    if timeout_ms is None:
        return None
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float) or not 0 < timeout_ms < float("inf"):
        raise NonRetriableError(f"timeout_ms must be a positive number of ms, got {timeout_ms!r}")
    return timeout_ms / 1000


def _no_function(name: str, fn: object) -> str:
    if inspect.iscoroutine(fn):
        fn.close()
        return f"step {name!r} was given a coroutine; give the function and its arguments: step.run(name, fn, *args)"
    return f"step {name!r} needs a function, got {type(fn).__name__}"


def _forget(work: asyncio.Future[object]) -> None:
    """The late result of a step that was given up: looked at, so that asyncio doesn't complain, and dropped."""
    if not work.cancelled():
        work.exception()
