"""RedflowRuntime: what a running flow needs, on redflow. Each task operation is a durable step."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pydantic import TypeAdapter

from r7kit.conversion import convert, convert_all
from r7kit.exceptions import TaskAlreadyExistsError
from r7kit.models import TaskModel
from r7kit.operations import ConfirmTask, OperationKind, TaskOperation, TaskReply, Written, kind_of
from r7kit.records.store import TaskStore
from r7kit.runtime import ActivityDefinition, ChildCall, FlowHandle, FlowInfo, StartRefusedError, outside_of_flows
from r7kit.runtimes.redflow.child_handle import ChildRunHandle
from r7kit.runtimes.redflow.outcomes import bad, comes_back, good, named_cause, value_of
from r7kit.runtimes.redflow.values import (
    ACTIVITY_PREFIX,
    FlowInput,
    attempts,
    hints_of,
    new_input,
)
from r7kit.serializer import to_json
from r7kit.stores import perform
from redflow import WorkflowDefinition, WorkflowHandlerContext, WorkflowRegistry, define_workflow
from redflow.client import RedflowClient
from redflow.errors import (
    CanceledError,
    ConnectionError,
    QueueFullError,
    RedflowError,
    TimeoutError,
    error_from_json,
)
from redflow.types import JsonData, StepRetry, StepState

log = logging.getLogger("r7kit")

_REPLIES: Final[Mapping[OperationKind, TypeAdapter[TaskReply]]] = {
    "create": TypeAdapter(Written),
    "confirm": TypeAdapter(Written | None),
    "discard": TypeAdapter(bool),
    "get": TypeAdapter(TaskModel),
    "exists": TypeAdapter(bool),
    "patch": TypeAdapter(Written),
    "delete": TypeAdapter(Written),
}
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_ACTIVITY_TRIES: Final = 3

GetStore = Callable[[], Awaitable[TaskStore]]
Context = WorkflowHandlerContext[JsonData]


class RedflowRuntime:
    """What the flow of one run needs. See `r7kit.runtime.FlowRuntime`.

    Args:
        ctx: of the run.
        told: its input.
        store: the task records.
        client: to look at runs with.
        activities: those of this worker.
    """

    def __init__(
        self,
        ctx: Context,
        told: FlowInput,
        store: GetStore,
        client: RedflowClient,
        activities: Mapping[str, ActivityDefinition],
    ) -> None:
        self._ctx = ctx
        self._told = told
        self._store = store
        self._client = client
        self._activities = activities
        self._counts: Counter[str] = Counter()
        # A retry of a flow is a new execution, as on Temporal: it sees none of the former attempt's steps.
        self._execution = "" if ctx.run.attempt <= 1 else f"attempt-{ctx.run.attempt}/"
        self._past: dict[str, StepState] | None = None
        self._info = FlowInfo(
            engine="redflow",
            flow_name=ctx.run.workflow,
            flow_id=ctx.run.id,
            task_id=told.task_id,
            shares_task=told.shares_task,
            queue=ctx.run.queue.partition(":")[2] or ctx.run.queue,
        )

    @property
    def info(self) -> FlowInfo:
        """Who the flow is."""
        return self._info

    async def confirm(self) -> None:
        """The first operation of every flow with a task of its own: the record is permanent from now on."""
        told = self._told
        operation = ConfirmTask(
            told.task_id, told.op, told.status, told.payload or {}, may_create=told.payload is not None
        )
        await self.operate(operation)

    async def operate(self, operation: TaskOperation, *, timeout_s: float | None = None) -> TaskReply:
        """An operation is a step named by its kind and order; see `r7kit.runtime.FlowRuntime`."""
        kind = kind_of(operation)

        async def do() -> dict[str, JsonData]:
            try:
                reply = await _patiently(self._store, operation, timeout_s)
            except (ValueError, builtins.TimeoutError) as error:
                return bad(error)
            return good(_REPLIES[kind].dump_python(reply, mode="json"))

        outcome = await self._ctx.step.run(self._name(kind), do)
        return _REPLIES[kind].validate_python(value_of(outcome, f"task operation {kind}"))

    async def run_child(self, call: ChildCall, *, timeout_s: float | None = None) -> object:
        """A child run. It is canceled with this flow; see `r7kit.runtime.FlowRuntime`."""
        name = self._name("child")
        await self._raise_past_failure(name, call)
        try:
            output = await self._ctx.step.run_workflow(
                name,
                _target(call),
                self._child_input(call),
                timeout_ms=None if timeout_s is None else max(1.0, timeout_s * 1000),
                idempotency_key=call.flow_id,
            )
        except TimeoutError as error:
            raise builtins.TimeoutError(f"child {call.flow_name} did not end in time") from error
        except CanceledError:
            raise
        except RedflowError as error:
            raise _child_failure(call, error) from named_cause(error)
        return convert(output, call.result_type)

    async def start_child(self, call: ChildCall, *, timeout_s: float | None = None) -> FlowHandle:
        """A run that this flow does not wait for; see `r7kit.runtime.FlowRuntime`."""
        name = self._name("start")
        flow_id = call.flow_id or (call.own.task_id if call.own is not None else None)
        told = self._child_input(call)
        run_id = await self._ctx.step.emit_workflow(name, _target(call), told, idempotency_key=flow_id)

        async def is_ours() -> bool:
            state = await self._client.get_run(run_id)
            return state is None or state.get("parent_run_id") == self._ctx.run.id

        if flow_id is not None and not await self._ctx.step.run(f"{name}:is-ours", is_ours):
            raise StartRefusedError() from TaskAlreadyExistsError(f"a flow of the id {flow_id!r} was started before")
        return ChildRunHandle(flow_id or run_id, run_id, name, call, self._ctx, self._client, timeout_s)

    async def call_activity(
        self, name: str, args: tuple[object, ...], *, timeout_s: float | None = None, queue: str | None = None
    ) -> object:
        """A step; on another queue, or where this worker has no such activity, a child run of it. Tried 3 times."""
        step, known = self._name(f"activity {name} "), self._activities.get(name)
        values = [to_json(arg, what=f"argument {number}") for number, arg in enumerate(args, 1)]
        try:
            if timeout_s is not None:
                await self._raise_past_timeout(step)
            if known is not None and queue in (None, self._info.queue):
                outcome: Mapping[str, JsonData] = await run_activity(self._ctx, step, known, values, timeout_s)
            else:
                outcome = await self._remote_activity(step, name, values, timeout_s, queue or self._info.queue)
        except TimeoutError as error:
            raise builtins.TimeoutError(f"activity {name} was not done in {timeout_s or 0:g} s") from error
        return value_of(outcome, f"activity {name}")

    async def sleep(self, seconds: float) -> None:
        """A durable wait: the run leaves its worker."""
        await self._ctx.step.wait_for(self._name("sleep"), seconds * 1000)

    def new_id(self) -> str:
        """A UUID made of the run's id and a number."""
        self._counts["id"] += 1
        name = f"{self._ctx.run.id}:{self._execution}{self._counts['id']}"
        return str(uuid.uuid5(uuid.NAMESPACE_OID, name))

    def next_op(self) -> str:
        """Run id, execution and number."""
        self._counts["op"] += 1
        return f"{self._ctx.run.id}:{self._execution}{self._counts['op']}"

    # -- inside -----------------------------------------------------------------------------------------------------

    def _name(self, kind: str) -> str:
        self._counts["step " + kind] += 1
        return f"{self._execution}{kind.rstrip()}-{self._counts['step ' + kind]}"

    def _child_input(self, call: ChildCall) -> JsonData:
        op = self._told.op if call.own is None else call.own.op
        return new_input(call.args, task_id=call.task_id, op=op, own=call.own, retry=call.retry)

    async def _raise_past_failure(self, name: str, call: ChildCall) -> None:
        """A child that failed in an earlier pass of this attempt stays failed: redflow would run another one."""
        past = await self._past_step(name)
        if past is None or "error" not in past or "child_run_id" not in past:
            return
        error = error_from_json(past["error"])
        if past["status"] == "failed":
            if isinstance(error, TimeoutError):
                raise builtins.TimeoutError(f"child {call.flow_name} did not end in time") from error
            raise _child_failure(call, error) from named_cause(error)
        if past["status"] == "canceled" and isinstance(error, CanceledError) and "Child run" in str(error):
            raise error

    async def _raise_past_timeout(self, name: str) -> None:
        past = await self._past_step(name)
        if past is not None and past["status"] == "failed" and "error" in past:
            error = error_from_json(past["error"])
            if isinstance(error, TimeoutError):
                raise error

    async def _past_step(self, name: str) -> StepState | None:
        """What an earlier pass of this attempt recorded of a step."""
        if self._past is None:
            attempt = self._ctx.run.attempt
            steps = await self._client.get_run_steps(self._ctx.run.id)
            self._past = {step["name"]: step for step in steps if step["attempt"] == attempt}
        return self._past.get(name)

    async def _remote_activity(
        self, step: str, name: str, values: list[JsonData], timeout_s: float | None, queue: str
    ) -> Mapping[str, JsonData]:
        try:
            output: Mapping[str, JsonData] = await self._ctx.step.run_workflow(
                step, _named(ACTIVITY_PREFIX + name, queue, 1), {"args": values, "timeout_s": timeout_s}
            )
        except RedflowError as error:
            raise RedflowError(f"activity {name} on queue {queue} failed: {error}") from error
        return output


