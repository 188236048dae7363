"""TemporalServer: a Temporal worker for the flows and activities of a package."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from r7kit.config import Settings
from r7kit.records.store import TaskStore
from r7kit.runtime import WorkAbandonedError, WorkerPlan
from r7kit.runtimes.temporal.activities import task_activities
from r7kit.runtimes.temporal.connection import connect
from r7kit.runtimes.temporal.definition import (
    define_activity,
    define_workflow,
    is_activity,
    workflow_definition,
)
from r7kit.runtimes.temporal.flow import keeping
from r7kit.runtimes.temporal.options import Keywords, TemporalOptions, temporal_options
from r7kit.runtimes.temporal.threads import DaemonThreads
from r7kit.stores import current_store

log = logging.getLogger("r7kit")

PASSTHROUGH: Final = (
    "r7kit",
    "redflow",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_inspection",
    "orjson",
    "redis",
    "opentelemetry",
)
"""Modules that the workflow sandbox takes from outside: they are ours or have no state that a flow could see."""

_THREADS: Final = 32
_UNWIND_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker registers with Temporal."""

    workflows: tuple[type, ...]
    activities: tuple[Callable[..., object], ...]


def served(plan: WorkerPlan) -> Served:
    """The workflows and activities of a plan: r7kit's, and plain ones of temporalio."""
    for flow in plan.flows:
        define_workflow(flow)
    for one in plan.activities:
        define_activity(one)
    ours = {flow.cls for flow in plan.flows}
    plain = [m for m in plan.members if isinstance(m, type) and m not in ours and workflow_definition(m) is not None]
    functions = {one.fn for one in plan.activities}
    others = [m for m in plan.members if inspect.isfunction(m) and m not in functions and is_activity(m)]
    return Served((*(flow.cls for flow in plan.flows), *plain), (*(one.fn for one in plan.activities), *others))


def sandbox(options: TemporalOptions) -> SandboxedWorkflowRunner:
    """The sandbox that flows run in."""
    modules = (*PASSTHROUGH, *options.passthrough_modules)
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*modules))


class TemporalServer:
    """Serves flows. See `r7kit.runtime.FlowServer`.

    Args:
        settings: where Temporal and Redis are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def describe(self, plan: WorkerPlan) -> tuple[str, ...]:
        """Names of what it would serve, flows first."""
        found = served(plan)
        activities = [getattr(fn, "__temporal_activity_definition").name for fn in found.activities]
        return (*(workflow_definition(cls).name for cls in found.workflows), *activities)

    async def serve(self, plan: WorkerPlan, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Run a worker until `stop` is set, then drain it.

        Raises:
            TemporalNotConnected: the server can't be reached at the start. Later it is waited for.
        """
        options = temporal_options()
        client = await connect(self._settings, options)
        keeping.every_s = max(0.5, self._settings.task_ttl / 2)
        found = served(plan)
        threads = DaemonThreads(plan.concurrency or _THREADS)
        worker = Worker(client, **self._arguments(plan, found, options, threads))
        running = asyncio.ensure_future(worker.run())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            ready()
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                ending = asyncio.ensure_future(worker.shutdown())
                done, _ = await asyncio.wait([ending], timeout=plan.grace_s + _UNWIND_S)
                if not done:
                    ending.cancel()
                    raise WorkAbandonedError(f"an activity did not end within {plan.grace_s:g} s, nor when canceled")
            await running
        finally:
            stopping.cancel()
            threads.shutdown(wait=False)

    def _arguments(self, plan: WorkerPlan, found: Served, options: TemporalOptions, threads: DaemonThreads) -> Keywords:
        async def store() -> TaskStore:
            return await current_store(self._settings)

        limits: Keywords = {}
        if plan.concurrency is not None:
            # A flow that waits takes no slot; workflow tasks need two, one of them for what is cached.
            limits = {
                "max_concurrent_activities": plan.concurrency,
                "max_concurrent_workflow_tasks": max(2, plan.concurrency),
            }
        return {
            "task_queue": plan.queue,
            "workflows": list(found.workflows),
            "activities": [*task_activities(store), *found.activities],
            "activity_executor": threads,
            "workflow_runner": sandbox(options),
            # How soon another worker takes over the flows of one that is gone.
            "sticky_queue_schedule_to_start_timeout": timedelta(seconds=5),
            "graceful_shutdown_timeout": timedelta(seconds=plan.grace_s),
            **limits,
            **options.worker_options,
        }
