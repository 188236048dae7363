"""Cron triggers with real workers: fired once a tick, in time, and shown in the metadata (spec 7 and 13)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from redflow import (
    CronTrigger,
    DefineWorkflowOptions,
    WorkflowDefinition,
    WorkflowMeta,
    WorkflowRegistry,
    define_workflow,
)
from redflow.types import JsonData, ListRunsParams, WorkflowCronMeta
from tests.support.world import Context, World, eventually

EACH_SECOND = CronTrigger("*/1 * * * * *", timezone="UTC")


def define(world: World, *triggers: CronTrigger, **options: int | str) -> None:
    async def handler(ctx: Context) -> object:
        world.did.append(ctx.run.id)
        return ctx.input

    define_workflow("w", handler=handler, cron=list(triggers), registry=world.registry, **options)  # type: ignore[call-overload]


async def crons_of(world: World) -> list[WorkflowCronMeta]:
    meta = await world.client.get_workflow_meta("w")
    return [] if meta is None else meta.get("cron", [])


async def runs_of(world: World) -> list[Mapping[str, JsonData]]:
    runs = await world.client.list_runs(ListRunsParams(limit=200, sort="asc"))
    return [dict(state) for run in runs if (state := await world.client.get_run(run["id"])) is not None]


async def server_ms(world: World) -> int:
    seconds, micros = await world.redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def test_many_workers_fire_each_tick_once_and_in_time(world: World) -> None:
    define(world, EACH_SECOND)
    for _ in range(8):
        await world.worker()
    await eventually(lambda: runs_of(world), "four ticks", until=lambda runs: len(runs) >= 4)
    runs = await runs_of(world)
    await world.stop_workers()
    # A run's id begins with the time of its tick.
    ticks = [int(str(run["id"]).removeprefix("run_").replace("-", "")[:12], 16) for run in runs]
    assert ticks == [ticks[0] + 1000 * i for i in range(len(ticks))], "one run a tick, none left out"
    assert all(tick % 1000 == 0 for tick in ticks)
    assert [run["created_at"] >= tick for run, tick in zip(runs, ticks, strict=True)] == [True] * len(ticks)
    assert max(Counter(world.did).values()) == 1


async def test_what_a_run_of_a_tick_looks_like(world: World) -> None:
    define(world, EACH_SECOND, CronTrigger("* * * * * *", timezone="UTC", input=["x", 1]), queue="nightly")
    worker = await world.worker()
    await eventually(lambda: runs_of(world), "two runs", until=lambda runs: len(runs) >= 2)
    await worker.stop()
    runs = (await runs_of(world))[:2]
    assert sorted([run["input"] for run in runs], key=str) == [["x", 1], {}], "None gives {}"
    for run in runs:
        assert (run["workflow"], run["queue"], run["max_attempts"]) == ("w", "app:nightly", 3)
        assert "parent_run_id" not in run
    assert not [key async for key in world.redis.scan_iter(match=f"{world.keys.base}idem:*")]


async def test_the_metadata_shows_triggers_and_next_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Oslo")
    define(world, CronTrigger("@yearly", timezone="UTC", input={"a": 1}, id="mine"), CronTrigger("0 9 * * *"))
    await world.client.sync_registry(world.registry, app="app")
    now = await server_ms(world)
    first, second = await crons_of(world)
    assert now < first.pop("next_run_at") <= now + 366 * 86_400_000
    assert first == {"expression": "@yearly", "timezone": "UTC", "input": {"a": 1}, "id": "mine"}
    assert now < second.pop("next_run_at") <= now + 86_400_000
    assert second == {"expression": "0 9 * * *", "timezone": "Europe/Oslo"}, "the local zone, by its name"
    everything: list[WorkflowMeta] = await world.client.list_workflows_meta()
    assert [[cron["expression"] for cron in meta["cron"]] for meta in everything] == [["@yearly", "0 9 * * *"]]


async def test_a_workflow_without_triggers_has_no_list(world: World) -> None:
    define(world)
    await world.client.sync_registry(world.registry, app="app")
    meta = await world.client.get_workflow_meta("w")
    assert meta is not None
    assert "cron" not in meta


async def test_a_trigger_that_is_removed_fires_no_more(world: World) -> None:
    define(world, EACH_SECOND)
    await world.worker()
    await eventually(lambda: runs_of(world), "a tick", until=lambda runs: len(runs) >= 1)
    world.registry.clear()
    define(world)
    await world.client.sync_registry(world.registry, app="app")
    fired = len(await runs_of(world))
    await asyncio.sleep(1.3)  # more than a tick
    assert len(await runs_of(world)) == fired
    assert await crons_of(world) == []


async def test_a_worker_that_sleeps_hears_of_a_new_trigger(world: World) -> None:
    await world.worker()
    other = WorkflowRegistry()
    define_workflow("late", handler=lambda ctx: 1, cron=EACH_SECOND, registry=other)
    await asyncio.sleep(0.3)  # the worker has looked and found nothing; its next look is half a minute away
    await world.client.sync_registry(other, app="other")
    await eventually(lambda: runs_of(world), "a run of it", until=lambda runs: len(runs) >= 1, timeout_s=4)


async def test_a_skip_is_recorded(world: World) -> None:
    release = asyncio.Event()

    async def handler(ctx: Context) -> None:
        await release.wait()

    define_workflow("w", handler=handler, cron=EACH_SECOND, max_concurrency=1, registry=world.registry)
    await world.worker()
    [cron] = await eventually(lambda: crons_of(world), "two skips", until=lambda crons: crons[0].get("skipped", 0) >= 2)
    assert len(await runs_of(world)) == 1
    assert cron["last_skipped_at"] > cron["last_run_at"]
    assert cron["last_run_id"] == (await runs_of(world))[0]["id"]
    release.set()


async def test_downtime_brings_no_burst(world: World) -> None:
    define(world, EACH_SECOND)
    await world.client.sync_registry(world.registry, app="app")
    [trigger] = [name.decode() async for name in world.redis.scan_iter(match=f"{world.keys.base}cron:*")]
    long_ago = await server_ms(world) // 1000 * 1000 - 3 * 3_600_000
    await world.redis.hset(trigger, "n", str(long_ago))
    await world.redis.zadd(f"{world.keys.base}crons", {trigger.rpartition(":")[2]: long_ago})
    worker = await world.worker()
    await eventually(lambda: runs_of(world), "a tick", until=lambda runs: len(runs) >= 2)
    await worker.stop()
    [cron] = await crons_of(world)
    assert cron["missed"] == 1_000
    runs = await runs_of(world)
    assert int(str(runs[-1]["created_at"])) - int(str(runs[0]["created_at"])) >= 900 * (len(runs) - 1) - 900


async def test_resets(world: World) -> None:
    define(world, CronTrigger("@yearly", timezone="UTC"))
    await world.worker(replace(world.options(), registry_recovery_interval_ms=250))
    before = await crons_of(world)
    assert len(before) == 1
    await world.client.reset_runs()
    assert await crons_of(world) == before, "reset_runs keeps the triggers and their next times"
    await world.client.reset_state()
    await eventually(lambda: crons_of(world), "the trigger again", until=before.__eq__)


async def test_a_lost_trigger_is_registered_again(world: World) -> None:
    define(world, CronTrigger("@yearly", timezone="UTC"))
    await world.worker(replace(world.options(), registry_recovery_interval_ms=250))
    [key] = [name async for name in world.redis.scan_iter(match=f"{world.keys.base}cron:*")]
    await world.redis.delete(key)
    await eventually(lambda: world.redis.exists(key), "the trigger again")


@pytest.mark.parametrize(
    ("triggers", "message"),
    [
        ([CronTrigger("@daily", id="x"), CronTrigger("@hourly", id="x")], "Duplicate cron trigger id 'x'"),
        ([CronTrigger("@daily"), CronTrigger("@daily")], "Duplicate cron trigger definition"),
        ([CronTrigger("@daily", timezone="Mars/X")], r"cron\[0\].timezone is not an IANA time zone"),
    ],
)
async def test_definitions_made_by_hand_are_judged_at_the_sync(
    world: World, triggers: list[CronTrigger], message: str
) -> None:
    async def handler(ctx: Context) -> None: ...

    world.registry.register(WorkflowDefinition(DefineWorkflowOptions(name="w", cron=triggers), handler))
    with pytest.raises(ValueError, match=message):
        await world.client.sync_registry(world.registry, app="app")
    assert await world.client.list_workflows() == []


async def test_a_machine_that_does_not_tell_its_zone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST")
    define(world, CronTrigger("@daily"))
    with pytest.raises(ValueError, match=r"'w': cron\[0\] names no timezone"):
        await world.worker()
    assert await world.client.list_workflows() == []
