"""The exception tree and its stored form."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow import errors
from redflow.errors import (
    MAX_ERROR_MESSAGE_BYTES,
    MAX_ERROR_STACK_BYTES,
    CanceledError,
    InputValidationError,
    LimitExceededError,
    NonRetriableError,
    OutputSerializationError,
    PayloadTooLargeError,
    PoisonError,
    RateLimitExceededError,
    RedflowError,
    RetryAfterError,
    StepTypeError,
    UnknownWorkflowError,
    error_from_json,
    make_error_json,
    serialize_error,
)

KINDS = {
    "RedflowError": "error",
    "InputValidationError": "validation",
    "UnknownWorkflowError": "unknown_workflow",
    "CanceledError": "canceled",
    "TimeoutError": "timeout",
    "OutputSerializationError": "serialization",
    "NonRetriableError": "non_retriable",
    "RetryAfterError": "retry_after",
    "RateLimitExceededError": "rate_limited",
    "LimitExceededError": "limit_exceeded",
    "PayloadTooLargeError": "payload_too_large",
    "QueueFullError": "queue_full",
    "NotDurableError": "not_durable",
    "ConnectionError": "connection",
    "ServerTooOldError": "server_too_old",
    "ShardMismatchError": "shard_mismatch",
    "PoisonError": "poison",
    "StepTypeError": "step_type",
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_each_class_has_its_kind_and_is_a_redflow_error(name: str, kind: str) -> None:
    cls = getattr(errors, name)
    assert issubclass(cls, RedflowError)
    assert cls.kind == kind


def test_own_timeout_and_connection_errors_are_not_the_builtin_ones() -> None:
    assert not issubclass(errors.TimeoutError, TimeoutError)
    assert not issubclass(errors.ConnectionError, OSError)


def test_default_messages_are_those_of_the_contract() -> None:
    assert str(InputValidationError()) == "Workflow input validation failed"
    assert str(UnknownWorkflowError("ship")) == "Unknown workflow: ship"
    assert str(CanceledError()) == "Run canceled"
    assert str(errors.TimeoutError()) == "Operation timed out"
    assert str(OutputSerializationError()) == "Workflow output is not JSON-serializable"


def test_constructors_keep_what_they_are_given() -> None:
    cause = TypeError("set")
    assert OutputSerializationError("bad", cause).cause_error is cause
    assert InputValidationError("bad", {"a": 1}).issues == {"a": 1}
    unknown = UnknownWorkflowError("shp", near_names=["ship", "shop"])
    assert unknown.workflow_name == "shp"
    assert unknown.near_names == ("ship", "shop")
    assert "Did you mean 'ship' or 'shop'?" in str(serialize_error(unknown)["stack"])


@pytest.mark.parametrize("cls", [RetryAfterError, RateLimitExceededError])
def test_retry_after_takes_every_delay_target(cls: type[RetryAfterError]) -> None:
    assert cls("later", 1500.9).retry_after_ms == 1500
    assert cls("later", " 2S ").retry_after_ms == 2000
    assert cls("later", datetime.now(UTC) - timedelta(days=1)).retry_after_ms == 0
    soon = cls("later", datetime.now(UTC) + timedelta(minutes=1)).retry_after_ms
    assert 50_000 < soon <= 60_000


@pytest.mark.parametrize("bad", [True, -1, float("nan"), float("inf"), "soon", "1h30m", None, [1]])
def test_retry_after_refuses_what_is_no_delay(bad: object) -> None:
    with pytest.raises(ValueError, match="Invalid retry_after"):
        RetryAfterError("later", bad)


def test_retry_after_of_more_than_ten_years_is_beyond_the_limit() -> None:
    with pytest.raises(LimitExceededError, match="retry_after is too long: at most 315360000000 ms"):
        RetryAfterError("later", "3651d")


def test_limits_are_value_errors_too() -> None:
    assert issubclass(LimitExceededError, ValueError)
    assert issubclass(PayloadTooLargeError, LimitExceededError)


class CardDeclinedError(NonRetriableError):
    kind = "card_declined"


@pytest.mark.parametrize(
    "error",
    [
        UnknownWorkflowError("ship", near_names=["shop"]),
        RetryAfterError("later", 250),
        InputValidationError("bad", ["x"]),
        CardDeclinedError("no", 17),
    ],
)
def test_errors_can_be_pickled_and_copied(error: RedflowError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.__dict__ == error.__dict__


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as exc:
        return exc


def test_a_redflow_error_is_stored_with_its_own_name_and_kind() -> None:
    data = serialize_error(raised(CardDeclinedError("no money")))
    assert data["name"] == "CardDeclinedError"
    assert data["message"] == "no money"
    assert data["kind"] == "card_declined"
    assert "in raised" in data["stack"]
    assert data["stack"].rstrip().endswith("CardDeclinedError: no money")
    assert set(data) == {"name", "message", "kind", "stack"}


def test_an_error_that_was_never_raised_has_a_stack_too() -> None:
    assert "RedflowError: x" in serialize_error(RedflowError("x"))["stack"]


def test_the_delay_and_the_cause_are_stored() -> None:
    error = RetryAfterError("later", "1s")
    error.cause_run_id = "run_1"
    data = serialize_error(error)
    assert data["retryAfterMs"] == 1000
    assert data["cause_run_id"] == "run_1"


class CodedError(Exception):
    def __init__(self, message: str, code: object) -> None:
        super().__init__(message)
        self.code = code


def test_a_foreign_error_is_stored_with_its_code_if_that_is_a_text() -> None:
    data = serialize_error(CodedError("gone", "E_GONE"))
    assert (data["name"], data["message"], data["kind"], data["code"]) == (
        "CodedError",
        "gone",
        "error",
        "E_GONE",
    )
    assert "code" not in serialize_error(CodedError("gone", 17))


class Opaque:
    def __str__(self) -> str:
        return "opaque"


@pytest.mark.parametrize(
    ("value", "message"),
    [("text", "text"), ({"a": 1}, '{"a": 1}'), ([1, None], "[1, null]"), (Opaque(), "opaque")],
)
def test_what_is_no_exception_becomes_a_plain_error(value: object, message: str) -> None:
    assert serialize_error(value) == {"name": "Error", "message": message, "kind": "error"}


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_without_a_text_is_still_described() -> None:
    data = json.loads(make_error_json(UnprintableError()))
    assert data["name"] == "UnprintableError"
    assert data["message"] == "<str() of UnprintableError failed with RuntimeError>"


class UnprintableValue:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_what_cannot_be_described_becomes_a_fixed_error() -> None:
    data = json.loads(make_error_json(UnprintableValue()))
    assert data["kind"] == "error"
    assert data["name"] == "Error"


def test_long_texts_are_cut_and_say_so() -> None:
    data = json.loads(make_error_json(raised(ValueError("start" + "ä" * 10_000_000 + "end"))))
    for text, limit in ((data["message"], MAX_ERROR_MESSAGE_BYTES), (data["stack"], MAX_ERROR_STACK_BYTES)):
        assert len(text.encode()) <= limit
        assert "[cut: 200" in text
        assert text.rstrip().endswith("end")
    assert data["message"].startswith("start")


@given(st.text(st.characters()))
def test_stored_errors_are_valid_utf8(message: str) -> None:
    data = json.loads(make_error_json(ValueError(message)).encode())
    assert data["message"] == message.encode("utf-8", "replace").decode()


def test_lone_surrogates_become_question_marks() -> None:
    assert json.loads(make_error_json(ValueError("a\ud800b")).encode())["message"] == "a?b"


def test_a_cyclic_chain_of_causes_is_stored() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "second" in json.loads(make_error_json(first))["stack"]


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_stored_error_comes_back_as_the_class_of_its_kind(name: str, kind: str) -> None:
    error = error_from_json({"name": "Whatever", "message": "m", "kind": kind, "stack": "s"})
    assert type(error) is getattr(errors, name)
    assert str(error) == "m"
    assert error.error == {"name": "Whatever", "message": "m", "kind": kind, "stack": "s"}
    assert serialize_error(error)["kind"] == kind


def test_a_stored_delay_comes_back() -> None:
    stored = serialize_error(RateLimitExceededError("slow down", 250))
    error = error_from_json(dict(stored))
    assert isinstance(error, RateLimitExceededError)
    assert error.retry_after_ms == 250


@given(
    st.dictionaries(
        st.sampled_from(["name", "message", "kind", "stack", "code", "retryAfterMs", "cause_run_id", "x"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.none()),
    )
)
def test_damaged_stored_errors_still_give_an_error(data: dict[str, object]) -> None:
    error = error_from_json(data)
    assert isinstance(error, RedflowError)
    json.loads(make_error_json(error))


def test_a_kind_never_names_a_class_outside_the_table() -> None:
    assert type(error_from_json({"kind": "builtins.SystemExit", "message": "x"})) is RedflowError
    assert type(error_from_json({"kind": "CardDeclinedError", "message": "x"})) is RedflowError


def test_a_name_never_chooses_the_class() -> None:
    for name in ("TimeoutError", "PoisonError", "Mapping", "traceback"):
        assert type(error_from_json({"name": name, "kind": "mine", "message": "x"})) is RedflowError
    assert type(error_from_json({"name": "PoisonError", "kind": "timeout", "message": "x"})) is errors.TimeoutError


def test_rebuilt_errors_have_all_attributes_of_their_class() -> None:
    unknown = error_from_json({"kind": UnknownWorkflowError.kind, "message": "m"})
    assert isinstance(unknown, UnknownWorkflowError)
    assert (unknown.workflow_name, unknown.near_names) == ("", ())
    invalid = error_from_json({"kind": InputValidationError.kind, "message": "m"})
    assert isinstance(invalid, InputValidationError)
    assert invalid.issues is None
    assert isinstance(error_from_json({"kind": "poison"}), PoisonError)
    assert isinstance(error_from_json({"kind": "step_type"}), StepTypeError)
