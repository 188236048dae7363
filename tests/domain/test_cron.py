"""Cron expressions and time zones."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.domain.cron import CRON_ALIASES, find_zone, local_zone_name, next_fire_ms, validate_cron


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
