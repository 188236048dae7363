"""Cron expressions and time zones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from redflow.domain.cron import (
    CRON_ALIASES,
    MISSED_LIMIT,
    CronTurn,
    cron_turn,
    find_zone,
    local_zone_name,
    next_fire_ms,
    validate_cron,
)


def ms(*moment: int, zone: str = "UTC") -> int:
    year, month, day, *time = moment
    hour, minute, second = (*time, 0, 0, 0)[:3]
    return int(datetime(year, month, day, hour, minute, second, tzinfo=ZoneInfo(zone)).timestamp()) * 1000


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/1 * * * * *",
        " 0 9 * * mon-fri ",
        "0\t0 L * *",
        "0 0 * * 5L",
        "0 0 29 2 1#5",
        "0 0 29 2 *",
        *CRON_ALIASES,
        "@Daily",
    ],
)
def test_good_expressions(expression: str) -> None:
    validate_cron(expression)
    validate_cron(expression, "Europe/Berlin")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "must have 5 fields, or 6 with seconds, got 0: ''"),
        ("* * * *", "must have 5 fields, or 6 with seconds, got 4"),
        ("* * * * * * *", "must have 5 fields, or 6 with seconds, got 7"),
        ("*/0 * * * *", "is not a cron expression (Bad minute): '*/0 * * * *'"),
        ("60 * * * *", "(Bad minute)"),
        ("0 0 30 2 *", "(Bad day-of-month)"),
        ("0 0 * * 8", "(Bad day-of-week)"),
        ("٣ * * * *", "(Bad minute)"),
        ("@reboot", "must be one of @hourly, @daily, @weekly, @monthly, @yearly, or 5 or 6 fields"),
        ("1," * 600 + "1 * * * *", "is too long: at most 1000 characters, got 1209"),
        (None, "must be a string, got NoneType"),
        (b"* * * * *", "must be a string, got bytes"),
    ],
)
def test_bad_expressions_say_what_is_wrong(expression: object, reason: str) -> None:
    with pytest.raises(ValueError, match=r"cron\[1\]\.expression") as caught:
        validate_cron(expression, what="cron[1]")
    assert reason in str(caught.value)


def test_an_expression_must_fire_some_day() -> None:
    # Every field is fine, but the fifth Monday is never the first of February.
    with pytest.raises(ValueError, match=r"^cron\.expression never fires: '0 0 \*/31 2 1#5'$"):
        validate_cron("0 0 */31 2 1#5")


@pytest.mark.parametrize(
    "zone",
    [
        "Mars/X",
        "../../etc/passwd",
        "/etc/localtime",
        "",
        " ",
        ".",
        "America",
        "a\0b",
        "tzdata.zi",
        "zone.tab",
        "x" * 5000,
        "CET-1CEST",
        "\ud800",
        5,
    ],
)
def test_bad_time_zones_name_the_field(zone: object) -> None:
    with pytest.raises(ValueError, match=r"^cron\.timezone "):
        validate_cron("* * * * *", zone)


def test_zones_are_found() -> None:
    assert find_zone("Europe/Berlin").key == "Europe/Berlin"


@given(st.text("0123456789*/,-#LW @monMON\t٣", max_size=40) | st.text(max_size=40))
def test_no_expression_does_worse_than_a_value_error(expression: str) -> None:
    try:
        validate_cron(expression)
    except ValueError:
        return
    assert next_fire_ms(expression, "UTC", after_ms=0) is not None


@pytest.mark.parametrize(
    ("expression", "zone", "after", "fires"),
    [
        ("* * * * *", "UTC", ms(2026, 3, 1, 10, 0, 0), ms(2026, 3, 1, 10, 1)),
        ("* * * * *", "UTC", ms(2026, 3, 1, 10, 0, 59) + 999, ms(2026, 3, 1, 10, 1)),
        ("*/1 * * * * *", "UTC", ms(2026, 3, 1, 10, 0, 0) + 1, ms(2026, 3, 1, 10, 0, 1)),
        ("*/1 * * * * *", "UTC", ms(2026, 3, 1, 10, 0, 0), ms(2026, 3, 1, 10, 0, 1)),
        ("@hourly", "UTC", ms(2026, 3, 1, 10, 0, 1), ms(2026, 3, 1, 11)),
        ("@daily", "Europe/Berlin", ms(2026, 7, 1, 10), ms(2026, 7, 1, 22)),
        ("@weekly", "UTC", ms(2026, 3, 2), ms(2026, 3, 8)),
        ("@monthly", "UTC", ms(2026, 3, 2), ms(2026, 4, 1)),
        ("@yearly", "UTC", ms(2026, 3, 2), ms(2027, 1, 1)),
        ("0 9 * * *", "Asia/Kolkata", ms(2026, 3, 1), ms(2026, 3, 1, 3, 30)),
        ("0 0 29 2 1#5", "UTC", ms(2026, 1, 1), ms(2028, 2, 29)),
    ],
)
def test_next_fire(expression: str, zone: str, after: int, fires: int) -> None:
    assert next_fire_ms(expression, zone, after_ms=after) == fires


def test_a_daily_job_runs_once_on_days_when_clocks_change() -> None:
    # In Berlin 02:30 does not exist on 29 March 2026, and exists twice on 25 October 2026.
    for day, around in (((2026, 3, 28, 12), 24), ((2026, 10, 24, 12), 24)):
        after, ticks = ms(*day), []
        end = after + (around + 24) * 3_600_000
        while (tick := next_fire_ms("30 2 * * *", "Europe/Berlin", after_ms=after)) is not None and tick < end:
            ticks.append(tick)
            after = tick
        assert len(ticks) == 2


def test_a_daily_job_does_not_fire_again_in_the_hour_that_is_repeated() -> None:
    # 02:10 for the second time: 02:50 of this day was 20 minutes ago.
    now = ms(2026, 10, 25, 1, 10)
    assert next_fire_ms("50 2 * * *", "Europe/Berlin", after_ms=now) == ms(2026, 10, 26, 1, 50)


@given(st.integers(0, 4_000_000_000_000))
def test_ticks_are_later_than_now(after_ms: int) -> None:
    tick = next_fire_ms("*/15 * * * *", "America/New_York", after_ms=after_ms)
    assert tick is not None
    assert after_ms < tick <= after_ms + 900_000
    assert datetime.fromtimestamp(tick / 1000, UTC).minute % 15 == 0


@pytest.mark.parametrize(
    ("tz", "localtime", "etc", "name"),
    [
        (None, "/usr/share/zoneinfo/Europe/Oslo", None, "Europe/Oslo"),
        (None, "/usr/share/zoneinfo/posix/Europe/Oslo", "Asia/Tokyo", "Europe/Oslo"),
        (None, "/var/db/timezone/zoneinfo/America/New_York", None, "America/New_York"),
        (None, "/etc/localtime", "Asia/Tokyo\n", "Asia/Tokyo"),
        (None, None, None, None),
        ("", None, "UTC", "UTC"),
        ("Asia/Tokyo", "/usr/share/zoneinfo/Europe/Oslo", None, "Asia/Tokyo"),
        (":Asia/Tokyo", None, None, "Asia/Tokyo"),
        (":/usr/share/zoneinfo/Asia/Tokyo", None, None, "Asia/Tokyo"),
        ("CET-1CEST", "/usr/share/zoneinfo/Europe/Oslo", None, None),
        ("../../etc/passwd", None, None, None),
    ],
)
def test_local_zone(tz: str | None, localtime: str | None, etc: str | None, name: str | None) -> None:
    assert local_zone_name(tz=tz, localtime_path=localtime, etc_timezone=etc) == name


# -- clocks that change --------------------------------------------------------------------------------------------

ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Pacific/Chatham",
    "Asia/Kolkata",
]
DAY = 86_400_000


def clock_changes(zone: ZoneInfo) -> list[int]:
    """The hours of 2025 to 2030 at which the zone's offset changes; one plain day where it never does."""
    hours = range(ms(2025, 1, 1), ms(2031, 1, 1), 3_600_000)
    offsets = [datetime.fromtimestamp(hour / 1000, zone).utcoffset() for hour in hours]
    changes = [hours[i] for i in range(1, len(hours)) if offsets[i] != offsets[i - 1]]
    return changes or [ms(2025, 3, 1)]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "30 1 * * *", "*/30 * * * *", "0 * * * *", "0 0 * * *"])