async def run_activity(
    ctx: Context, step: str, activity: ActivityDefinition, values: list[JsonData], timeout_s: float | None
) -> dict[str, JsonData]:
    """Call an activity in a step, up to 3 times; its outcome is recorded, good or bad.

    Raises:
        TimeoutError: redflow's; the last try took longer than `timeout_s`.
    """
    args = convert_all(values, hints_of(activity.fn))
    tries = 0

    def judged(error: Exception) -> dict[str, JsonData]:
        if comes_back(error) or tries == _ACTIVITY_TRIES:
            return bad(error)
        raise error  # the step tries again

    async def call() -> dict[str, JsonData]:
        nonlocal tries
        tries += 1
        try:
            with outside_of_flows():  # it may start flows, as any client
                result = activity.fn(*args)
                result = await result if inspect.isawaitable(result) else result
            return good(to_json(result, what=f"result of {step}"))
        except Exception as error:
            return judged(error)

    def call_plain() -> dict[str, JsonData]:
        nonlocal tries
        tries += 1
        try:
            with outside_of_flows():
                result = activity.fn(*args)
            return good(to_json(result, what=f"result of {step}"))
        except Exception as error:
            return judged(error)

    limit_ms = None if timeout_s is None else max(1.0, timeout_s * 1000)
    retry = StepRetry(_ACTIVITY_TRIES)
    if inspect.iscoroutinefunction(activity.fn):
        return await ctx.step.run(step, call, timeout_ms=limit_ms, retry=retry)
    return await ctx.step.run(step, call_plain, timeout_ms=limit_ms, retry=retry)


