"""schedule_crons, due_crons and fire_cron: what is registered, what is due, and that a tick fires once (spec 13)."""

from __future__ import annotations

import asyncio

import pytest

from redflow import CronTrigger, WorkflowRegistry, define_workflow
from redflow.definitions import AnyWorkflow
from redflow.domain.cron import CronTurn
from redflow.domain.run import cron_run_id
from redflow.engines.redis.crons import FIRE, Crons, DueCron, cron_trigger_id
from redflow.engines.redis.loops.cron import fire_due
from redflow.engines.redis.replies import as_list, as_text
from tests.support.scripts import ERROR, T0, Bench, changes
from tests.support.world import Context

MINUTE = 60_000
START = T0 - T0 % 3_600_000
"""A full hour, where the time of these tests begins."""


async def handler(ctx: Context) -> object:
    return ctx.input


def workflow(*triggers: CronTrigger) -> AnyWorkflow:
    return define_workflow("w", handler=handler, cron=list(triggers), registry=WorkflowRegistry())


def minutely(**options: object) -> CronTrigger:
    return CronTrigger("* * * * *", timezone="UTC", **options)  # type: ignore[arg-type]


class Clockwork:
    """The cron triggers of a bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.crons = Crons(bench.connection, bench.keys, now=START)

    def at(self, now: int) -> None:
        self.bench.now = now
        self.crons.now = now

    async def schedule(self, *triggers: CronTrigger, version: int | None = None) -> list[str]:
        await self.crons.schedule(workflow(*triggers), version)
        return [cron_trigger_id("w", trigger) for trigger in triggers]

    async def cron(self, trigger: str) -> dict[str, str]:
        return (await self.bench.snapshot()).hash(f"cron:{trigger}")

    async def fire(self) -> list[tuple[str, CronTurn]]:
        now, _, due = await self.crons.due(100)
        return [(await self.crons.fire(cron, now))[:2] for cron in due]

    async def codes(self) -> list[str]:
        return [code for code, _ in await self.fire()]

    async def runs(self) -> list[str]:
        return sorted((await self.bench.snapshot()).names("run:"))


@pytest.fixture
async def clockwork(bench: Bench) -> Clockwork:
    works = Clockwork(bench)
    works.at(START)
    await bench.serve()
    return works


# -- schedule_crons ------------------------------------------------------------------------------------------------


async def test_what_is_stored_of_a_trigger(clockwork: Clockwork) -> None:
    named, plain = await clockwork.schedule(
        CronTrigger(" 30 9 * * * ", timezone="Europe/Berlin", input={"a": 1}, id="mine"), minutely()
    )
    day = START - START % 86_400_000
    nine_thirty = min(t for t in (day + d * 86_400_000 + h * 1_800_000 for d in (0, 1) for h in (15, 17)) if t > START)
    stored = await clockwork.cron(named)
    assert int(stored.pop("n")) - nine_thirty in (0, 3_600_000, -3_600_000)
    assert stored == {"w": "w", "e": "30 9 * * *", "z": "Europe/Berlin", "i": '{"a":1}', "id": "=mine"}
    assert await clockwork.cron(plain) == {
        "w": "w", "e": "* * * * *", "z": "UTC", "i": "{}", "id": "", "n": str(START + MINUTE),
    }  # fmt: skip
    assert (await clockwork.bench.snapshot()).hash("meta:w")["crons"] == f"{named} {plain}"


async def test_sent_again_it_changes_nothing_and_later_the_next_time_stays(clockwork: Clockwork) -> None:
    await clockwork.schedule(minutely())
    before = await clockwork.bench.values()
    await clockwork.schedule(minutely())
    assert changes(before, await clockwork.bench.values()) == {}
    clockwork.at(START + 10 * MINUTE)
    await clockwork.schedule(minutely())
    assert changes(before, await clockwork.bench.values()) == {}


async def test_the_next_time_is_kept_as_long_as_expression_and_zone_stay(clockwork: Clockwork) -> None:
    [trigger] = await clockwork.schedule(minutely(id="x"))
    clockwork.at(START + 5 * MINUTE)
    await clockwork.schedule(minutely(id="x", input=[1]))
    assert (await clockwork.cron(trigger))["n"] == str(START + MINUTE)
    assert (await clockwork.cron(trigger))["i"] == "[1]"
    await clockwork.schedule(CronTrigger("*/2 * * * *", timezone="UTC", id="x"))
    assert (await clockwork.cron(trigger))["n"] == str(START + 6 * MINUTE)
    await clockwork.schedule(CronTrigger("*/2 * * * *", timezone="Asia/Tokyo", id="x"))
    assert (await clockwork.cron(trigger))["z"] == "Asia/Tokyo"


async def test_a_removed_trigger_is_gone_at_once(clockwork: Clockwork) -> None:
    first, second = await clockwork.schedule(minutely(), minutely(id="b"))
    await clockwork.schedule(minutely(id="b"))
    assert await clockwork.cron(first) == {}
    assert await clockwork.bench.ids("crons") == [second]
    await clockwork.schedule()
    assert not {"crons", f"cron:{second}"} & (await clockwork.bench.values()).keys()
    assert "crons" not in (await clockwork.bench.snapshot()).hash("meta:w")


async def test_a_removed_workflow_takes_its_triggers_along(clockwork: Clockwork) -> None:
    await clockwork.bench.unregister_worker()
    await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    assert await clockwork.bench.remove_workflows() == ["w"]
    assert await clockwork.bench.ids("crons") == []


async def test_an_older_worker_and_an_unregistered_workflow_change_nothing(clockwork: Clockwork) -> None:
    bench = clockwork.bench
    await bench.register_workflow(version=10)
    await clockwork.schedule(minutely(), version=10)
    before = await bench.values()
    await clockwork.schedule(minutely(id="old"), version=9)
    await clockwork.crons.schedule(
        define_workflow("other", handler=handler, cron=[minutely()], registry=WorkflowRegistry()), None
    )
    assert changes(before, await bench.values()) == {}


async def test_workers_are_told_of_a_new_earliest_time_only(clockwork: Clockwork) -> None:
    async with clockwork.bench.listening("timers") as ear:
        await clockwork.schedule(CronTrigger("@hourly", timezone="UTC"))
        assert await ear.heard() == [("timers", f"cron {START + 60 * MINUTE}")]
        await clockwork.schedule(CronTrigger("@hourly", timezone="UTC"), CronTrigger("@yearly", timezone="UTC"))
        assert await ear.heard() == []
        await clockwork.schedule(CronTrigger("@hourly", timezone="UTC"), minutely())
        assert await ear.heard() == [("timers", f"cron {START + MINUTE}")]


async def test_the_local_zone_is_stored_by_its_name(clockwork: Clockwork) -> None:
    bench = clockwork.bench
    local = Crons(bench.connection, bench.keys, lambda: "Asia/Kolkata", now=START)
    await local.schedule(workflow(CronTrigger("@hourly")), None)
    [trigger] = await bench.ids("crons")
    stored = await clockwork.cron(trigger)
    assert (stored["z"], int(stored["n"]) - START) == ("Asia/Kolkata", 30 * MINUTE)
    with pytest.raises(ValueError, match=r"cron\[0\] names no timezone, and the name of this machine's can't be found"):
        await clockwork.schedule(CronTrigger("@hourly"))


# -- fire_cron -----------------------------------------------------------------------------------------------------


async def test_nothing_is_due_before_its_time(clockwork: Clockwork) -> None:
    await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE - 1)
    assert await clockwork.crons.due(100) == (START + MINUTE - 1, START + MINUTE, [])
    assert await fire_due(clockwork.crons) == (START + MINUTE - 1, START + MINUTE)


async def test_a_tick_starts_a_run_of_the_workflow(clockwork: Clockwork) -> None:
    [trigger] = await clockwork.schedule(minutely(input={"a": [1]}))
    clockwork.at(START + MINUTE + 7)
    assert await clockwork.fire() == [("fired", CronTurn(START + MINUTE, 0, None, START + 2 * MINUTE))]
    run = cron_run_id(trigger, START + MINUTE)
    record = await clockwork.bench.record(run)
    assert record == {
        "w": "w", "q": "app:q", "c": str(START + MINUTE + 7), "m": "3", "i": '{"a":[1]}', "s": "queued",
    }, "no parent, and the time is the server's"  # fmt: skip
    assert not [name for name in await clockwork.bench.values() if name.startswith("idem:")]
    assert await clockwork.bench.ids("ready:app:q") == [run]
    stored = await clockwork.cron(trigger)
    assert (stored["n"], stored["ft"], stored["fr"]) == (str(START + 2 * MINUTE), str(START + MINUTE), run)
    assert await clockwork.codes() == []


async def test_two_workers_that_saw_the_same_tick_fire_it_once(clockwork: Clockwork) -> None:
    await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    now, _, [cron] = await clockwork.crons.due(100)
    replies = await asyncio.gather(*[clockwork.crons.fire(cron, now) for _ in range(8)])
    assert sorted(code for code, _, _ in replies) == ["fired"] + ["taken"] * 7
    assert len(await clockwork.runs()) == 1


async def test_one_that_was_sent_again_changes_nothing(clockwork: Clockwork) -> None:
    await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    now, _, [cron] = await clockwork.crons.due(100)
    await clockwork.crons.fire(cron, now)
    before = await clockwork.bench.values()
    clockwork.at(START + 5 * MINUTE)
    assert (await clockwork.crons.fire(cron, now))[0] == "taken"
    assert changes(before, await clockwork.bench.values()) == {}


async def test_a_trigger_that_was_removed_meanwhile_does_not_fire(clockwork: Clockwork) -> None:
    await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    now, _, [cron] = await clockwork.crons.due(100)
    await clockwork.schedule()
    assert (await clockwork.crons.fire(cron, now))[0] == "taken"
    assert await clockwork.runs() == []


async def test_a_worker_that_slept_between_looking_and_firing_looks_again(clockwork: Clockwork) -> None:
    await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    now, _, [cron] = await clockwork.crons.due(100)
    before = await clockwork.bench.values()
    clockwork.at(START + 2 * MINUTE + 1)
    code, _, following = await clockwork.crons.fire(cron, now)
    assert (code, following) == ("late", START + MINUTE)
    assert changes(before, await clockwork.bench.values()) == {}


async def test_with_an_unfinished_run_of_the_trigger_a_tick_is_skipped_and_that_is_recorded(
    clockwork: Clockwork,
) -> None:
    [trigger, other] = await clockwork.schedule(minutely(), minutely(id="other"))
    bench = clockwork.bench
    clockwork.at(START + MINUTE)
    assert await clockwork.codes() == ["fired", "fired"], "another trigger's run doesn't count"
    clockwork.at(START + 2 * MINUTE)
    await bench.settle(await bench.claimed(cron_run_id(other, START + MINUTE)))
    assert sorted(await clockwork.codes()) == ["fired", "skipped"]
    stored = await clockwork.cron(trigger)
    assert (stored["sc"], stored["st"], stored["ft"]) == ("1", str(START + 2 * MINUTE), str(START + MINUTE))
    assert stored["n"] == str(START + 3 * MINUTE)


@pytest.mark.parametrize("status", ["queued", "scheduled", "running"])
async def test_a_run_is_unfinished_wherever_it_is(clockwork: Clockwork, status: str) -> None:
    await clockwork.schedule(minutely())
    bench = clockwork.bench
    clockwork.at(START + MINUTE)
    assert await clockwork.codes() == ["fired"]
    if status != "queued":
        [run] = (await bench.claim()).runs
        if status == "scheduled":
            await bench.settle(run.lease, "retry", ERROR, due=START + 60 * MINUTE)
    clockwork.at(START + 2 * MINUTE)
    assert await clockwork.codes() == ["skipped"]


@pytest.mark.parametrize("status", ["queued", "scheduled", "running"])
async def test_the_limit_of_the_workflow_counts_all_its_unfinished_runs(clockwork: Clockwork, status: str) -> None:
    bench = clockwork.bench
    await bench.register_workflow(max_concurrency=2)
    await clockwork.schedule(minutely())
    unfinished = await bench.create(run_at_ms=START + 3_600_000 if status == "scheduled" else None)
    if status == "running":
        await bench.claim()
    clockwork.at(START + MINUTE)
    assert await clockwork.codes() == ["fired"]
    clockwork.at(START + 2 * MINUTE)
    assert await clockwork.codes() == ["skipped"]
    await bench.scripts.cancel(unfinished, "")
    if status == "running":
        return
    clockwork.at(START + 3 * MINUTE)
    assert await clockwork.codes() == ["fired"]


@pytest.mark.parametrize(
    ("late_ms", "code", "fires", "missed"),
    [
        (0, "fired", 1, 0),
        (MINUTE - 1, "fired", 1, 0),
        (MINUTE, "fired", 2, 1),
        (30 * MINUTE + 999, "fired", 31, 30),
        (180 * MINUTE, "fired", 181, 180),
    ],
)
async def test_after_downtime_the_newest_tick_fires_alone(
    clockwork: Clockwork, late_ms: int, code: str, fires: int, missed: int
) -> None:
    [trigger] = await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE + late_ms)
    [(answer, turn)] = await clockwork.fire()
    assert (answer, turn.fires) == (code, START + fires * MINUTE)
    assert len(await clockwork.runs()) == 1
    stored = await clockwork.cron(trigger)
    assert int(stored.get("mc", "0")) == missed
    assert stored.get("mt") == (str(START + (fires - 1) * MINUTE) if missed else None)
    assert await clockwork.codes() == []


async def test_a_tick_that_is_too_old_is_missed_and_not_fired(clockwork: Clockwork) -> None:
    [trigger] = await clockwork.schedule(CronTrigger("@hourly", timezone="UTC"))
    clockwork.at(START + 61 * MINUTE + 1)
    assert await clockwork.codes() == ["missed"]
    stored = await clockwork.cron(trigger)
    assert (stored["mc"], stored["mt"], stored["n"]) == ("1", str(START + 60 * MINUTE), str(START + 120 * MINUTE))
    assert await clockwork.runs() == []
    clockwork.at(START + 181 * MINUTE)
    assert await clockwork.codes() == ["fired"]
    assert (await clockwork.cron(trigger))["mc"] == "2"


async def test_a_workflow_without_metadata_starts_nothing(clockwork: Clockwork) -> None:
    bench = clockwork.bench
    [trigger] = await clockwork.schedule(minutely())
    await bench.read("HDEL", "@meta:w", "queue")
    clockwork.at(START + MINUTE)
    assert await clockwork.codes() == ["unknown_workflow"]
    assert await clockwork.runs() == []
    await bench.register_workflow()
    assert (await clockwork.cron(trigger))["n"] == str(START + 2 * MINUTE)


async def test_an_entry_without_a_trigger_is_forgotten(clockwork: Clockwork) -> None:
    await clockwork.bench.read("ZADD", "@crons", 1, "f" * 32)
    assert (await clockwork.crons.due(100))[2] == []
    assert await clockwork.bench.ids("crons") == []


async def test_a_zone_that_this_worker_does_not_know_stops_nobody_else(
    clockwork: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    [broken, fine] = await clockwork.schedule(minutely(id="broken"), minutely())
    await clockwork.bench.read("HSET", f"@cron:{broken}", "z", "Mars/X")
    clockwork.at(START + MINUTE)
    now, following = await fire_due(clockwork.crons)
    assert following is not None
    assert following > now, "no loop that turns in place"
    assert len(await clockwork.runs()) == 1
    assert "can't be fired by this worker" in caplog.text
    assert (await clockwork.cron(fine))["n"] == str(START + 2 * MINUTE)


async def test_a_trigger_that_never_fires_again_is_done(clockwork: Clockwork) -> None:
    [trigger] = await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    args = (clockwork.bench.now, trigger, START + MINUTE, "", START + MINUTE, cron_run_id(trigger, 1), 60_000, 0, "")
    code, following = as_list(await clockwork.bench.connection.call(FIRE, clockwork.bench.keys.base, args))
    assert (as_text(code), following) == ("fired", b"")
    assert await clockwork.bench.ids("crons") == []


async def test_another_tick_never_takes_the_place_of_the_one_that_is_due(clockwork: Clockwork) -> None:
    [trigger] = await clockwork.schedule(minutely())
    clockwork.at(START + MINUTE)
    stale = DueCron(trigger, START, "* * * * *", "UTC")
    assert (await clockwork.crons.fire(stale, clockwork.bench.now))[0] == "taken"
