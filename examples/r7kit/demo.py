"""The demo: producer and processor on both engines, with the task record and its stream as they change.

    python -m examples.r7kit.demo [--engine redflow|temporal|both]

Run it with `make demo-r7kit`. It starts the bundled Valkey, Temporal's dev server if that engine is asked for, and a
worker process for each queue. Exits with 0 if both engines left the same, 1 if not, 2 if it could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.r7kit.flows import ProducerWorkflow
from examples.r7kit.stage import DemoError, Stage
from r7kit.exceptions import TaskNotFoundError
from r7kit.models import TaskModel
from r7kit.tasks import TaskChange, get_task, watch

ENGINES = ("redflow", "temporal")


def show(change: TaskChange, task: TaskModel | None) -> None:
    """Print an entry of the stream, and the record as it is now."""
    print(f"  stream  {change.event:8} ver {change.ver}  status {change.status:10}  {', '.join(change.fields)}")
    if task is not None:
        gone = f"  deleted_at {task.deleted_at:%H:%M:%S}" if task.deleted_at else ""
        print(f"  record  ver {task.ver}  status {task.status:10}  {json.dumps(task.payload)}{gone}", flush=True)


async def watch_and_show(uuid: str) -> list[tuple[str, str]]:
    """Print a task's changes until it is deleted; returns event and status of each."""
    seen: list[tuple[str, str]] = []
    async for change in watch(uuid):
        try:
            task = await get_task(uuid)
        except TaskNotFoundError:
            task = None
        show(change, task)
        seen.append((change.event, change.status))
    return seen


async def play(number: int) -> tuple[object, list[tuple[str, str]]]:
    """Start the producer, show what happens to its task, and return its result and the changes."""
    handle, uuid = await ProducerWorkflow.start(payload={"mathematic": {"input": number}})
    print(f"  task    {uuid}")
    changes = await watch_and_show(uuid)
    result = await handle.result()
    print(f"  result  {result}\n")
    return result, changes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="demo-r7kit", description="A producer and a processor on both engines.")
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both")
    parser.add_argument("--input", type=int, default=7, help="the number to be processed")
    options = parser.parse_args(arguments)
    engines = ENGINES if options.engine == "both" else (options.engine,)
    ends = []
    with tempfile.TemporaryDirectory(prefix="r7kit-demo-") as directory:
        for engine in engines:
            needs = "Redis alone" if engine == "redflow" else "Temporal's dev server and Redis"
            print(f"engine {engine} ({needs})", flush=True)
            try:
                with Stage(engine, Path(directory)):
                    ends.append(asyncio.run(play(options.input)))
            except DemoError as exc:
                print(f"The demo could not run: {exc}", file=sys.stderr)
                return 2
    same = all(end == ends[0] for end in ends)
    if len(ends) > 1:
        print("Both engines left the same result and the same changes." if same else f"The engines differ: {ends}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
