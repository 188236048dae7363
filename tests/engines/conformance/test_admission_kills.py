"""Admission and debounce while workers are killed: as they hold a mutex, and in the middle of a burst."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from redflow import define_workflow
from redflow.types import WorkflowDebounceOptions, WorkflowRateLimitOptions
from tests.support.world import Context, World, eventually, soon

LEASE_MS = 600
PROGRAM = """
import asyncio, os, sys
from redflow import StartWorkerOptions, define_workflow, start_worker
from redflow.types import WorkflowDebounceOptions, WorkflowRateLimitOptions

async def hold(ctx):
    with open(sys.argv[3], "a") as ledger:
        ledger.write(f"{ctx.run.id} {os.getpid()}\\n")
    await asyncio.sleep(3600)

define_workflow("w", handler=hold, mutex=lambda _: "k", max_attempts=1)
define_workflow("t", handler=hold, throttle=WorkflowRateLimitOptions(lambda _: "k", 1, 60_000))
define_workflow("d", handler=hold, debounce=WorkflowDebounceOptions(lambda data: data["k"], 2500))

async def main():
    await start_worker(StartWorkerOptions(app="app", url=sys.argv[1], prefix=sys.argv[2], lease_ms=600, concurrency=10))
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""

Starter = Callable[[], Awaitable[asyncio.subprocess.Process]]


@asynccontextmanager
async def processes(world: World, ledger: Path) -> AsyncIterator[Starter]:
    """Start worker processes, which hold what they claim for ever; killed at the end."""
    started: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", PROGRAM, world.url, world.prefix, str(ledger)], stdout=asyncio.subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


def kill(process: asyncio.subprocess.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where the processes note what they execute."""
    path = tmp_path / "ledger"
    path.touch()
    return path


async def test_a_killed_holders_mutex_stays_its_runs_and_then_goes_to_the_next(world: World, ledger: Path) -> None:
    inside: list[str] = []
    entered: list[int] = []
    worst = 0

    async def handler(ctx: Context) -> object:
        nonlocal worst
        assert isinstance(ctx.input, int)
        inside.append(ctx.run.id)
        worst = max(worst, len(inside))
        entered.append(ctx.input)
        await asyncio.sleep(0.01)
        inside.remove(ctx.run.id)
        return ctx.input

    async with processes(world, ledger) as start:
        process = await start()
        handles = [await world.client.emit_workflow("w", 0)]
        await soon(lambda: bool(ledger.read_text()), "the holder")
        define_workflow("w", handler=handler, mutex=lambda _: "k", registry=world.registry, max_attempts=1)
        await world.worker(replace(world.options(), lease_ms=LEASE_MS))
        handles += [await world.start(n) for n in range(1, 20)]

        await eventually(lambda: world.mutex_line("k"), "19 runs in line", until=(19).__eq__)
        assert entered == []
        kill(process)
        assert [await handle.result() for handle in handles] == [*range(20)]
    assert sorted(entered) == [*range(20)]
    assert worst == 1
    states = [state for handle in handles if (state := await handle.get_state())]
    assert [state["attempt"] for state in states] == [1] * 20
    created = [states[n]["created_at"] for n in entered]
    assert created == sorted(created)


async def test_a_run_that_paid_and_was_killed_does_not_pay_again(world: World, ledger: Path) -> None:
    async def handler(ctx: Context) -> object:
        return ctx.input

    async with processes(world, ledger) as start:
        process = await start()
        handle = await world.client.emit_workflow("t", 7)
        await soon(lambda: bool(ledger.read_text()), "its start")
        throttle = WorkflowRateLimitOptions(lambda _: "k", 1, 60_000)
        define_workflow("t", handler=handler, throttle=throttle, registry=world.registry)
        await world.worker(replace(world.options(), lease_ms=LEASE_MS))
        kill(process)
        assert await handle.result() == 7


async def test_a_burst_by_name_is_one_run_while_its_workers_are_killed(world: World, ledger: Path) -> None:
    async def handler(ctx: Context) -> object:
        world.did.append(str(ctx.input))
        return ctx.input

    async with processes(world, ledger) as start:
        doomed = [await start(), await start()]
        options = WorkflowDebounceOptions(lambda data: str(data["k"]), 2500)
        define_workflow("d", handler=handler, debounce=options, registry=world.registry)
        handles = []
        for n in range(12):
            handles.append(await world.client.emit_workflow("d", {"k": "a", "n": n}))
            if n in (4, 8):
                kill(doomed.pop())
        await world.worker(replace(world.options(), lease_ms=LEASE_MS))
        assert [await handle.result() for handle in handles] == [{"k": "a", "n": 11}] * 12
    assert world.did == ["{'k': 'a', 'n': 11}"]
    await soon(lambda: not ledger.read_text(), "nothing that a process has executed")
