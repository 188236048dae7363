"""A worker in the test's own event loop, and looks at what its flows did."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import TypeAlias

from redis.asyncio import Redis
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from r7kit import config
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.engines import close_engines, current_engine
from r7kit.runtimes.temporal.engine import TemporalEngine
from r7kit.stores import close_stores
from r7kit.worker import R7Worker
from redflow.types import JsonData

Entry: TypeAlias = tuple[str, int, list[str], str]
"""Of the stream: event, version, fields, status."""

FLOWS = "tests.r7kit.temporal.flows"


class Stage:
    """A worker of one queue.

    Args:
        queue: its own.
        package: what it serves.
        name: for ids of the test's own; None: the queue.
        served: whether the queue has a worker elsewhere.
        concurrency: of the worker.
    """

    def __init__(
        self,
        queue: str,
        package: str = FLOWS,
        *,
        name: str | None = None,
        served: bool = False,
        concurrency: int | None = None,
    ) -> None:
        self.queue = queue
        self.name = name or queue
        self._served = served
        self._worker = R7Worker(package, queue=queue, concurrency=concurrency)
        self._running: asyncio.Task[None] | None = None
        self.redis: Redis = Redis.from_url(config.current().redis_url, decode_responses=True)

    async def __aenter__(self) -> Stage:
        if not self._served:
            self._running = asyncio.create_task(self._worker.run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.end_worker()
        await self.redis.aclose()
        await close_engines()
        await close_stores()

    async def end_worker(self) -> None:
        """Drain the worker."""
        running, self._running = self._running, None
        if running is not None:
            while not running.done():
                self._worker.stop()
                await asyncio.wait([running], timeout=0.1)
            await running

    async def client(self) -> Client:
        """The Temporal client."""
        engine = await current_engine()
        assert isinstance(engine, TemporalEngine)
        return await engine.client()

    async def start(
        self, flow: type[BaseTaskWorkflow], *args: object, payload: Mapping[str, JsonData] | None = None
    ) -> tuple[WorkflowHandle[JsonData, JsonData], str]:
        """Start a flow on this queue."""
        handle, uuid = await flow.start(*args, payload=payload, queue=self.queue)
        assert isinstance(handle, WorkflowHandle)
        return handle, uuid

    async def run(
        self, flow: type[BaseTaskWorkflow], *args: object, payload: Mapping[str, JsonData] | None = None
    ) -> JsonData:
        """Start a flow on this queue; its result."""
        handle, _ = await self.start(flow, *args, payload=payload)
        return await handle.result()

    async def record(self, uuid: str) -> dict[str, str]:
        """The task's hash."""
        fields = await self.redis.hgetall(f"task:{uuid}")
        return {str(name): str(value) for name, value in fields.items()}

    async def entries(self, uuid: str) -> list[Entry]:
        """What the stream says of a task."""
        rows = await self.redis.xrange(config.current().stream_default)
        changes = [{str(name): str(value) for name, value in (fields or {}).items()} for _, fields in rows or []]
        return [
            (change["event"], int(change["ver"]), json.loads(change["fields"]), change["status"])
            for change in changes
            if change["uuid"] == uuid
        ]

    async def history(self, workflow_id: str) -> list[str]:
        """The kinds of events in a flow's history."""
        client = await self.client()
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]


class _TellingWorker(R7Worker):
    """Tells another thread when it takes work."""

    def __init__(self, package: str, *, queue: str) -> None:
        super().__init__(package, queue=queue)
        self.ready = threading.Event()

    def _ready(self) -> None:
        self.ready.set()


class WorkerThread:
    """A worker for the tests of a whole session, in a thread and event loop of its own.

    Args:
        queue: it serves.
    """

    def __init__(self, queue: str) -> None:
        self._worker = _TellingWorker(FLOWS, queue=queue)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="r7kit-test-worker")

    def start(self) -> None:
        """Start it with the settings that hold now; return when it takes work."""
        self._thread.start()
        assert self._worker.ready.wait(40), "the worker does not start"

    def end(self) -> None:
        """Drain it."""
        while self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._worker.stop)
            self._thread.join(0.1)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._worker.run())
