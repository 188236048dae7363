"""RedflowServer: a redflow worker for the flows and activities of a package."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from r7kit.config import Settings
from r7kit.conversion import convert_all
from r7kit.exceptions import EngineFeatureError
from r7kit.records.store import TaskStore
from r7kit.runtime import ActivityDefinition, FlowDefinition, WorkerPlan, bind_runtime, unbind_runtime
from r7kit.runtimes.redflow.flow import Context, RedflowRuntime, run_activity
from r7kit.runtimes.redflow.renewal import keep_tasks
from r7kit.runtimes.redflow.values import (
    ACTIVITY_PREFIX,
    APP,
    read_input,
    retry_delay_ms,
)
from r7kit.serializer import to_json
from r7kit.stores import current_store
from redflow import StartWorkerOptions, WorkerHandle, WorkflowRegistry, define_workflow, start_worker
from redflow.types import JsonData, RetryPolicyContext, WorkflowRetryPolicy

log = logging.getLogger("r7kit")

_CONCURRENCY: Final = 100


class RedflowServer:
    """Serves flows. See `r7kit.runtime.FlowServer`.

    Args:
        settings: where Redis is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker: WorkerHandle | None = None

    def describe(self, plan: WorkerPlan) -> tuple[str, ...]:
        """Names of what it would serve, flows first."""
        return (*(flow.name for flow in plan.flows), *(one.name for one in plan.activities))

    async def serve(self, plan: WorkerPlan, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Run a worker until `stop` is set, then drain it: what is not done in the grace period goes on elsewhere.

        Raises:
            ConnectionError, ServerTooOldError: Redis can't be used at the start. Later it is waited for.
        """
        options = StartWorkerOptions(
            app=APP,
            url=self._settings.redis_url,
            registry=self._registry(plan),
            queues=[plan.queue],
            concurrency=plan.concurrency or _CONCURRENCY,
            grace_ms=int(plan.grace_s * 1000),
        )
        self._worker = await start_worker(options)
        flows = [flow.name for flow in plan.flows]
        keeper = asyncio.ensure_future(keep_tasks(self._worker.client, self._store, flows, self._settings.task_ttl))
        try:
            ready()
            await stop.wait()
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._worker.stop(drain=True)

    def _registry(self, plan: WorkerPlan) -> WorkflowRegistry:
        registry = WorkflowRegistry()
        activities = {one.name: one for one in plan.activities}
        for flow in plan.flows:
            define_workflow(
                flow.name,
                handler=self._handler(flow, activities),
                queue=flow.default_queue,
                max_attempts=1,
                retries=WorkflowRetryPolicy(delay=_retry_delay),
                registry=registry,
            )
        for one in plan.activities:
            define_workflow(
                ACTIVITY_PREFIX + one.name,
                handler=_activity_handler(one),
                queue=plan.queue,
                max_attempts=1,
                registry=registry,
            )
        return registry

    def _handler(
        self, flow: FlowDefinition, activities: Mapping[str, ActivityDefinition]
    ) -> Callable[[Context], Awaitable[JsonData]]:
        async def handle(ctx: Context) -> JsonData:
            assert self._worker is not None
            told = read_input(ctx.input, ctx.run.id)
            runtime = RedflowRuntime(ctx, told, self._store, self._worker.client, activities)
            token = bind_runtime(runtime)
            try:
                if not told.shares_task:
                    await runtime.confirm()
                result = await flow.cls().handle(*convert_all(told.args, flow.argument_types))
                return to_json(result, what=f"result of {flow.name}")
            except Exception as error:
                explained = _explained(error)
                if explained is error:
                    raise
                raise explained from error
            finally:
                unbind_runtime(token)

        return handle

    async def _store(self) -> TaskStore:
        return await current_store(self._settings)


def _activity_handler(activity: ActivityDefinition) -> Callable[[Context], Awaitable[JsonData]]:
    async def handle(ctx: Context) -> JsonData:
        values, timeout_s = ctx.input["args"], ctx.input["timeout_s"]
        return await run_activity(ctx, "call", activity, values, timeout_s)

    return handle


def _retry_delay(context: RetryPolicyContext) -> int:
    return retry_delay_ms(read_input(context.input, context.run.id).retry, context.run.attempt)


def _explained(error: Exception) -> Exception:
    """What Temporal's SDK says of its functions outside of its own workflows does not say which engine this is."""
    if type(error).__module__.partition(".")[0] != "temporalio" or "NotInWorkflow" not in type(error).__name__:
        return error
    feature, frame = "", error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        if not feature and frame.tb_frame.f_globals.get("__name__", "").startswith("temporalio.workflow"):
            feature = code.co_name
        frame = frame.tb_next
    explained = EngineFeatureError(
        f"workflow.{feature}: a feature of the engine temporal, which the engine redflow does not have; "
        "r7kit.workflow_utils.sleep and the methods of BaseTaskWorkflow work on both"
    )
    return explained.with_traceback(error.__traceback__)
