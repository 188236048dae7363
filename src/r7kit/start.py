"""Starting a flow together with its task: one operation for the caller, whatever breaks in between.

    1. create    the record, with a life of 60 seconds           (kill here: it vanishes by itself)
    2. start     the flow; id = task uuid, duplicates rejected   (kill here: the flow's first operation is 3)
    3. confirm   the record is permanent from now on             by the client, and by the flow itself, whoever is first

A start that is certainly refused removes the record again. One that may have happened leaves it: either its flow
confirms it, or it vanishes. The flow carries the operation id of step 1, and for small payloads the payload too, so
that it can write the record itself if it is taken up only after those 60 seconds and the client died before step 3.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping
from typing import TYPE_CHECKING

from r7kit.config import current
from r7kit.engines import current_engine
from r7kit.operations import check_payload, check_status, check_task_id
from r7kit.registry import FlowTarget, resolve
from r7kit.retry import RetryLike, check_retry
from r7kit.runtime import FlowHandle, NewTask, StartOrder, StartRefusedError, find_runtime
from r7kit.stores import current_store
from redflow.domain.names import check_name
from redflow.types import JsonData

if TYPE_CHECKING:
    from r7kit.base_task_workflow import BaseTaskWorkflow


async def start_flow(
    target: FlowTarget,
    args: tuple[object, ...],
    *,
    payload: Mapping[str, JsonData] | None,
    status: str,
    task_uuid: str | None,
    workflow_id: str | None,
    retry: RetryLike | None,
    memo: Mapping[str, JsonData] | None,
    search: Mapping[str, JsonData] | None,
    options: Mapping[str, JsonData],
) -> tuple[FlowHandle, str]:
    """Start a flow from outside of flows; its handle and the uuid of its task. See `Starter.__call__`."""
    if find_runtime() is not None:
        raise RuntimeError(f"start() is for clients; in a flow, use self.child({target.name!r}).start(...)")
    check_arguments(target, args)
    task = NewTask(
        check_task_id(task_uuid) if task_uuid is not None else str(uuids.uuid4()),
        f"start:{uuids.uuid4().hex}",
        check_status(status),
        check_payload(payload),
    )
    order = StartOrder(
        flow_name=target.name,
        flow_id=check_name(workflow_id, what="workflow_id") if workflow_id is not None else task.task_id,
        task=task,
        queue=target.queue,
        args=args,
        retry=check_retry(retry),
        result_type=target.result_type,
        memo=_checked_mapping(memo, "memo"),
        search={} if search is None else dict(search),
        options=dict(options),
    )
    settings = current()
    engine = await current_engine(settings)
    await engine.connect()
    store = await current_store(settings)
    await store.create(task.create())
    try:
        handle = await engine.start(order)
    except StartRefusedError as refusal:
        if not refusal.task_in_use:
            await store.discard(task.discard())
        raise refusal.__cause__ or refusal from None
    await store.confirm(task.confirm())
    return handle, task.task_id


def check_arguments(target: FlowTarget, args: tuple[object, ...]) -> None:
    """Judge the arguments by the signature of handle(), where it is known here.

    Raises:
        TypeError: there are too few or too many.
    """
    if target.signature is None:
        return
    try:
        target.signature.bind(*args)
    except TypeError as exc:
        raise TypeError(f"{target.name}.handle: {exc}") from None


def _checked_mapping(value: Mapping[str, JsonData] | None, what: str) -> dict[str, JsonData]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, got {type(value).__name__}")
    for name in value:
        check_name(name, what=f"{what}: name")
        if name.startswith("r7kit."):
            raise ValueError(f'{what}: names that start with "r7kit." are taken, got {name!r}')
    return dict(value)


class BoundStarter:
    """`Cls.start`, to be called."""

    def __init__(self, cls: type[BaseTaskWorkflow]) -> None:
        self._cls = cls

    async def __call__(
        self,
        *args: object,
        payload: Mapping[str, JsonData] | None = None,
        status: str = "new",
        uuid: str | None = None,
        queue: str | None = None,
        workflow_id: str | None = None,
        retry: RetryLike | None = None,
        memo: Mapping[str, JsonData] | None = None,
        search: Mapping[str, JsonData] | None = None,
        **start_options: object,
    ) -> tuple[FlowHandle, str]:
        """Create the task and start the flow. Works any number of times, from any event loop.

        Args:
            args: of handle().
            payload: of the task; None or {} makes an empty one.
            status: of the task.
            uuid: of the task; None: a new one.
            queue: to run it on; None: the decorator's, else `<name lower>-queue`.
            workflow_id: the engine's id of the flow; None: the task's uuid.
            retry: RetryPolicy or mapping; None: one attempt.
            memo: notes that the engine keeps with the flow.
            search: search attributes, by name (Temporal).
            start_options: further options of the engine's own start call.

        Returns:
            The flow's handle (`await handle.result()`) and the uuid of its task, whose record can be read now.

        Raises:
            TaskAlreadyExistsError: the uuid or the workflow_id is taken.
            TemporalNotConnected: Temporal can't be reached.
            TypeError, ValueError: an argument is none of its kind; nothing was written.

        Example:
            >>> handle, uuid = await MyFlow.start(payload={"input": 42})
        """
        return await start_flow(
            resolve(self._cls, queue),
            args,
            payload=payload,
            status=status,
            task_uuid=uuid,
            workflow_id=workflow_id,
            retry=retry,
            memo=memo,
            search=search,
            options=start_options,
        )


class Starter:
    """Gives each flow class its `start`."""

    def __get__(self, instance: BaseTaskWorkflow | None, owner: type[BaseTaskWorkflow]) -> BoundStarter:
        """The start of the class."""
        return BoundStarter(owner)
