"""set_schedule_pause and fire_schedule: a trigger that rests, and one that fires out of turn."""

from __future__ import annotations

from redflow import CronTrigger, WorkflowRegistry, define_workflow
from redflow.engines.redis.crons import FIRE, Crons, cron_trigger_id
from redflow.engines.redis.operations_schedules import FIRE_SCHEDULE, SET_SCHEDULE_PAUSE
from redflow.engines.redis.replies import as_list, as_text
from tests.support.scripts import T0, Bench, changes, run_id
from tests.support.world import Context

TRIGGER = CronTrigger("* * * * *", timezone="UTC", input={"n": 1})
NAME = cron_trigger_id("w", TRIGGER)
MINUTE = 60_000
NEXT = T0 - T0 % MINUTE + MINUTE


async def schedule(bench: Bench, trigger: CronTrigger = TRIGGER) -> None:
    async def handler(ctx: Context) -> object:
        return ctx.input

    crons = Crons(bench.connection, bench.keys, now=bench.now)
    await crons.schedule(define_workflow("w", handler=handler, cron=[trigger], registry=WorkflowRegistry()), None)


async def pause(bench: Bench, trigger: str = NAME) -> str:
    return as_text(await bench.call(SET_SCHEDULE_PAUSE, trigger, "why", "1", "", "", ""))


async def resume(bench: Bench, at: int, *, expression: str = "* * * * *", zone: str = "UTC") -> str:
    return as_text(await bench.call(SET_SCHEDULE_PAUSE, NAME, "", "", expression, zone, at))


async def test_a_paused_trigger_leaves_the_line_and_keeps_its_pause_when_it_is_registered_again(bench: Bench) -> None:
    await bench.register_workflow()
    await schedule(bench)
    assert await bench.ids("crons") == [NAME]
    before = await bench.values()
    assert await pause(bench) == "changed"
    assert changes(before, await bench.values()).keys() == {"crons", f"cron:{NAME}"}
    assert await pause(bench) == "same"
    await schedule(bench)
    assert await bench.ids("crons") == []


async def test_a_tick_that_was_looked_up_before_the_pause_does_not_fire(bench: Bench) -> None:
    await bench.register_workflow()
    await schedule(bench)
    await pause(bench)
    bench.now = NEXT
    code, _ = as_list(await bench.call(FIRE, NAME, NEXT, NEXT + MINUTE, NEXT, run_id(1), MINUTE, 0, ""))
    assert code == b"taken"
    assert await bench.record(run_id(1)) == {}


async def test_it_goes_on_at_the_time_that_was_computed_and_workers_hear_of_it(bench: Bench) -> None:
    await bench.register_workflow()
    await schedule(bench)
    await pause(bench)
    async with bench.listening("timers") as ear:
        assert await resume(bench, NEXT + 5 * MINUTE) == "changed"
        assert await ear.heard() == [("timers", f"cron {NEXT + 5 * MINUTE}")]
    assert await bench.read("ZSCORE", "@crons", NAME) == str(NEXT + 5 * MINUTE).encode()
    assert await resume(bench, NEXT) == "same"


async def test_what_was_computed_from_another_expression_is_not_taken(bench: Bench) -> None:
    await bench.register_workflow()
    await schedule(bench)
    await pause(bench)
    before = await bench.values()
    assert await resume(bench, NEXT, expression="0 * * * *") == "other"
    assert await resume(bench, NEXT, zone="Europe/Berlin") == "other"
    assert await bench.values() == before
    assert await pause(bench, "0" * 32) == "unknown"


async def test_fire_schedule_starts_one_run_and_leaves_the_trigger(bench: Bench) -> None:
    await bench.register_workflow()
    await schedule(bench)
    before = await bench.values()
    for _ in range(2):
        assert await bench.call(FIRE_SCHEDULE, NAME, run_id(1), '{"n":1}') == b"created"
    record = await bench.record(run_id(1))
    assert (record["i"], record["w"], record["s"]) == ('{"n":1}', "w", "queued")
    assert f"cron:{NAME}" not in changes(before, await bench.values())
    assert await bench.call(FIRE_SCHEDULE, "0" * 32, run_id(2), "{}") == b"unknown"
