"""Ids of runs: ordered within a process, distinct, of the layout of UUIDv7."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from redflow._ids import next_run_id
from redflow.domain.run import RunIds

bits = st.one_of(st.integers(0, 2**62 - 1), st.sampled_from([0, 2**61 - 1, 2**61, 2**62 - 1]))
steps = st.lists(st.tuples(st.integers(-50, 3), bits), min_size=2, max_size=50)


@given(steps)
def test_they_grow_whatever_the_clock_does_within_a_second(moves: list[tuple[int, int]]) -> None:
    ids, now, made = RunIds(), 1_700_000_000_000, []
    for move, randomness in moves:
        now = max(now + move, 1_700_000_000_000 - 400)
        made.append(ids.next(now, randomness))
    assert made == sorted(set(made))
    assert all(uuid.UUID(run_id).version == 7 for run_id in made)


def test_a_full_ms_borrows_from_the_next() -> None:
    ids = RunIds()
    first = ids.next(1_000_000, 2**61 - 1)
    ids._last = 2**62 - 1
    assert first < ids.next(1_000_000, 5)
    assert ids._last_ms == 1_000_001


def test_a_clock_that_was_far_ahead_is_followed_back() -> None:
    ids = RunIds()
    ahead = ids.next(9_000_000, 1)
    assert ids.next(1_000_000, 1) < ahead


def test_those_of_this_process_are_ordered() -> None:
    made = [next_run_id(1_700_000_000_000) for _ in range(1000)]
    assert made == sorted(set(made))
