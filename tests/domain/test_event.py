"""What makes two events the same, the pauses between passes, and how a waiting step is packed."""

from __future__ import annotations

import pytest

from redflow.domain.event import FINAL_DELIVERY_KINDS, EventRef, delivery_backoff_ms, event_ref, fingerprint


def test_the_order_of_keys_does_not_matter() -> None:
    one, other = b'{"a":1,"b":{"c":[1,2],"d":null}}', b'{"b":{"d":null,"c":[1,2]},"a":1}'
    assert fingerprint("e", one, None, None) == fingerprint("e", other, None, None)


def test_what_else_tells_two_events_apart() -> None:
    events = [
        ("e", b"1", None, None),
        ("f", b"1", None, None),
        ("e", b"2", None, None),
        ("e", b"[1,2]", None, None),
        ("e", b"[2,1]", None, None),
        ("e", b"1", "k", None),
        ("e", b"1", None, "k"),
        ("e", b"1", "", None),
    ]
    assert len({fingerprint(*event) for event in events}) == len(events)


def test_pauses_double_up_to_five_minutes() -> None:
    assert [delivery_backoff_ms(n, 0) for n in (0, 1, 2, 3, 4)] == [250, 250, 500, 1000, 2000]
    assert [delivery_backoff_ms(n, 250) for n in (11, 12, 10_000)] == [256_250, 300_250, 300_250]


def test_kinds_that_are_final() -> None:
    assert set(FINAL_DELIVERY_KINDS) == {
        "canceled",
        "non_retriable",
        "serialization",
        "unknown_workflow",
        "validation",
    }


@pytest.mark.parametrize(
    "ref",
    [
        EventRef("-", 5, "e", "k"),
        EventRef("T", 5, "an event: é", "a key: é "),
        EventRef("E", 5, "e", "k", 7, "id with spaces", b'{"a": "b c"}'),
        EventRef("E", 5, "3:e", "4:k", 7, "é", b"@"),
    ],
)
def test_what_is_packed_comes_back(ref: EventRef) -> None:
    assert event_ref(ref.packed()) == ref


def test_what_users_see_of_a_wait() -> None:
    waits = {"kind": "event", "event": "e", "correlation_key": "k"}
    assert EventRef("-", 5, "e", "k").wait_info() == waits
    assert EventRef("T", 5, "e", "k").wait_info() == {**waits, "resolved_by": "timeout"}
    came = EventRef("E", 5, "e", "k", 7, "i", b"1").wait_info()
    assert came == {**waits, "resolved_by": "event", "event_id": "i", "ts": 7}
