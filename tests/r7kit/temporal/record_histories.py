"""Records the histories that `test_histories` replays: one directory a version of the package.

usage: python -m tests.r7kit.temporal.record_histories DIRECTORY

Histories of released versions are kept for good: a flow that runs during an upgrade goes on with the new code.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from temporalio.client import WorkflowFailureError, WorkflowHandle

from r7kit import config
from r7kit.base_task_workflow import BaseTaskWorkflow
from redflow.types import JsonData
from tests.r7kit.temporal import flows
from tests.r7kit.temporal.stage import Stage
from tests.support.servers import ServerProcess, selected_kind
from tests.support.temporal import TemporalProcess

Handle = WorkflowHandle[JsonData, JsonData]


@dataclass(frozen=True)
class Take:
    """A flow to record."""

    flow: type[BaseTaskWorkflow]
    args: tuple[object, ...] = ()
    payload: Mapping[str, JsonData] | None = None
    talk: Callable[[Handle], Awaitable[None]] | None = None
    retry: Mapping[str, object] | None = None
    options: Mapping[str, JsonData] = field(default_factory=dict)


async def _talk(handle: Handle) -> None:
    await handle.signal("say", "one")
    await handle.execute_update("ask", "why")
    await handle.signal("say", "end")


async def _go(handle: Handle) -> None:
    await handle.signal("go")


def takes() -> list[Take]:
    """What is recorded."""
    when = datetime(2026, 3, 1, 12, tzinfo=UTC)
    order = flows.Order(sku="a", at=when, color=flows.Color.RED, points=[flows.Point(1, 2.5)])
    values: list[JsonData] = [1, "1", 1.5, None, True, [], {}, {"deep": [{"er": 2**63}]}, "x" * 40_000]
    return [
        *(Take(flows.MyFlow, payload={"input": number}) for number in (1, 42, -3)),
        *(Take(flows.Echo, (value,), {"given": value}) for value in values),
        *(Take(flows.Failing, (size,)) for size in (0, 5, 100_000)),
        *(Take(flows.Gathers, (count,)) for count in (1, 2, 5, 20)),
        *(Take(flows.Sleeps, (seconds,)) for seconds in (0.0, 0.01, 0.1)),
        *(Take(flows.Waits, (patches,), talk=_go) for patches in (0, 1, 3)),
        *(Take(flows.Child, (key, fail)) for key in ("k", "é") for fail in (True, False)),
        *(Take(flows.Counter, payload={"count": count}) for count in (1, 2)),
        *(Take(flows.States, payload={"gone": 1, "nested": {"deep": deep}, "kept": 1}) for deep in (1, 2)),
        *(Take(flows.Params, payload={"a": {"b": b}, "items": [1, 2], "dotted.key": 3}) for b in (7, None)),
        *(Take(flows.Talks, talk=_talk) for _ in range(3)),
        *(Take(flows.Acts) for _ in range(2)),
        *(Take(flows.Misses) for _ in range(2)),
        *(Take(flows.Parent) for _ in range(4)),
        *(Take(flows.FailsOnce, retry={"initial_interval": 0.1, "maximum_attempts": 2}) for _ in range(2)),
        *(Take(flows.Typed, (order, flows.Point(3, 4.0), when, flows.Color.BLUE)) for _ in range(2)),
        Take(flows.Child, options={"uuid": "a-uuid-of-its-own", "workflow_id": "an-id-of-its-own"}),
        Take(flows.MyFlow, payload={"input": 1, "large": "y" * 20_000}),
    ]


async def record(directory: Path) -> None:
    """Run everything and write the histories."""
    async with Stage("histories") as stage:
        for number, take in enumerate(takes()):
            handle, _ = await take.flow.start(
                *take.args, payload=take.payload, queue=stage.queue, retry=take.retry, **take.options
            )
            assert isinstance(handle, WorkflowHandle)
            if take.talk is not None:
                await take.talk(handle)
            try:
                await handle.result()
            except WorkflowFailureError:
                assert take.flow in (flows.Failing, flows.Child)
            history = json.loads((await handle.fetch_history()).to_json())
            path = directory / f"{number:02}-{take.flow.__name__}.json"
            text = json.dumps({"id": handle.id, **history}, separators=(",", ":"), sort_keys=True)
            path.write_text(text + "\n", "utf-8")


def main() -> None:
    """Start the servers and record."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    with ServerProcess(selected_kind()) as server, TemporalProcess() as temporal:
        config.configure(redis_url=server.url, temporal_address=temporal.address)
        asyncio.run(record(directory))


if __name__ == "__main__":
    main()
