"""Starts runs, waits until they ended, and reads every one of them back: a run counts only if it was right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.bench import Bench
from benchmarks.counting import Counts, counts
from benchmarks.harness import BenchmarkError
from benchmarks.workflows import STEPS_IN_TEN
from redflow import RedflowClient, RunState, StepState
from tests.support.invariants import violations

Mode = Literal["live", "draining"]
Check = Callable[[int, RunState, Sequence[StepState]], str]
"""Given the number a run was started with, its state and steps: what is wrong with it, or nothing."""

_LOOK_EVERY_S: Final = 0.05
_NO_PROGRESS_S: Final = 30.0
_READ_AT_A_TIME: Final = 200


@dataclass(frozen=True, slots=True)
class Load:
    """What a batch of runs cost.

    Attributes:
        seconds: live: from the first creation to the last end; draining: from the first start to the last end. By
            the records, so by the server's clock.
        cpu_s: CPU time of the worker process; draining, its registration included.
        counts: scripts and round trips, those of the client that started the runs included when live.
    """

    seconds: float
    cpu_s: float
    counts: Counts


async def run_load(bench: Bench, mode: Mode, workflow: str, check: Check) -> Load:
    """Run `n` runs of a workflow by one worker process, and read all of them back.

    Raises:
        BenchmarkError: a run was lost, or its output or a step's record was wrong, or a key was left behind.
    """
    settings, n = bench.settings, bench.settings.n
    async with bench.world() as client, bench.worker(client, settings.concurrency) as worker:
        ids: list[str] = []
        if mode == "draining":
            ids = await emit(client, workflow, n, settings.concurrency)
        else:
            await worker.start()
        cpu_before, before = await worker.cpu_s(), await counts(bench.redis)
        if mode == "draining":
            await worker.start()
        else:
            ids = await emit(client, workflow, n, settings.concurrency)
        looks = await all_ended(client, n)
        spent, cpu_after = (await counts(bench.redis)).since(before), await worker.cpu_s()
        await worker.stop()
        states = await read_back(client, ids, check)
        await nothing_left(client)
    first = min(state["created_at" if mode == "live" else "started_at"] for state in states)
    seconds = (max(state["finished_at"] for state in states) - first) / 1000
    again = sum(state["attempt"] > 1 for state in states)
    if again:
        bench.figures.note(f"{again} of {n} runs took more than one attempt")
    return Load(seconds, cpu_after - cpu_before, Counts(spent.scripts, spent.reads - 2 * looks))


async def emit(client: RedflowClient, workflow: str, n: int, at_a_time: int, padding: str = "") -> list[str]:
    """Start `n` runs with the numbers 0 to n - 1, single emits, so many of them at a time; their ids in that order."""
    ids = [""] * n
    numbers = iter(range(n))
    pad = {"pad": padding} if padding else {}

    async def emitter() -> None:
        for number in numbers:
            ids[number] = (await client.emit_workflow(workflow, {"n": number, **pad})).id

    await asyncio.gather(*[emitter() for _ in range(min(at_a_time, n))])
    if len(set(ids)) != n:
        raise BenchmarkError(f"{n} emits gave {len(set(ids))} run ids")
    return ids


async def all_ended(client: RedflowClient, n: int) -> int:
    """Wait until `n` runs have ended; how often that took a look (of two round trips each)."""
    looks, ended, progress_at = 0, 0, time.monotonic()
    while True:
        by_status = (await client.get_stats())["by_status"]
        looks += 1
        now_ended = by_status["succeeded"] + by_status["failed"] + by_status["canceled"]
        if now_ended >= n:
            return looks
        if now_ended > ended:
            ended, progress_at = now_ended, time.monotonic()
        elif time.monotonic() - progress_at > _NO_PROGRESS_S:
            raise BenchmarkError(f"no run ended for {_NO_PROGRESS_S:g} s; {n} were started, now: {by_status}")
        await asyncio.sleep(_LOOK_EVERY_S)


async def read_back(client: RedflowClient, ids: Sequence[str], check: Check) -> list[RunState]:
    """Read every run with its steps.

    Raises:
        BenchmarkError: one is missing or wrong.
    """

    async def one(number: int) -> RunState:
        state, steps = await asyncio.gather(client.get_run(ids[number]), client.get_run_steps(ids[number]))
        if state is None:
            raise BenchmarkError(f"run {number} ({ids[number]}) is lost")
        wrong = check(number, state, steps)
        if wrong:
            raise BenchmarkError(f"run {number} ({ids[number]}): {wrong}")
        return state

    states: list[RunState] = []
    for start in range(0, len(ids), _READ_AT_A_TIME):
        chunk = range(start, min(start + _READ_AT_A_TIME, len(ids)))
        states += await asyncio.gather(*[one(number) for number in chunk])
    return states


def check_one_step(number: int, state: RunState, steps: Sequence[StepState]) -> str:
    """A run of `one-step` succeeded with the right output, and its step is on record with it."""
    wanted = state["input"] | {"n": 2 * number} if isinstance(state["input"], dict) else None
    if state["status"] != "succeeded" or state.get("output") != wanted:
        return f"ended as {state['status']} with {state.get('output')!r} in place of {wanted!r}"
    found = [(step["name"], step["status"], step.get("output")) for step in steps]
    return "" if found == [("double", "succeeded", wanted)] else f"its steps are {found!r}"


def check_ten_steps(number: int, state: RunState, steps: Sequence[StepState]) -> str:
    """A run of `ten-steps` succeeded with the right output, and all ten steps are on record in order."""
    if state["status"] != "succeeded" or state.get("output") != number + STEPS_IN_TEN:
        return f"ended as {state['status']} with {state.get('output')!r}"
    found = [(step["name"], step["status"], step.get("output")) for step in steps]
    wanted = [(f"add-{index}", "succeeded", number + index + 1) for index in range(STEPS_IN_TEN)]
    return "" if found == wanted else f"its steps are {found!r}"


async def nothing_left(client: RedflowClient) -> None:
    """Let the retention of every run end; then no run may be there, and no key that the data model does not allow.

    Raises:
        BenchmarkError: something is left behind.
    """
    end_of_time = int(time.time() * 1000) + 2 * client.run_history_retention_ms
    while await client.cleanup_expired_runs_now(reference_time_ms=end_of_time, limit=200):
        pass
    if left := (await client.get_stats())["total"]:
        raise BenchmarkError(f"{left} runs are left behind when all retention is over")
    if broken := await violations(client.connection, client.prefix):
        raise BenchmarkError(f"the keys left behind are wrong: {'; '.join(broken[:5])}")
