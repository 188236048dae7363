"""What stands in the runs of task flows, without a server."""

from __future__ import annotations

import dataclasses
from datetime import datetime

import pytest
from pydantic import ValidationError

from r7kit.conversion import convert, convert_all
from r7kit.exceptions import TaskNotFoundError
from r7kit.runtime import NewTask, RetryPolicy
from r7kit.runtimes.redflow.outcomes import bad, comes_back, good, named_cause, value_of
from r7kit.runtimes.redflow.values import FlowInput, attempts, hints_of, new_input, read_input, retry_delay_ms
from redflow.errors import RedflowError, error_from_json


def test_an_input_comes_back() -> None:
    own = NewTask("t1", "op1", "sent", {"a": 1})
    retry = RetryPolicy(maximum_attempts=3)
    told = new_input([1, (2, 3)], task_id="t1", op="op1", own=own, retry=retry, memo={"why": "test"})
    assert read_input(told, "run") == FlowInput(
        "t1", "op1", [1, [2, 3]], "sent", {"a": 1}, False, retry, {"why": "test"}
    )
    shared = new_input([], task_id="t1", op="op1", own=None, retry=None)
    assert read_input(shared, "run") == FlowInput("t1", "op1", [], shares_task=True)


def test_a_large_payload_does_not_travel_with_the_start() -> None:
    own = NewTask("t1", "op1", "new", {"text": "x" * 20_000, "more": list(range(9000))})
    told = read_input(new_input([], task_id="t1", op="op1", own=own, retry=None), "run")
    assert told.payload is None


@pytest.mark.parametrize(
    ("stored", "args"), [(None, []), ({}, []), ([1, 2], [1, 2]), (7, [7]), ({"task_id": 3}, [{"task_id": 3}])]
)
def test_a_run_that_redflows_own_client_started_has_an_empty_task(stored: object, args: list[object]) -> None:
    assert read_input(stored, "run_1") == FlowInput("run_1", "start:run_1", args, payload={})


@pytest.mark.parametrize("wrong", [{"args": 3}, {"args": [], "retry": "often"}, {"args": [], "task_id": "a:ops"}])
def test_an_input_that_is_not_ours_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"FlowInput|:ops"):
        read_input({"task_id": "t", "op": "o", **wrong}, "run_1")


def test_arguments_that_are_no_json_are_named() -> None:
    with pytest.raises(TypeError, match=r"argument 2 is not JSON at \$\.a: set"):
        new_input([1, {"a": {1}}], task_id="t", op="o", own=None, retry=None)


def test_the_pause_between_attempts() -> None:
    policy = RetryPolicy(initial_interval=0.5, backoff=3.0, maximum_interval=4.0, maximum_attempts=0)
    assert [retry_delay_ms(policy, attempt) for attempt in (1, 2, 3, 4)] == [500, 1500, 4000, 4000]
    assert retry_delay_ms(RetryPolicy(backoff=1000.0), 10**6) == 100_000
    assert (attempts(None), attempts(policy), attempts(RetryPolicy(maximum_attempts=7))) == (1, 1_000_000, 7)


@dataclasses.dataclass
class Point:
    x: int
    when: datetime | None = None


def test_values_become_what_is_declared() -> None:
    assert convert({"x": 1, "when": None}, Point) == Point(1)
    assert convert([{"x": 1}], list[Point]) == [Point(1)]
    assert convert({"x": 1}, None) == {"x": 1}
    assert convert_all([1, "2", [3]], [int, str]) == [1, "2", [3]]
    with pytest.raises(ValidationError):
        convert("one", int)


def test_hints_of_a_function() -> None:
    def fn(a: int, b, *rest: str, c: str = "") -> None:  # type: ignore[no-untyped-def]
        raise NotImplementedError

    assert hints_of(fn) == [int, object]


def test_outcomes_come_back_as_they_were() -> None:
    assert value_of(good([1]), "it") == [1]
    with pytest.raises(TaskNotFoundError, match="t1") as not_found:
        value_of(bad(TaskNotFoundError.of("t1")), "it")
    assert not_found.value.task_id == "t1"
    with pytest.raises(TimeoutError, match="late"):
        value_of(bad(TimeoutError("late")), "it")
    with pytest.raises(RedflowError, match="it failed: OSError: no disk"):
        value_of(bad(OSError("no disk")), "it")
    assert comes_back(ValueError("x"))
    assert not comes_back(OSError("x"))


def test_only_named_errors_are_rebuilt() -> None:
    failed = error_from_json({"name": "TaskNotFoundError", "message": "task 't'", "kind": "error"})
    assert isinstance(named_cause(failed), TaskNotFoundError)
    assert named_cause(error_from_json({"name": "SystemExit", "message": "", "kind": "error"})) is None
