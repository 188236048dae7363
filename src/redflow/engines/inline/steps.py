"""`ctx.step` of an inline run: the same steps as everywhere, but for those that need other runs or events.

A step that has an override gives its value back as it is, unseen by JSON. Sleeps are real unless they are skipped;
events come at once; children and emitted events only get an id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar

from redflow._step_api import StepOutput
from redflow.definitions import WorkflowDefinition, validate_input_with_schema
from redflow.domain.duration import resolve_delay_ms
from redflow.domain.names import check_key, check_name
from redflow.domain.payload import encode
from redflow.domain.step import StepKind, StepRecord
from redflow.engines.inline.journal import InlineJournal
from redflow.errors import RedflowError
from redflow.execution.attempt import Attempt
from redflow.execution.steps import Call, Steps
from redflow.types import ReceivedEvent

T = TypeVar("T")


class InlineSteps(Steps):
    """The step methods of one inline run.

    Args:
        attempt: the run's attempt.
        journal: the attempt's journal.
        overrides: step name -> the value to give back instead of doing anything.
        skip_time: let sleeps pass at once.
    """

    def __init__(
        self, attempt: Attempt, journal: InlineJournal, overrides: Mapping[str, object], *, skip_time: bool
    ) -> None:
        super().__init__(attempt)
        self._memory = journal
        self._overrides: Mapping[str, StepOutput] = overrides
        self._skip_time = skip_time

    async def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]] | Callable[..., T],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> T:
        """Run `fn(*args, **kwargs)`, unless the step has an override."""
        if name not in self._overrides:
            return await super().run(name, fn, *args, timeout_ms=timeout_ms, **kwargs)
        self._enter(name)
        value: T = self._answer(name, "run", None, _anything, "any value")
        return value

    async def wait_for(self, name: str, target: object, *, timeout_ms: float | None = None) -> None:
        """Sleep in this process, unless the step has an override."""
        if name not in self._overrides:
            await super().wait_for(name, target, timeout_ms=timeout_ms)
            return
        self._enter(name)
        self._check_delay(target, f"wait_for target of step {name!r}")
        self._succeed(self._open(name, None, "sleep"), None)

    async def wait_for_event(
        self, name: str, event_name: str, correlation_key: str, timeout: object
    ) -> ReceivedEvent | None:
        """Give the override back, else an event that is made up."""
        self._enter(name)
        event_name = check_key(event_name, what=f"event name of step {name!r}")
        correlation_key = check_key(correlation_key, what=f"correlation key of step {name!r}")
        self._check_delay(timeout, f"timeout of step {name!r}")
        made_up: ReceivedEvent = {
            "id": f"test-event-{event_name}-{name}",
            "name": event_name,
            "data": {"correlation_key": correlation_key},
            "ts": self._memory.now_ms(),
        }
        event: ReceivedEvent | None = self._answer(name, "event", made_up, _is_event, "a dict or None")
        return event

    async def run_workflow(
        self,
        name: str,
        workflow: object,
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
        """Give the override back, which must be there: no other workflow is run."""
        self._enter(name)
        workflow_name = await _check_child(name, workflow, input)
        step = self._open(name, None, "child")
        if name in self._overrides:
            return self._succeed(step, self._overrides[name])
        raise self._failed(
            step,
            RedflowError(
                f"step {name!r} runs the workflow {workflow_name!r}, which run_inline does not: "
                f"give its output as step_overrides={{{name!r}: ...}}"
            ),
        )

    async def emit_workflow(
        self,
        name: str,
        workflow: object,
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
        """Give the override back, else an id that is made up; nothing is started."""
        self._enter(name)
        workflow_name = await _check_child(name, workflow, input)
        run_id: str = self._answer(name, "run", f"test-child-{workflow_name}-{name}", _is_text, "a str")
        return run_id

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
        """Give the override back, else an id that is made up; nothing is emitted."""
        self._enter(name)
        event_name = check_key(event_name, what=f"event name of step {name!r}")
        if correlation_key is not None:
            check_key(correlation_key, what=f"correlation key of step {name!r}")
        encode(_plain(input), what=f"data of step {name!r}")
        run_ids: list[str] = self._answer(
            name, "run", [f"test-event-{event_name}-{name}"], _is_list_of_text, "a list of str"
        )
        return run_ids

    # -- what the steps of other engines do elsewhere -----------------------------------------------------------

    async def _perform(self, step: StepRecord, call: Call) -> object:
        output = await super()._perform(step, call)
        self._memory.outputs[step.name] = output
        return output

    def _end(self, step: StepRecord, status: str, error: BaseException) -> None:
        self._memory.errors[step.name] = error
        super()._end(step, status, error)

    async def _sleep_until(self, step: StepRecord, wakes_at: int) -> None:
        if self._skip_time:
            await asyncio.sleep(0)  # other tasks go on, as they would during a sleep
        else:
            await super()._sleep_until(step, wakes_at)

    async def _pause(self, pause_ms: int) -> None:
        await super()._pause(0 if self._skip_time else pause_ms)

    # -- answers ------------------------------------------------------------------------------------------------

    def _answer(
        self, name: str, kind: StepKind, made_up: object, fits: Callable[[object], bool], wanted: str
    ) -> StepOutput:
        """The override of a step if it has one, else the value that is made up for it."""
        step = self._open(name, None, kind)
        value = self._overrides.get(name, made_up)
        if not fits(value):
            text = f"the override of step {name!r} must be {wanted}, got {type(value).__name__}"
            raise self._failed(step, RedflowError(text))
        return self._succeed(step, value)

    def _succeed(self, step: StepRecord, value: StepOutput) -> StepOutput:
        now = self._memory.now_ms()
        self._memory.note(step.finished("succeeded", now, self._attempt.claim.attempt, b"null"))
        self._memory.outputs[step.name] = value
        return value

    def _check_delay(self, target: object, label: str) -> None:
        try:
            resolve_delay_ms(target, now_ms=self._memory.now_ms(), label=label)
        except (ValueError, TypeError) as exc:
            raise RedflowError(str(exc)) from exc


async def _check_child(step_name: str, workflow: object, input: object) -> str:
    """The checks that a worker makes before it starts another workflow; returns that workflow's name."""
    if isinstance(workflow, WorkflowDefinition):
        if workflow.options.input_schema is not None:
            input = await validate_input_with_schema(workflow.options.input_schema, input)
        workflow = workflow.name
    encode(_plain(input), what=f"input of step {step_name!r}")
    return check_name(workflow, what=f"workflow name of step {step_name!r}")


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else value


def _anything(value: object) -> bool:
    return True


def _is_event(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
