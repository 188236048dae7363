"""Names, queues and prefixes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.domain.names import check_key, check_name, check_prefix, near_names, scope_queue
from redflow.errors import LimitExceededError


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a:b",
        "{x}",
        "a*b?[c]",
        "straße",
        "日本",
        "👩‍👩‍👧",
        " padded ",
        "x" * 255,
        "ä" * 127,
        "e\u0301",
        "مرحبا",
    ],
)
def test_good_names_stay_as_they_are(name: str) -> None:
    assert check_name(name, what="name") == name


@pytest.mark.parametrize("name", ["", " ", "\u00a0", "\u3000  "])
def test_blank_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"^event name must not be blank"):
        check_name(name, what="event name")


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x7f", "a\x85", "a\u2028", "abc\u202egpj", "\u2066x", "\t"])
def test_control_characters(name: str) -> None:
    with pytest.raises(ValueError, match="name must not contain control characters, got '"):
        check_name(name, what="name")


def test_every_control_character_is_refused() -> None:
    refused = {*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    for number in range(0x3000):
        try:
            check_name(f"a{chr(number)}b", what="name")
        except ValueError:
            assert number in refused
        else:
            assert number not in refused


@pytest.mark.parametrize("name", ["x" * 256, "ä" * 128, "x" * 10_000_000, "\0" * 300])
def test_long_names_are_over_the_limit(name: str) -> None:
    with pytest.raises(LimitExceededError, match="name is too long: at most 255 bytes") as caught:
        check_name(name, what="name")
    assert len(str(caught.value)) < 200


def test_lone_surrogates() -> None:
    with pytest.raises(ValueError, match=r"name must be valid Unicode.*\\ud800"):
        check_name("a\ud800", what="name")


@pytest.mark.parametrize("name", [None, 1, b"x", ["x"]])
def test_names_are_texts(name: object) -> None:
    with pytest.raises(ValueError, match="name must be a string, got "):
        check_name(name, what="name")


@given(st.text(st.characters()))
def test_whatever_passes_fits_and_whatever_does_not_is_a_value_error(name: str) -> None:
    try:
        assert len(check_name(name, what="name").encode()) <= 255
    except ValueError as exc:
        str(exc).encode()


def test_keys_are_stripped() -> None:
    assert check_key("  a b ", what="key") == "a b"


@pytest.mark.parametrize("prefix", ["", "redflow:v1", "a:", "a.b-c_d/e", "日本", "x" * 255])
def test_good_prefixes(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["a{b", "a}", "a*", "a?", "[a", "a]", "a\\b", "a\nb", "x" * 256, "\ud800", None])
def test_bad_prefixes(prefix: object) -> None:
    with pytest.raises(ValueError, match="prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize(
    ("queue", "app", "scoped"),
    [
        ("mail", "shop", "shop:mail"),
        ("", "shop", "shop:default"),
        ("  ", "shop", "shop:default"),
        (None, "shop", "shop:default"),
        (None, None, "default"),
        ("mail", None, "mail"),
        ("mail", "", "mail"),
        ("mail", "unknown", "mail"),
        ("shop:mail", "shop", "shop:mail"),
        ("shop", "shop", "shop:shop"),
        ("other:mail", "shop", "shop:other:mail"),
    ],
)
def test_queues_are_scoped_by_their_app(queue: str | None, app: str | None, scoped: str) -> None:
    assert scope_queue(queue, app) == scoped


@given(st.text(), st.text())
def test_scoping_twice_changes_nothing(queue: str, app: str) -> None:
    once = scope_queue(queue, app)
    assert scope_queue(once, app) == once


def test_near_names() -> None:
    known = ["send-invoice", "send-invoices", "ship-order", "cancel-order"]
    assert near_names("send-invioce", known) == ["send-invoice", "send-invoices"]
    assert near_names("zzz", known) == []
    assert near_names("x", []) == []


def test_near_names_are_found_quickly_among_many() -> None:
    started = time.perf_counter()
    near_names("workflow-number-x", (f"workflow-number-{i}" for i in range(100_000)))
    assert time.perf_counter() - started < 5  # without the bound on what is compared: half a minute
