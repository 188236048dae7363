"""Durations and delay targets."""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.domain.duration import MAX_DELAY_MS, parse_duration, resolve_delay_ms
from redflow.errors import LimitExceededError

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0s", 0),
        ("500ms", 500),
        ("2s", 2_000),
        ("1.5h", 5_400_000),
        ("7d", 604_800_000),
        ("  3M\n", 180_000),
        ("0.29s", 290),
        ("1.9999ms", 1),
        ("00010ms", 10),
    ],
)
def test_durations_are_whole_milliseconds_rounded_down(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "s",
        "1h30m",
        "1 s",
        "-1s",
        "+1s",
        ".5s",
        "5.s",
        "1e3s",
        "1_000s",
        "1w",
        "٣s",
        "1s\0",
        "ſ",
        "1ſ",
    ],
)
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(sorted(UNITS)))
def test_durations_are_exact(whole: int, fraction: int, unit: str) -> None:
    text = f"{whole}.{fraction}"
    assert parse_duration(text + unit) == math.floor(Fraction(text) * UNITS[unit])


@given(st.text())
def test_no_text_does_worse_than_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize("text", ["9" * 100_000 + "d", "1." + "9" * 100_000 + "s", " " * 100_000 + "x"])
def test_long_texts_are_refused_without_ado(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("target", "ms"),
    [
        (0, 0),
        (1500, 1500),
        (1500.9, 1500),
        ("1.5s", 1500),
        (datetime.fromtimestamp(NOW_MS / 1000 + 60, UTC), 60_000),
        (datetime.fromtimestamp(NOW_MS / 1000 - 60, UTC), 0),
        (MAX_DELAY_MS, MAX_DELAY_MS),
    ],
)
def test_delay_targets(target: object, ms: int) -> None:
    assert resolve_delay_ms(target, now_ms=NOW_MS, label="delay") == ms


def test_a_naive_datetime_is_local_time() -> None:
    naive = datetime.fromtimestamp(NOW_MS / 1000) + timedelta(seconds=5)  # noqa: DTZ006 - what is tested
    assert resolve_delay_ms(naive, now_ms=NOW_MS, label="delay") == 5_000


@pytest.mark.parametrize(
    "target",
    [
        True,
        False,
        -1,
        -0.5,
        float("nan"),
        float("inf"),
        float("-inf"),
        "x",
        "",
        None,
        [],
        b"1s",
        pytest.param(-(10**5000), id="huge"),
    ],
)
def test_bad_targets_name_the_field(target: object) -> None:
    with pytest.raises(ValueError, match=r"^Invalid pause: ") as caught:
        resolve_delay_ms(target, now_ms=NOW_MS, label="pause")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "target",
    [MAX_DELAY_MS + 1, "3651d", datetime.max.replace(tzinfo=UTC), pytest.param(10**5000, id="huge"), 1e300],
)
def test_delays_beyond_ten_years_are_over_the_limit(target: object) -> None:
    with pytest.raises(LimitExceededError, match=r"^pause is too long: at most 315360000000 ms") as caught:
        resolve_delay_ms(target, now_ms=NOW_MS, label="pause")
    assert len(str(caught.value)) < 500
    assert caught.value.kind == "limit_exceeded"


def test_the_first_and_the_last_day_are_no_way_out() -> None:
    far_east, far_west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    for zone in (UTC, far_east, far_west):
        assert resolve_delay_ms(datetime.min.replace(tzinfo=zone), now_ms=NOW_MS, label="pause") == 0
        with pytest.raises(LimitExceededError, match="pause"):
            resolve_delay_ms(datetime.max.replace(tzinfo=zone), now_ms=NOW_MS, label="pause")


@given(st.integers(0, MAX_DELAY_MS))
def test_milliseconds_stay_what_they_are(ms: int) -> None:
    assert resolve_delay_ms(ms, now_ms=NOW_MS, label="delay") == ms