async def _patiently(get_store: GetStore, operation: TaskOperation, timeout_s: float | None) -> TaskReply:
    """Do an operation, however long Redis is away: the engine's own Redis is this one, so nothing else could go on."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout_s is None else loop.time() + timeout_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await perform(await get_store(), operation)
        except (ConnectionError, QueueFullError) as error:
            if deadline is not None and loop.time() + pause > deadline:
                raise builtins.TimeoutError(f"{kind_of(operation)} was not done in {timeout_s:g} s: {error}") from error
            log.warning("task %s: %s is tried again: %s", operation.task_id, kind_of(operation), error)
        except builtins.TimeoutError as error:
            raise builtins.TimeoutError(f"{kind_of(operation)} was not done in {timeout_s:g} s") from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _target(call: ChildCall) -> WorkflowDefinition[JsonData, JsonData]:
    return _named(call.flow_name, call.queue, attempts(call.retry))


def _named(name: str, queue: str, max_attempts: int) -> WorkflowDefinition[JsonData, JsonData]:
    """A workflow of another worker, to start a run of: the name, queue and attempts are all that is used of it."""
    return define_workflow(
        name, handler=_elsewhere, queue=queue, max_attempts=max_attempts, registry=WorkflowRegistry()
    )


async def _elsewhere(ctx: Context) -> JsonData:
    raise NotImplementedError(f"{ctx.run.workflow} runs on its own worker")


def _child_failure(call: ChildCall, error: RedflowError) -> RedflowError:
    failure = RedflowError(f"child {call.flow_name} failed: {error}")
    failure.error, failure.cause_run_id = error.error, error.cause_run_id
    return failure
