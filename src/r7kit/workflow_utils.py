"""Starting flows that may be known by name only, and what works in flows on every engine."""

from __future__ import annotations

from collections.abc import Mapping

from r7kit.durations import Seconds, seconds
from r7kit.registry import FlowLike, resolve
from r7kit.retry import RetryLike
from r7kit.runtime import FlowHandle, current_runtime
from r7kit.start import start_flow
from redflow.types import JsonData


async def submit_workflow(
    wf: FlowLike,
    *args: object,
    payload: Mapping[str, JsonData] | None = None,
    status: str = "new",
    task_uuid: str | None = None,
    memo: Mapping[str, JsonData] | None = None,
    search: Mapping[str, JsonData] | None = None,
    workflow_id: str | None = None,
    queue: str | None = None,
    retry: RetryLike | None = None,
    workflow_kwargs: Mapping[str, JsonData] | None = None,
) -> FlowHandle:
    """Create a task and start a flow for it.

    Args:
        wf: class, dotted path (`package.module.Class`, which is imported) or type name.
        args: of handle().
        payload: of the task; None or {} makes an empty one.
        status: of the task.
        task_uuid: of the task; None: a new one.
        memo: notes that the engine keeps with the flow.
        search: search attributes, by name (Temporal).
        workflow_id: the engine's id of the flow; None: the task's uuid.
        queue: argument > decorator > `<name lower>-queue`.
        retry: RetryPolicy or mapping; None: one attempt.
        workflow_kwargs: further options of the engine's own start call.

    Returns:
        The flow's handle. Unless `workflow_id` is given, its `id` is the task's uuid.

    Raises:
        TemporalNotConnected: Temporal can't be reached.
        TaskAlreadyExistsError: the uuid or the workflow_id is taken.
        TypeError, ValueError: an argument is none of its kind; nothing was written.

    Example:
        >>> handle = await submit_workflow("MyFlow", payload={"input": 42}, queue="producer-queue")
    """
    handle, _ = await start_flow(
        resolve(wf, queue),
        args,
        payload=payload,
        status=status,
        task_uuid=task_uuid,
        workflow_id=workflow_id,
        retry=retry,
        memo=memo,
        search=search,
        options=workflow_kwargs or {},
    )
    return handle


async def sleep(duration: Seconds) -> None:
    """Sleep durably in a flow, on every engine: it outlives the worker.

    Args:
        duration: seconds or timedelta; 0 returns at once.

    Raises:
        RuntimeError: no flow is running here.
        ValueError: negative, or no duration.
    """
    length = seconds(duration, what="duration", least=-1e-9)
    if length > 0:
        await current_runtime().sleep(length)
