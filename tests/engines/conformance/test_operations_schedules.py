"""Schedules: next times, pause and resume over deploys, fire now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from redflow import CronTrigger, define_workflow
from redflow.errors import NotFoundError
from redflow.types import ScheduleInfo
from tests.support.world import Context, World, eventually

EACH_SECOND = "*/1 * * * * *"


def define(world: World, name: str, *crons: CronTrigger) -> None:
    async def handler(ctx: Context) -> object:
        world.did.append(f"{name} {ctx.input}")
        return ctx.input

    define_workflow(name, handler=handler, registry=world.registry, cron=list(crons))


async def only(world: World) -> ScheduleInfo:
    page = await world.client.schedules.list()
    assert len(page["schedules"]) == 1
    return page["schedules"][0]


async def test_schedules_are_listed_with_their_next_times(world: World) -> None:
    define(world, "a", CronTrigger("0 3 * * *", timezone="Europe/Berlin", id="nightly", input={"full": True}))
    define(world, "b", CronTrigger("@hourly", timezone="UTC"), CronTrigger("*/5 * * * *", timezone="UTC"))
    define(world, "c")
    await world.client.sync_registry(world.registry, app="app")
    page = await world.client.schedules.list(limit=2, upcoming=4)
    rest = await world.client.schedules.list(cursor=page["next_cursor"], limit=2)
    found = page["schedules"] + rest["schedules"]
    assert [info["workflow"] for info in found] == ["a", "b", "b"]
    assert "next_cursor" not in rest
    nightly = found[0]
    assert (nightly["trigger_id"], nightly["input"], nightly["timezone"]) == (
        "nightly",
        {"full": True},
        "Europe/Berlin",
    )
    assert len(nightly["upcoming"]) == 4
    meta = await world.client.get_workflow_meta("a")
    assert meta is not None
    assert meta["cron"][0]["next_run_at"] == nightly["upcoming"][0]
    hourly = next(info for info in found if info["expression"] == "@hourly")
    times = (await world.client.schedules.get(hourly["id"], upcoming=3))["upcoming"]
    assert [b - a for a, b in pairwise(times)] == [3_600_000] * 2
    assert [info["id"] for info in (await world.client.schedules.list(workflow="a"))["schedules"]] == [nightly["id"]]
    assert (await world.client.schedules.list(cursor="gone"))["schedules"] == []


async def test_a_paused_schedule_fires_nothing_until_it_is_resumed(world: World) -> None:
    define(world, "a", CronTrigger(EACH_SECOND, timezone="UTC", input=1))
    define(world, "b", CronTrigger(EACH_SECOND, timezone="UTC", input=2))
    await world.client.sync_registry(world.registry, app="app")
    paused = next(info for info in (await world.client.schedules.list())["schedules"] if info["workflow"] == "a")
    assert await world.client.schedules.pause(paused["id"], reason="holidays")
    assert not await world.client.schedules.pause(paused["id"])
    await world.worker()  # registers both again: the pause stays
    await eventually(look(world, "b 2"), "the other one fires twice", until=lambda count: count >= 2)
    assert "a 1" not in world.did
    told = await world.client.schedules.get(paused["id"])
    assert (told["paused"]["reason"], told["upcoming"]) == ("holidays", [])
    meta = await world.client.get_workflow_meta("a")
    assert meta is not None
    assert "next_run_at" not in meta["cron"][0]
    assert await world.client.schedules.resume(paused["id"])
    assert not await world.client.schedules.resume(paused["id"])
    await eventually(look(world, "a 1"), "it fires again")
    told = await world.client.schedules.get(paused["id"])
    assert told["missed"] == 0
    assert "paused" not in told


def look(world: World, what: str) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return world.did.count(what)

    return count


async def test_fire_now_starts_a_run_also_of_a_paused_one_and_leaves_the_next_time(world: World) -> None:
    define(world, "a", CronTrigger("0 3 * * *", timezone="UTC", input={"n": 1}))
    await world.worker()
    info = await only(world)
    await world.client.schedules.pause(info["id"])
    first = await world.client.schedules.fire(info["id"])
    assert await first.result() == {"n": 1}
    await world.client.schedules.resume(info["id"])
    second = await world.client.schedules.fire(info["id"])
    assert await second.result() == {"n": 1}
    assert first.id != second.id
    after = await only(world)
    assert after["upcoming"] == info["upcoming"]
    assert "last_run_id" not in after


async def test_unknown_schedules_and_bad_values(world: World) -> None:
    schedules = world.client.schedules
    for unknown in ("0" * 32, "x", "", "*"):
        for call in (schedules.get, schedules.pause, schedules.resume, schedules.fire):
            with pytest.raises(NotFoundError, match="there is no schedule"):
                await call(unknown)
    for upcoming in (-1, 101, True):
        with pytest.raises(ValueError, match="upcoming"):
            await schedules.list(upcoming=upcoming)
