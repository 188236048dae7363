"""RedflowEngine: starting flows as a client of redflow."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Final, NoReturn

from r7kit.config import Settings
from r7kit.conversion import convert
from r7kit.exceptions import EngineFeatureError, TaskAlreadyExistsError
from r7kit.runtime import FlowHandle, StartOrder, StartRefusedError
from r7kit.runtimes.redflow.outcomes import named_cause
from r7kit.runtimes.redflow.values import APP, attempts, new_input, read_input
from redflow import create_client
from redflow.client import RedflowClient
from redflow.errors import ConnectionError, QueueFullError, RedflowError, TimeoutError
from redflow.types import JsonData

_WAIT_MS: Final = 30_000
_PATIENCE_S: Final = 300.0
_PAUSE_S: Final = 0.5


class RedflowEngine:
    """Starts flows. See `r7kit.runtime.FlowEngine`.

    Args:
        settings: where Redis is.

    Attributes:
        client: redflow's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.client = create_client(app=APP, url=settings.redis_url)

    async def connect(self) -> None:
        """See that Redis can be reached.

        Raises:
            ConnectionError, ServerTooOldError: it can't be used.
        """
        await self.client.get_run("run_00000000-0000-0000-0000-000000000000")

    async def start(self, order: StartOrder) -> FlowHandle:
        """Start a run; its idempotency key is the flow's id. See `r7kit.runtime.FlowEngine`."""
        try:
            _refuse_options(order)
            told = new_input(
                order.args,
                task_id=order.task.task_id,
                op=order.task.op,
                own=order.task,
                retry=order.retry,
                memo=order.memo,
            )
            run = await self.client.run_by_name(
                order.flow_name,
                told,
                queue_override=order.queue,
                max_attempts_override=attempts(order.retry),
                idempotency_key=order.flow_id,
                idempotency_ttl=max(self._settings.task_ttl, self._settings.deleted_ttl, 1),
            )
        except ConnectionError:
            raise  # it may have been started
        except (ValueError, TypeError, QueueFullError, EngineFeatureError) as error:
            raise StartRefusedError() from error
        state = await run.get_state()
        if state is not None:
            first = read_input(state["input"], run.id)
            if first.op != order.task.op:
                refusal = StartRefusedError()
                refusal.task_in_use = first.task_id == order.task.task_id
                raise refusal from TaskAlreadyExistsError(
                    f"a flow of the id {order.flow_id!r} was started before; choose another uuid or workflow_id"
                )
        return RedflowHandle(order.flow_id, run.id, order.result_type, self.client)

    async def close(self) -> None:
        """Close its connections."""
        await self.client.close()


class RedflowHandle:
    """A started flow. `await handle.result()` waits for its end.

    Attributes:
        run_id: redflow's id of the run.
    """

    def __init__(self, flow_id: str, run_id: str, result_type: object | None, client: RedflowClient) -> None:
        self.run_id = run_id
        self._flow_id = flow_id
        self._result_type = result_type
        self._client = client

    @property
    def id(self) -> str:
        """The id it was started with: the task's uuid, or the workflow_id that was given."""
        return self._flow_id

    async def result(self) -> JsonData:
        """Wait for the end, however long; the result, converted to the hint of handle().

        Raises:
            RedflowError: the flow failed; `error` holds what is stored of its error.
            CanceledError: it was canceled.
            ConnectionError: Redis was away for five minutes.
        """
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while True:
            try:
                return convert(await self._client.wait_for_result(self.run_id, timeout_ms=_WAIT_MS), self._result_type)
            except TimeoutError:
                seen = loop.time()
            except ConnectionError:
                if loop.time() - seen > _PATIENCE_S:
                    raise
                await asyncio.sleep(_PAUSE_S)
            except RedflowError as error:
                cause = named_cause(error)
                raise error from cause

    async def cancel(self, reason: str = "") -> bool:
        """Cancel the flow; whether that changed anything.

        Args:
            reason: kept with the run.
        """
        return await self._client.cancel_run(self.run_id, reason=reason)

    def __await__(self) -> Generator[JsonData, None, JsonData]:
        return self.result().__await__()

    async def signal(self, *args: object, **kwargs: object) -> NoReturn:
        """Not on this engine; raises EngineFeatureError."""
        raise _temporal_only("signals")

    async def query(self, *args: object, **kwargs: object) -> NoReturn:
        """Not on this engine; raises EngineFeatureError."""
        raise _temporal_only("queries")

    async def execute_update(self, *args: object, **kwargs: object) -> NoReturn:
        """Not on this engine; raises EngineFeatureError."""
        raise _temporal_only("updates")

    async def start_update(self, *args: object, **kwargs: object) -> NoReturn:
        """Not on this engine; raises EngineFeatureError."""
        raise _temporal_only("updates")

    async def terminate(self, *args: object, **kwargs: object) -> NoReturn:
        """Not on this engine; raises EngineFeatureError."""
        raise _temporal_only("terminate()")


def _refuse_options(order: StartOrder) -> None:
    if order.search:
        raise _temporal_only("search attributes")
    if order.options:
        raise _temporal_only(f"the start option {next(iter(order.options))!r}")


def _temporal_only(feature: str) -> EngineFeatureError:
    return EngineFeatureError(
        f"{feature}: a feature of the engine temporal, which the engine redflow does not have; "
        "read and patch the task instead, or run the flow on Temporal"
    )
