"""TemporalRuntime: what a running flow needs, on Temporal. Everything here runs in workflow code: it is replayed.

What a flow issues, and in which order, is part of its history. Whoever changes it must keep the histories in
tests/r7kit/histories replaying (`workflow.patched` is the tool).
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from temporalio import exceptions, workflow
from temporalio.common import RetryPolicy as TemporalRetryPolicy
from temporalio.common import WorkflowIDReusePolicy
from temporalio.workflow import ParentClosePolicy

from r7kit.runtimes.temporal.options import Keywords

if TYPE_CHECKING:
    from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.conversion import convert_all
from r7kit.exceptions import TaskAlreadyExistsError
from r7kit.operations import ConfirmTask, TaskOperation, TaskReply, check_payload, kind_of
from r7kit.registry import definition_of
from r7kit.runtime import ChildCall, FlowHandle, FlowInfo, RetryPolicy, StartRefusedError
from r7kit.runtimes.temporal.child_handle import ChildHandle
from r7kit.runtimes.temporal.failures import ANSWERS, fitting, from_activity_error, too_large
from r7kit.runtimes.temporal.memo import TASK_MEMO, task_memo
from r7kit.runtimes.temporal.wire import ACTIVITY_OF, REPLY_OF, encode

_ATTRIBUTE: Final = "_r7kit_runtime"

# One try is short, since the store gives up on a server that does not answer after 3 seconds. The number of tries, and
# not a time, is the bound: a flow whose workers are all away waits for them. It is some 12 minutes of Redis being away.
_TRY: Final = timedelta(seconds=10)
_TRIES: Final = TemporalRetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=150,
)
_ACTIVITY_TRY: Final = timedelta(minutes=10)
_ACTIVITY_TRIES: Final = TemporalRetryPolicy(
    initial_interval=timedelta(milliseconds=500), maximum_attempts=3, non_retryable_error_types=ANSWERS
)


class _Keeping:
    """How often a running flow renews the life of its task, seconds; a worker sets it from its settings."""

    every_s: float = 604_800 / 2


keeping: Final = _Keeping()


class TemporalRuntime:
    """What the flow of one workflow execution needs. See `r7kit.runtime.FlowRuntime`."""

    def __init__(self) -> None:
        info = workflow.info()
        told = workflow.memo_value(TASK_MEMO, None)
        self._memo: Mapping[str, object] = told if isinstance(told, Mapping) else {}
        self._info = FlowInfo(
            engine="temporal",
            flow_name=info.workflow_type,
            flow_id=info.workflow_id,
            task_id=str(self._memo.get("uuid") or info.workflow_id),
            shares_task=bool(self._memo.get("shared")),
            queue=info.task_queue,
        )
        self._run_id = info.run_id
        self._ops = 0

    @classmethod
    def current(cls) -> TemporalRuntime:
        """The one of the workflow that is running here."""
        instance = workflow.instance()
        found = getattr(instance, _ATTRIBUTE, None)
        if not isinstance(found, TemporalRuntime):
            found = cls()
            setattr(instance, _ATTRIBUTE, found)
        return found

    @property
    def info(self) -> FlowInfo:
        """Who the flow is."""
        return self._info

    async def run(self, flow: BaseTaskWorkflow, args: tuple[object, ...]) -> object:
        """Run handle(): confirm the task first, and keep it alive meanwhile."""
        if not self._info.shares_task:
            await self.operate(self._confirmation())
        keeper = asyncio.create_task(self._keep_task())
        try:
            result: object = await flow.handle(*_typed(flow, args))
        except Exception as error:
            await _canceled(keeper)
            fit = fitting(error)
            if fit is error:
                raise
            raise fit from None
        except BaseException as error:
            # An eviction from the worker's cache, or the flow's cancellation: nothing may be awaited here.
            keeper.cancel()
            fit = fitting(error)
            if fit is error:
                raise
            raise fit from None
        await _canceled(keeper)
        return result

    async def operate(self, operation: TaskOperation, *, timeout_s: float | None = None) -> TaskReply:
        """An operation is an activity; see `r7kit.runtime.FlowRuntime`."""
        kind = kind_of(operation)
        try:
            reply: TaskReply = await workflow.execute_activity(
                ACTIVITY_OF[kind],
                encode(operation),
                result_type=REPLY_OF[kind],
                start_to_close_timeout=_TRY,
                schedule_to_close_timeout=_delta(timeout_s),
                retry_policy=_TRIES,
            )
        except (exceptions.ActivityError, exceptions.ApplicationError) as error:
            known = from_activity_error(error)
            if known is None:
                raise
            raise known from None
        return reply

    async def run_child(self, call: ChildCall, *, timeout_s: float | None = None) -> object:
        """See `r7kit.runtime.FlowRuntime`. It is ended with this flow."""
        try:
            result: object = await workflow.execute_child_workflow(
                call.flow_name,
                args=list(call.args),
                parent_close_policy=ParentClosePolicy.TERMINATE,
                **self._child_options(call, timeout_s),
            )
        except exceptions.ApplicationError as error:
            raise too_large(error) or error from None
        except exceptions.ChildWorkflowError as error:
            if isinstance(error.cause, exceptions.TimeoutError):
                raise builtins.TimeoutError(
                    f"child {call.flow_name} ({error.workflow_id}) did not end in time"
                ) from None
            raise
        return result

    async def start_child(self, call: ChildCall, *, timeout_s: float | None = None) -> FlowHandle:
        """See `r7kit.runtime.FlowRuntime`. It goes on without this flow."""
        try:
            handle = await workflow.start_child_workflow(
                call.flow_name,
                args=list(call.args),
                parent_close_policy=ParentClosePolicy.ABANDON,
                **self._child_options(call, timeout_s),
            )
        except exceptions.ApplicationError as error:
            raise StartRefusedError() from (too_large(error) or error)
        except exceptions.WorkflowAlreadyStartedError as error:
            raise StartRefusedError() from TaskAlreadyExistsError(
                f"a flow of the id {error.workflow_id!r} was started before; choose another id_"
            )
        return ChildHandle(handle)

    async def call_activity(
        self, name: str, args: tuple[object, ...], *, timeout_s: float | None = None, queue: str | None = None
    ) -> object:
        """See `r7kit.runtime.FlowRuntime`. Tried 3 times at most."""
        try:
            result: object = await workflow.execute_activity(
                name,
                args=list(args),
                task_queue=queue,
                start_to_close_timeout=_delta(timeout_s) or _ACTIVITY_TRY,
                retry_policy=_ACTIVITY_TRIES,
            )
        except (exceptions.ActivityError, exceptions.ApplicationError) as error:
            known = from_activity_error(error)
            if known is None:
                raise
            raise known from error
        return result

    async def sleep(self, seconds: float) -> None:
        """A timer."""
        await workflow.sleep(seconds)

    def new_id(self) -> str:
        """A UUID from the workflow's own random numbers."""
        return str(workflow.uuid4())

    def next_op(self) -> str:
        """Run id and number."""
        self._ops += 1
        return f"{self._run_id}:{self._ops}"

    # -- inside -----------------------------------------------------------------------------------------------------

    def _confirmation(self) -> ConfirmTask:
        memo, task_id = self._memo, self._info.task_id
        if not memo:  # started by another SDK: the task is empty, and made by the flow
            return ConfirmTask(task_id, f"start:{task_id}:{workflow.info().first_execution_run_id}")
        payload = memo.get("payload")
        return ConfirmTask(
            task_id,
            str(memo.get("op")),
            status=str(memo.get("status", "new")),
            payload=check_payload(payload),
            may_create=payload is not None,
        )

    async def _keep_task(self) -> None:
        """Renew the life of the task while the flow runs, however long it sleeps."""
        operation = ConfirmTask(self._info.task_id, str(self._memo.get("op", "")), may_create=False)
        while True:
            await workflow.sleep(keeping.every_s)
            try:
                await self.operate(operation)
            except Exception as error:
                workflow.logger.warning("the life of task %s was not renewed: %s", self._info.task_id, error)

    def _child_options(self, call: ChildCall, timeout_s: float | None) -> Keywords:
        own_id = None if call.own is None else call.own.task_id
        return {
            "id": call.flow_id or own_id or str(workflow.uuid4()),
            "task_queue": call.queue,
            "result_type": call.result_type,
            "execution_timeout": _delta(timeout_s),
            "retry_policy": temporal_retry(call.retry),
            "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
            "memo": {TASK_MEMO: task_memo(call.task_id, call.own, str(self._memo.get("op", "")))},
        }


def _typed(flow: object, args: tuple[object, ...]) -> Sequence[object]:
    """The arguments as handle() declares them. Temporal's converter does nothing where some were left to defaults."""
    definition = definition_of(type(flow))
    if definition is None or len(args) == len(definition.argument_types):
        return args
    return convert_all(args, definition.argument_types)


async def _canceled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, so that its timer is canceled before the flow ends, with any SDK version."""
    task.cancel()
    await asyncio.wait([task])


def find_flow() -> TemporalRuntime | None:
    """The runtime of the workflow that is running here, signal handlers and queries included; None outside."""
    return TemporalRuntime.current() if workflow.in_workflow() else None


def temporal_retry(retry: RetryPolicy | None) -> TemporalRetryPolicy:
    """A flow's policy as Temporal's; None is one attempt."""
    if retry is None:
        return TemporalRetryPolicy(maximum_attempts=1)
    return TemporalRetryPolicy(
        initial_interval=timedelta(seconds=retry.initial_interval),
        backoff_coefficient=retry.backoff,
        maximum_interval=_delta(retry.maximum_interval),
        maximum_attempts=retry.maximum_attempts,
    )


def _delta(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
