"""TemporalEngine: starting flows as a client of Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from r7kit.config import Settings
from r7kit.exceptions import TaskAlreadyExistsError, TemporalNotConnected
from r7kit.runtime import FlowHandle, StartOrder, StartRefusedError
from r7kit.runtimes.temporal.connection import connect
from r7kit.runtimes.temporal.failures import too_large
from r7kit.runtimes.temporal.flow import temporal_retry
from r7kit.runtimes.temporal.memo import TASK_MEMO, task_memo
from r7kit.runtimes.temporal.options import Keywords
from redflow.types import JsonData

_OURS: Final = ("id", "args", "arg", "task_queue", "memo", "search_attributes", "retry_policy", "result_type")

# With these the server says that it did not do it. With any other it may have.
_REFUSALS: Final = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.ALREADY_EXISTS,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNIMPLEMENTED,
        RPCStatusCode.OUT_OF_RANGE,
    }
)
_AWAY: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED})


class TemporalEngine:
    """Starts flows. See `r7kit.runtime.FlowEngine`.

    Args:
        settings: where Temporal is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> None:
        """Connect, unless it is connected.

        Raises:
            TemporalNotConnected: the server can't be reached.
        """
        await self.client()

    async def client(self) -> Client:
        """The Temporal client."""
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._settings)
            return self._client

    async def start(self, order: StartOrder) -> FlowHandle:
        """Start a workflow; a workflow id that was ever used is refused. See `r7kit.runtime.FlowEngine`."""
        try:
            arguments = _arguments(order)
            client = await self.client()
        except Exception as error:
            raise StartRefusedError() from error
        try:
            return await client.start_workflow(order.flow_name, **arguments)
        except WorkflowAlreadyStartedError as error:
            refusal = StartRefusedError()
            refusal.task_in_use = await self._runs_with(client, order)
            raise refusal from TaskAlreadyExistsError(
                f"a flow of the id {error.workflow_id!r} was started before; choose another uuid or workflow_id"
            )
        except RPCError as error:
            if error.status in _REFUSALS:
                raise StartRefusedError() from error
            if error.status in _AWAY:
                raise TemporalNotConnected(
                    f"Temporal at {self._settings.temporal_address} did not answer ({error.status.name}); "
                    f"the flow {order.flow_id!r} may have been started"
                ) from error
            raise
        except Exception as error:  # the arguments can't be converted: nothing was sent
            raise StartRefusedError() from (too_large(error) or error)

    async def close(self) -> None:
        """Let go of the client; Temporal's has nothing to close."""
        self._client = None

    async def _runs_with(self, client: Client, order: StartOrder) -> bool:
        """Whether the flow that was there first is one that this task's record is needed by."""
        try:
            found = await client.get_workflow_handle(order.flow_id).describe()
            told = await found.memo_value(TASK_MEMO, None)
        except RPCError:
            return True  # a record too many is gone after a minute; one that is missed is not to be had again
        running = found.status is WorkflowExecutionStatus.RUNNING
        return running and (not isinstance(told, Mapping) or told.get("uuid") == order.task.task_id)


def _arguments(order: StartOrder) -> Keywords:
    taken = [name for name in order.options if name in _OURS]
    if taken:
        raise TypeError(f"start option {taken[0]!r} is set by r7kit; use the parameters of start()")
    return {
        "args": list(order.args),
        "id": order.flow_id,
        "task_queue": order.queue,
        "result_type": order.result_type,
        "retry_policy": temporal_retry(order.retry),
        "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
        "memo": {**order.memo, TASK_MEMO: task_memo(order.task.task_id, order.task)},
        "search_attributes": search_attributes(order.search),
        **order.options,
    }


def search_attributes(search: Mapping[JsonData, object]) -> TypedSearchAttributes:
    """Typed search attributes of a mapping. A key of Temporal's, `SearchAttributeKey.for_text("x")`, is taken too.

    Raises:
        TypeError: a value of another type than str, int, float, bool, datetime or list of str.
    """
    return TypedSearchAttributes([SearchAttributePair(_key(name, value), value) for name, value in search.items()])


def _key(name: object, value: object) -> SearchAttributeKey[JsonData]:
    if isinstance(name, SearchAttributeKey):
        return name
    if not isinstance(name, str) or not name:
        raise TypeError(f"search: a name must be a text, got {type(name).__name__}")
    match value:
        case bool():
            return SearchAttributeKey.for_bool(name)
        case int():
            return SearchAttributeKey.for_int(name)
        case float():
            return SearchAttributeKey.for_float(name)
        case str():
            return SearchAttributeKey.for_keyword(name)
        case datetime():
            return SearchAttributeKey.for_datetime(name)
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return SearchAttributeKey.for_keyword_list(name)
    raise TypeError(
        f"search: {name!r} must be a str, int, float, bool, datetime or list of str, got {type(value).__name__}"
    )
