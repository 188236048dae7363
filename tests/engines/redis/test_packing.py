"""The form of a finished run's record, read back: packing is pure, so any records and any damage will do."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redflow.engines.redis.packing import unpack_record

SHORT = {b"s": b"succeeded", b"w": b"w"}


def cut(text: bytes, size: int = 64) -> dict[bytes, bytes]:
    """A text as fields of a record."""
    return {str(at // size).encode(): text[at : at + size] for at in range(0, len(text), size)}


def text_of(payloads: dict[bytes, bytes]) -> bytes:
    """The text that stands for these payloads."""
    return b"".join(b"%d %d %s%s" % (len(name), len(value), name, value) for name, value in payloads.items())


def test_a_record_that_is_not_packed_is_given_back() -> None:
    record = {**SHORT, b"i": b"1", b"1": b"x"}
    assert unpack_record(record, "r") is record
    assert unpack_record({}, "r") == {}


def test_an_example() -> None:
    stored = {b"s": b"failed", b"0": b"1 7 i[1,2,3]1 2 e{", b"1": b"}"}
    assert unpack_record(stored, "r") == {b"s": b"failed", b"i": b"[1,2,3]", b"e": b"{}"}


def test_more_than_ten_pieces() -> None:
    payloads = {b"i": b"".join(b"%d," % n for n in range(300)), b"o": b"2"}
    stored = cut(text_of(payloads))
    assert len(stored) > 10
    assert unpack_record(dict(sorted(stored.items())), "r") == payloads


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.binary(max_size=90).map(b"s:".__add__), st.binary(max_size=300), min_size=1, max_size=9))
def test_payloads_of_any_bytes_in_fields_of_any_order(payloads: dict[bytes, bytes]) -> None:
    stored = SHORT | cut(text_of(payloads))
    backwards = dict(reversed(stored.items()))
    assert unpack_record(stored, "r") == unpack_record(backwards, "r") == SHORT | payloads


def test_a_value_that_stands_in_the_text_already() -> None:
    stored = {b"0": b"5 14 s:one1 Sr 1 0 5 99 1 2@19 o1 1 e7"}
    with_step = {b"s:one": b"1 Sr 1 0 5 99 ", b"o": b"Sr"}
    assert unpack_record({b"0": b"5 14 s:one1 Sr 1 0 5 99 1 2@13 o1 1 e7"}, "r") == with_step | {b"e": b"7"}
    assert unpack_record(stored, "r")[b"o"] == stored[b"0"][18:20]


@pytest.mark.parametrize(
    "text",
    [
        b"1 9 ishort",
        b"1 x i1",
        b"i",
        b"1 1",
        b"-1 5 i1",
        b"1 -2 i1",
        b"99999999999999999999 1 i",
        b"1 1@0 e",
        b"1 99@1 e",
        b"1 1@x e",
    ],
)
def test_what_is_broken_is_left_out_and_logged(text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "redflow"):
        assert unpack_record(SHORT | cut(b"1 1 o2" + text), "r1") == SHORT | {b"o": b"2"}
    (record,) = caplog.records
    assert record.getMessage().startswith("run r1: its packed record is broken: ")


def test_a_piece_that_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    stored = SHORT | cut(text_of({b"o": b"2", b"i": b"x" * 300}))
    del stored[b"2"]
    assert unpack_record(stored, "r1") == SHORT | {b"o": b"2"}
    assert "broken" in caplog.text
