"""What is retried, how often, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow import errors
from redflow.domain.retry import MAX_JITTER_MS, backoff_ms, is_retryable_error, resolve_max_attempts


class OwnFinalError(errors.NonRetriableError):
    pass


@pytest.mark.parametrize(
    "error",
    [
        errors.InputValidationError(),
        errors.UnknownWorkflowError("x"),
        errors.OutputSerializationError(),
        errors.CanceledError(),
        errors.NonRetriableError("no"),
        errors.RateLimitExceededError("slow", 1),
        OwnFinalError("no"),
    ],
)
def test_final_errors(error: Exception) -> None:
    assert not is_retryable_error(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.RedflowError("Run failed: {}"),
        errors.TimeoutError(),
        errors.RetryAfterError("later", 1),
        errors.StepTypeError("changed"),
        ValueError("x"),
        TimeoutError(),
        KeyboardInterrupt(),
    ],
)
def test_errors_worth_another_attempt(error: BaseException) -> None:
    assert is_retryable_error(error)


@pytest.mark.parametrize(
    ("attempt", "delay"), [(0, 250), (-5, 250), (1, 250), (2, 500), (3, 1000), (7, 16_000), (8, 30_000)]
)
def test_backoff_doubles(attempt: int, delay: int) -> None:
    assert backoff_ms(attempt, 0) == delay
    assert backoff_ms(attempt, MAX_JITTER_MS) == delay + 99


@given(st.integers(8, 10**100))
def test_backoff_ends_at_thirty_seconds(attempt: int) -> None:
    assert backoff_ms(attempt, 0) == 30_000


@pytest.mark.parametrize(
    ("candidates", "attempts"),
    [
        ((), None),
        ((None, None), None),
        ((5, 3), 5),
        ((None, 3), 3),
        ((4.9,), 4),
        ((True,), None),
        ((True, 2), 2),
        ((0, 7), 7),
        ((-1,), None),
        ((0.5,), None),
        ((float("nan"),), None),
        ((float("inf"), 2), 2),
        (("3",), None),
        ((10**400,), 10**400),
    ],
)
def test_the_first_valid_number_of_attempts_counts(candidates: tuple[object, ...], attempts: int | None) -> None:
    resolved = resolve_max_attempts(*candidates)
    assert resolved == attempts
    assert type(resolved) is type(attempts)