def test_ticks_around_clock_changes_are_those_of_cronsim_over_restarts(zone: str, expression: str) -> None:
    """A fresh start at each tick, as the worker does it, gives the list that cronsim gives in one go."""
    for change in clock_changes(ZoneInfo(zone)):
        start, end = change - 2 * DAY, change + 2 * DAY
        at_once: list[int] = []
        for tick in CronSim(expression, datetime.fromtimestamp(start // 1000, ZoneInfo(zone))):
            if tick.timestamp() * 1000 > end:
                break
            at_once.append(int(tick.timestamp()) * 1000)
        restarted: list[int] = []
        after = start
        while (next_tick := next_fire_ms(expression, zone, after_ms=after)) is not None and next_tick <= end:
            restarted.append(next_tick)
            after = next_tick
        assert restarted == at_once


def test_the_documented_examples_of_new_york() -> None:
    zone = "America/New_York"
    gap, overlap = ms(2026, 3, 8, zone=zone), ms(2026, 11, 1, zone=zone)
    assert next_fire_ms("30 2 * * *", zone, after_ms=gap) == ms(2026, 3, 8, 3, zone=zone)
    once = ms(2026, 11, 1, 1, 30, zone=zone)
    assert next_fire_ms("30 1 * * *", zone, after_ms=overlap) == once
    assert next_fire_ms("30 1 * * *", zone, after_ms=once) == ms(2026, 11, 2, 1, 30, zone=zone)
    # Asked within the second 01:xx, it is not told the tick of the first one again.
    assert next_fire_ms("30 1 * * *", zone, after_ms=once + 40 * 60_000) == ms(2026, 11, 2, 1, 30, zone=zone)


# -- turns ---------------------------------------------------------------------------------------------------------


def test_a_turn_before_its_time_does_nothing() -> None:
    assert cron_turn("* * * * *", "UTC", due_ms=60_000, now_ms=59_999) == CronTurn(None, 0, None, 60_000)


@pytest.mark.parametrize(
    ("expression", "now", "turn"),
    [
        ("* * * * *", 60_000, CronTurn(60_000, 0, None, 120_000)),
        ("* * * * *", 119_999, CronTurn(60_000, 0, None, 120_000)),
        ("* * * * *", 120_000, CronTurn(120_000, 1, 60_000, 180_000)),
        ("*/10 * * * *", 120_000, CronTurn(60_000, 0, None, 600_000)),
        ("*/10 * * * *", 120_001, CronTurn(None, 1, 60_000, 600_000)),
        ("* * * * * *", 63_500, CronTurn(63_000, 3, 62_000, 64_000)),
        ("* * * * * *", 60_000 + 7_200_000, CronTurn(7_260_000, MISSED_LIMIT, 7_259_000, 7_261_000)),
    ],
)
def test_turns(expression: str, now: int, turn: CronTurn) -> None:
    assert cron_turn(expression, "UTC", due_ms=60_000, now_ms=now) == turn


def test_an_outage_of_years_is_leapt_over() -> None:
    now = ms(2036, 5, 1, 12, 0, 30)
    began = time.monotonic()
    turn = cron_turn("* * * * * *", "Europe/Berlin", due_ms=ms(2026, 5, 1), now_ms=now)
    assert (turn.fires, turn.missed, turn.next) == (now, MISSED_LIMIT, now + 1000)
    assert time.monotonic() - began < 5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40_000_000), st.sampled_from(["* * * * *", "*/7 * * * *", "15 * * * *", "*/20 * * * * *"]))
def test_at_most_one_tick_fires_and_none_is_forgotten(late: int, expression: str) -> None:
    due = next_fire_ms(expression, "UTC", after_ms=ms(2026, 1, 1))
    assert due is not None
    turn = cron_turn(expression, "UTC", due_ms=due, now_ms=due + late)
    ticks, tick = [], due
    while tick <= due + late:
        ticks.append(tick)
        following = next_fire_ms(expression, "UTC", after_ms=tick)
        assert following is not None
        tick = following
    assert turn.next == tick
    assert turn.fires == (ticks[-1] if due + late - ticks[-1] <= 60_000 else None)
    assert turn.missed == min(MISSED_LIMIT, len(ticks) - (turn.fires is not None))
