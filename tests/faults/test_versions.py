"""Two versions at the same time, or one after the other: of an application's workflows, and of the library itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from redflow import WorkflowRegistry, workflow
from redflow.engines.redis.loops.registrar import REGISTER_WORKER
from redflow.types import JsonData
from tests.chaos.sources import Patch, make_sources
from tests.faults.conftest import StartProcess
from tests.faults.test_kills import BODIES
from tests.support.worker_process import Effects, start_processes
from tests.support.world import Context, World, eventually

pytestmark = pytest.mark.any_server
FULL: Final = bool(os.environ.get("REDFLOW_TEST_FULL"))


async def deploy(world: World, registry: WorkflowRegistry) -> None:
    """Replace the workers by one that knows the workflows of a registry."""
    await world.stop_workers()
    await world.worker(replace(world.options(), registry=registry))


async def gate(ctx: Context) -> None:
    """Where a run waits until the next version is there."""
    await ctx.step.wait_for_event("gate", "deployed", "all", "1h")


async def test_steps_that_are_renamed_removed_and_moved_are_reused_by_name(world: World) -> None:
    before, after = WorkflowRegistry(), WorkflowRegistry()

    def noted(version: str, name: str) -> str:
        world.did.append(f"{version} {name}")
        return f"{version} {name}"

    @workflow("w", registry=before)
    async def one(ctx: Context) -> JsonData:
        for name in ("first", "second", "old name", "removed"):
            await ctx.step.run(name, noted, "v1", name)
        return await gate(ctx)

    @workflow("w", registry=after)
    async def two(ctx: Context) -> JsonData:
        names = ("inserted", "second", "first", "new name")
        done: list[JsonData] = [await ctx.step.run(name, noted, "v2", name) for name in names]
        await gate(ctx)
        return [*done, await ctx.step.run("last", noted, "v2", "last")]

    await deploy(world, before)
    handle = await world.start()
    await world.reaches(handle, "scheduled")
    await deploy(world, after)
    await world.client.emit_event("deployed", None, correlation_key="all")
    assert await handle.result() == ["v2 inserted", "v1 second", "v1 first", "v2 new name", "v2 last"]
    made = ["v1 first", "v1 second", "v1 old name", "v1 removed", "v2 inserted", "v2 new name", "v2 last"]
    assert world.did == made
    steps = await world.client.get_run_steps(handle.id)
    assert [step["seq"] for step in steps] == list(range(1, 9)), "each keeps its place; new ones come behind"
    assert {step["name"]: step["status"] for step in steps}["removed"] == "succeeded"


@pytest.mark.parametrize("now", ["a function", "step.wait_for", "step.wait_for_event", "step.run_workflow"])
async def test_a_step_that_has_become_something_else_fails_clearly_and_is_tried_again(world: World, now: str) -> None:
    """Until a version comes that goes on with what was recorded; nothing that was done is done again."""
    kinds = {"a function": "sleep", "step.wait_for": "run", "step.wait_for_event": "run", "step.run_workflow": "run"}
    before, after, mended = WorkflowRegistry(), WorkflowRegistry(), WorkflowRegistry()

    def seven() -> int:
        world.did.append("step")
        return 7

    async def old(ctx: Context) -> JsonData:
        if kinds[now] == "sleep":
            await ctx.step.wait_for("step", 1)
            return None
        return await ctx.step.run("step", seven)

    @workflow("w", registry=before, max_attempts=2)
    async def one(ctx: Context) -> JsonData:
        await old(ctx)
        return await gate(ctx)

    @workflow("w", registry=after, max_attempts=2)
    async def two(ctx: Context) -> JsonData:
        if now == "a function":
            return await ctx.step.run("step", lambda: 8)
        if now == "step.wait_for":
            await ctx.step.wait_for("step", "1h")
        elif now == "step.wait_for_event":
            await ctx.step.wait_for_event("step", "other", "k", "1h")
        else:
            await ctx.step.run_workflow("step", "w", None)
        return None

    @workflow("w", registry=mended, max_attempts=2)
    async def three(ctx: Context) -> JsonData:
        known = await old(ctx)
        await gate(ctx)
        return known

    await deploy(world, before)
    handle = await world.start()
    await world.reaches(handle, "scheduled")
    await deploy(world, after)
    await world.client.emit_event("deployed", None, correlation_key="all")

    async def told() -> str:
        state = await handle.get_state()
        assert state is not None
        assert state["status"] != "failed"
        return str(state.get("error"))

    text = await eventually(told, "the error", until=lambda text: "step_type" in text)
    assert f"'step' was {'step.wait_for' if now == 'a function' else 'a function or an emit'}" in text
    assert f"is {now}" in text
    await deploy(world, mended)
    assert await handle.result() == (None if kinds[now] == "sleep" else 7)
    assert world.did == ([] if kinds[now] == "sleep" else ["step"])


def former_version(directory: Path) -> Mapping[str, str]:
    """The environment of a process that runs a copy whose every script differs, as those of a former version do."""
    package = Path(__file__).parents[2] / "src" / "redflow"
    patches = [Patch("__init__.py", '__version__ = version("redflow")', '__version__ = "0.0.1"')]
    for path in sorted((package / "engines/redis/lua").glob("*.lua")):
        head = path.read_text("utf-8").partition("\n")[0] + "\n"
        patches.append(Patch(path.relative_to(package).as_posix(), head, head + "-- purpose of old\n"))
    sources = make_sources(directory, tuple(patches), audited=False)
    assert "register_worker" in sources.verbs.values()
    assert REGISTER_WORKER.sha not in sources.verbs
    return sources.environment()


@pytest.mark.timeout(900 if FULL else 60)
async def test_two_versions_of_the_library_work_side_by_side(
    world: World, process: StartProcess, effects: Effects, tmp_path: Path
) -> None:
    """One prefix, one server, scripts of both; a worker of each dies, and the other version goes on with its runs."""
    former = former_version(tmp_path)
    workers = [process(environment=former if n % 2 else None) for n in range(4)]
    await start_processes(workers)
    handles = []
    for at in range((FULL and 10_000) or 80):
        handles.append(await world.start(name=("steps", "flaky")[at % 2]))
        if at in (30, 60):
            workers[at // 30 - 1].kill()
    for handle in handles:
        await handle.result(timeout_ms=600_000)
    pids = {effect.pid for effect in effects.all()}
    assert {worker.pid for worker in workers} <= pids, "each had a part in it"
    calls = [(e.run_id, e.what) for e in effects.all() if not e.what.startswith("attempt")]
    assert len(calls) - len(set(calls)) <= 2 * 10 * 2, "two bodies at most in each slot of those that were killed"
    assert {name for _, name in calls} == set(BODIES)
    assert (await world.client.get_stats())["by_status"]["succeeded"] == len(handles)
