"""One engine with a worker in the test's event loop, and what can be seen of a flow from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, FailureError

from r7kit import config
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.engines import close_engines
from r7kit.exceptions import TaskNotFoundError
from r7kit.stores import close_stores
from r7kit.tasks import get_task
from r7kit.worker import R7Worker
from redflow.errors import RedflowError
from redflow.types import JsonData

ENGINES = ("redflow", "temporal")
FLOWS = "tests.r7kit.scenarios.flows"


@dataclass(frozen=True)
class Seen:
    """What a flow left behind, without ids and times.

    Attributes:
        outcome: its result, or the name and text of the error it failed with.
        record: status, payload, attributes, version and whether it exists; None if it is not there.
        stream: event, version, status and fields of each entry.
    """

    outcome: object
    record: Mapping[str, JsonData] | None
    stream: list[tuple[str, int, str, list[str]]]


class World:
    """A worker of one queue on one engine. The settings must say which."""

    def __init__(self, queue: str, package: str = FLOWS) -> None:
        self.queue = queue
        self.redis: Redis = Redis.from_url(config.current().redis_url, decode_responses=True)
        self._worker = R7Worker(package, queue=queue)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> World:
        self._running = asyncio.create_task(self._worker.run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        running = self._running
        if running is not None:
            while not running.done():  # stop() says nothing to a worker that is still starting
                self._worker.stop()
                await asyncio.wait([running], timeout=0.05)
            await running
        await self.redis.aclose()
        await close_engines()
        await close_stores()

    async def play(
        self, flow: type[BaseTaskWorkflow], *args: object, payload: dict[str, JsonData] | None = None
    ) -> Seen:
        """Run a flow to its end and look at what it left."""
        handle, uuid = await flow.start(*args, payload=payload, queue=self.queue)
        try:
            outcome: object = await handle.result()
        except (RedflowError, WorkflowFailureError) as error:
            outcome = innermost(error)
        return await self.see(uuid, outcome)

    async def see(self, uuid: str, outcome: object = None) -> Seen:
        """What there is of a task."""
        return Seen(outcome, await self.record(uuid), await self.stream(uuid))

    async def record(self, uuid: str) -> Mapping[str, JsonData] | None:
        """The task, without ids and times."""
        try:
            task = await get_task(uuid)
        except TaskNotFoundError:
            return None
        assert task.uuid == uuid
        assert task.created_at <= task.updated_at
        return {
            "status": task.status,
            "payload": task.payload,
            "attributes": task.attributes,
            "ver": task.ver,
            "exists": task.exists,
        }

    async def stream(self, uuid: str) -> list[tuple[str, int, str, list[str]]]:
        """The stream's entries of a task; each version once, in order."""
        entries: list[tuple[str, int, str, list[str]]] = []
        for _, entry in await self.redis.xrange(config.current().stream_default) or ():
            told = {str(name): str(value) for name, value in (entry or {}).items()}
            if told["uuid"] == uuid:
                entries.append((told["event"], int(told["ver"]), told["status"], sorted(json.loads(told["fields"]))))
        assert [ver for _, ver, _, _ in entries] == list(range(1, len(entries) + 1))
        return entries


def innermost(error: BaseException) -> tuple[str, str]:
    """Name and text of the error that a flow, or its child, or the child's child, failed with."""
    if isinstance(error, RedflowError):
        assert error.error is not None
        name, text = error.error["name"], error.error["message"]
        while name == "RedflowError" and "Run failed: {" in text:
            inner = json.loads("{" + text.partition("Run failed: {")[2])
            name, text = inner["name"], inner["message"]
        return name, text
    cause: BaseException = error
    while isinstance(cause.__cause__, FailureError):
        cause = cause.__cause__
    assert isinstance(cause, ApplicationError)
    return cause.type or "", cause.message
