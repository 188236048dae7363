"""Child flows: `self.child(...)` in a running flow."""

from __future__ import annotations

from collections.abc import Mapping

from r7kit.durations import Seconds, timeout_s
from r7kit.operations import check_payload, check_status
from r7kit.registry import FlowLike, resolve
from r7kit.retry import RetryLike, check_retry
from r7kit.runtime import ChildCall, FlowHandle, NewTask, StartRefusedError, current_runtime
from r7kit.start import check_arguments
from redflow.domain.names import check_name
from redflow.types import JsonData

__all__ = ["Child", "RetryLike"]


class Child:
    """A child flow that is yet to be run or started; see `BaseTaskWorkflow.child`."""

    def __init__(
        self, wf: FlowLike, *, queue: str | None = None, retry: RetryLike | None = None, flow_id: str | None = None
    ) -> None:
        self._target = resolve(wf, queue, may_import=False)
        self._retry = check_retry(retry)
        self._flow_id = check_name(flow_id, what="id_") if flow_id is not None else None

    async def run(self, *args: object, timeout: Seconds | None = None) -> JsonData:
        """Run it to its end, on this flow's own task.

        Args:
            args: of its handle().
            timeout: seconds or timedelta for the whole child; None: no limit.

        Returns:
            Its result; converted to the hint of its handle() where its class is known here.

        Raises:
            TimeoutError: it took longer; it was ended.
            Exception: it failed; the engine's error that names the child, with the child's own as its cause.
        """
        check_arguments(self._target, args)
        runtime = current_runtime()
        call = self._call(args, runtime.info.task_id, None)
        return await runtime.run_child(call, timeout_s=timeout_s(timeout))

    async def start(
        self,
        *args: object,
        payload: Mapping[str, JsonData] | None = None,
        status: str = "new",
        timeout: Seconds | None = None,
    ) -> tuple[FlowHandle, str]:
        """Start it and go on. It goes on by itself when this flow ends.

        Args:
            args: of its handle().
            payload: of a task of its own; None: it shares this flow's task.
            status: of a task of its own.
            timeout: seconds or timedelta for the whole child; None: no limit.

        Returns:
            Its handle, and the uuid of its task (with a shared one, this flow's).

        Raises:
            TaskAlreadyExistsError: its id is taken.
            TypeError, ValueError: an argument is none of its kind.
        """
        check_arguments(self._target, args)
        limit = timeout_s(timeout)
        runtime = current_runtime()
        if payload is None:
            shared = runtime.info.task_id
            try:
                return await runtime.start_child(self._call(args, shared, None), timeout_s=limit), shared
            except StartRefusedError as refusal:
                raise refusal.__cause__ or refusal from None
        task = NewTask(runtime.new_id(), runtime.next_op(), check_status(status), check_payload(payload))
        await runtime.operate(task.create())
        try:
            handle = await runtime.start_child(self._call(args, task.task_id, task), timeout_s=limit)
        except StartRefusedError as refusal:
            await runtime.operate(task.discard())
            raise refusal.__cause__ or refusal from None
        await runtime.operate(task.confirm())
        return handle, task.task_id

    def _call(self, args: tuple[object, ...], task_id: str, own: NewTask | None) -> ChildCall:
        target = self._target
        return ChildCall(
            flow_name=target.name,
            queue=target.queue,
            args=args,
            task_id=task_id,
            own=own,
            flow_id=self._flow_id,
            retry=self._retry,
            result_type=target.result_type,
        )
