"""What needs no server: texts, states, timelines, forms, charts, tests made of runs."""

from __future__ import annotations

import pytest

from redflow.dashboard import charts, text, timeline
from redflow.dashboard.forms import fields_of, input_of, read_json
from redflow.dashboard.pytests import as_pytest
from redflow.dashboard.screens.overview import parts_of
from redflow.dashboard.site import Refused
from redflow.dashboard.states import shown_state
from redflow.errors import SerializedError
from redflow.types import AttemptTrace, JsonValue, RunState, StepState, StepTrace

RUN: RunState = {
    "id": "run_01a2155b-2dbc-7000-9717-d67c5de33ee4",
    "workflow": "class <b>",
    "queue": "app:default",
    "status": "succeeded",
    "input": {"a": [1, None, True], "password": "x"},
    "output": "done",
    "attempt": 2,
    "max_attempts": 3,
    "created_at": 1_000_000,
    "started_at": 1_001_000,
    "finished_at": 1_101_000,
}


def a_step(name: str, seq: int, start: int, end: int, output: JsonValue) -> StepState:
    """A step that succeeded in attempt 2."""
    return {
        "name": name,
        "seq": seq,
        "status": "succeeded",
        "attempt": 2,
        "started_at": start,
        "finished_at": end,
        "output": output,
    }


STEPS = [a_step("one", 1, 1_050_500, 1_051_000, {"token": "t"}), a_step("nap", 2, 1_051_000, 1_100_500, None)]
FORMER: StepTrace = {
    "name": "one",
    "seq": 1,
    "status": "failed",
    "attempt": 1,
    "started_at": 1_001_000,
    "finished_at": 1_010_000,
}
ATTEMPTS: list[AttemptTrace] = [
    {
        "attempt": 1,
        "status": "failed",
        "started_at": 1_001_000,
        "finished_at": 1_011_000,
        "steps": [FORMER],
        "error": {"name": "E", "message": "m", "kind": "error"},
    },
    {"attempt": 2, "status": "succeeded", "started_at": 1_050_500, "finished_at": 1_101_000, "steps": []},
]


# --- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        *((None, ""), (0, "0 ms"), (-5, "0 ms"), (999.4, "999 ms"), (1000, "1 s"), (1250, "1.2 s"), (59_999, "60 s")),
        *(
            (60_000, "1 min"),
            (184_000, "3 min 4 s"),
            (3_600_000, "1 h"),
            (90_000_000, "1 d 1 h"),
            (10**15, "11574074 d 1 h"),
        ),
    ],
)
def test_durations(ms: float | None, shown: str) -> None:
    assert text.duration(ms) == shown


def test_a_time_that_no_calendar_has() -> None:
    for ms in (10**17, -(10**17), 10**30):
        assert str(ms) in text.moment(ms)
    assert "2001-09-09T01:46:40.000Z" in text.moment(10**12)


def test_signs_that_nobody_sees_are_written_out() -> None:
    assert text.visible("a\u202eb\u0000c\u200b\ufeff\U000e0041\ud800") == (
        "a\\u202eb\\u0000c\\u200b\\ufeff\\U000e0041\\ud800"
    )
    assert text.visible("tab\tline\n é 日本 😀") == "tab\tline\n é 日本 😀"


def test_masks_reach_any_depth_and_are_taken_back() -> None:
    value: JsonValue = {"Password": "x", "list": [{"password": {"deep": 1}, "b": 2}], "c": "password"}
    hidden = text.masked(value, {"password"})
    assert hidden == {"Password": text.MASKED, "list": [{"password": text.MASKED, "b": 2}], "c": "password"}
    assert text.unmasked(hidden, value, {"password"}) == value
    assert text.masked(value, {"*"}) == text.MASKED
    assert text.unmasked(text.MASKED, value, {"*"}) == value
    edited: JsonValue = {"password": "new", "list": [{"password": text.MASKED}, {"password": text.MASKED}], "d": 1}
    assert text.unmasked(edited, value, {"password"}) == {
        "password": "new",
        "list": [{"password": {"deep": 1}}, {"password": text.MASKED}],
        "d": 1,
    }
    assert text.masked(value, ()) is value


def test_states_are_finer_than_statuses() -> None:
    def word(**run: object) -> str:
        return shown_state(run).word

    assert word(status="scheduled", attempt=0) == "scheduled"
    assert word(status="scheduled", attempt=1) == "asleep"
    assert word(status="scheduled", attempt=1, error={}) == "retrying"
    assert word(status="running", attempt=1, cancel_requested_at=1) == "canceling"
    assert word(status="canceled", attempt=1, cancel_requested_at=1) == "canceled"
    assert word(status="odd", attempt="x") == "odd"


# --- timelines ------------------------------------------------------------------------------------------------------


def test_a_timeline_is_to_scale() -> None:
    drawn = timeline.draw(RUN, STEPS, ATTEMPTS, [], 0, kinds={"nap": "sleep"})
    rows = {row.label: row for row in drawn.rows}
    assert list(rows) == ["Before the first start", "Attempt 1", "Attempt 2", "one", "nap"]
    span = RUN["finished_at"] - RUN["created_at"]
    [line] = rows["Before the first start"].bars
    assert line.x == 0
    assert line.width == pytest.approx(1000 * 100 / span, abs=0.01)
    former, present = rows["one"].bars
    assert (former.key, present.key) == ("failed", "succeeded"), "what an earlier attempt made of it stays visible"
    assert former.x == pytest.approx(1_000 * 100 / span, abs=0.01)
    [nap] = rows["nap"].bars
    assert nap.kind == "sleep"
    assert nap.width == pytest.approx(49_500 * 100 / span, abs=0.01)
    assert all(bar.x >= 0 and bar.x + bar.width <= 100.001 for row in drawn.rows for bar in row.bars)
    assert [tick.text for tick in drawn.ticks][:3] == ["0", "15 s", "30 s"]


def test_long_waits_can_be_folded() -> None:
    plain = timeline.draw(RUN, STEPS, ATTEMPTS, [], 0)
    folded = timeline.draw(RUN, STEPS, ATTEMPTS, [], 0, fold=True)
    assert plain.foldable
    assert not plain.folded
    assert folded.folded

    def width(drawn: timeline.Timeline, label: str) -> float:
        return next(row for row in drawn.rows if row.label == label).bars[0].width

    assert width(folded, "Attempt 1") > 2 * width(plain, "Attempt 1")
    assert all(bar.x >= 0 and bar.x + bar.width <= 100.001 for row in folded.rows for bar in row.bars)
    last = next(row for row in folded.rows if row.label == "Attempt 2").bars[0]
    assert last.x + last.width == pytest.approx(100, abs=0.01), "what follows a fold ends where the run ended"
    assert width(folded, "Attempt 1") == pytest.approx(10 * width(folded, "Before the first start"), rel=0.01)
    xs = [tick.x for tick in folded.ticks]
    assert xs == sorted(xs)


def test_timelines_of_odd_records() -> None:
    """Times that are missing, that run backwards, that are all the same."""
    odd: RunState = {**RUN, "started_at": 5, "finished_at": 4, "created_at": 2_000_000}
    bare: StepState = {"name": "bare", "seq": 1, "status": "running", "attempt": 1}
    instant: RunState = {**RUN, "created_at": 1_101_000}
    for run in (odd, instant, RUN):
        for fold in (False, True):
            drawn = timeline.draw(run, [*STEPS, bare], ATTEMPTS, [], 10**13, fold=fold)
            assert all(0 <= bar.x <= 100 and bar.width > 0 for row in drawn.rows for bar in row.bars)
    many: list[StepState] = [{**STEPS[0], "name": str(number), "seq": number} for number in range(1_000)]
    drawn = timeline.draw(RUN, many, [], [], 0, first=900)
    assert (drawn.hidden, drawn.rows[-1].label) == (900, "999")


# --- tests made of runs ---------------------------------------------------------------------------------------------


def test_a_run_becomes_a_test_that_compiles() -> None:
    failed: RunState = {**RUN, "status": "failed", "error": {"name": "E", "message": "m\n'''", "kind": "error"}}
    going: RunState = {**RUN, "status": "running"}
    for run in (RUN, failed, going):
        made = as_pytest(run, STEPS, {"token"})
        compile(made, "made", "exec")
        assert "'one': {'token': '••••••'}" in made
    assert "result.output == 'done'" in as_pytest(RUN, STEPS, ())
    assert "too large" in as_pytest({**RUN, "input": "x" * 50_000}, [], ())
    error: SerializedError = {"name": "\nimport os", "message": "\n1/0", "kind": "error"}
    evil: StepState = {**STEPS[0], "name": "'''\nimport os", "status": "failed", "error": error}
    assert "\nimport os" not in as_pytest(failed, [evil], ())


# --- forms ----------------------------------------------------------------------------------------------------------

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "required": ["number", "name", "mode"],
    "properties": {
        "number": {"type": "integer", "minimum": 1, "description": "how many"},
        "name": {"type": "string"},
        "mode": {"$ref": "#/$defs/Mode"},
        "ratio": {"type": "number", "default": 0.5},
        "on": {"type": "boolean"},
        "tags": {"type": "array"},
        "away": {"$ref": "http://169.254.169.254/"},
    },
    "$defs": {"Mode": {"enum": ["fast", "slow", 3]}},
}


def test_fields_are_made_from_a_schema() -> None:
    fields = fields_of(SCHEMA)
    assert fields is not None
    assert {field.name: field.kind for field in fields} == {
        "number": "integer",
        "name": "text",
        "mode": "choice",
        "ratio": "number",
        "on": "boolean",
        "tags": "json",
        "away": "json",
    }
    assert fields[0].hint == "how many; at least 1"
    assert fields[2].choices == ('"fast"', '"slow"', "3")
    assert fields[3].value == "0.5"
    form = {"field.number": "3", "field.name": "", "field.mode": '"fast"', "field.on": "true", "field.tags": "[1]"}
    assert input_of(form, fields) == {"number": 3, "name": "", "mode": "fast", "on": True, "tags": [1]}
    with pytest.raises(Refused, match="number is missing"):
        input_of({"field.name": "x", "field.mode": "3"}, fields)
    with pytest.raises(Refused, match="tags is not JSON"):
        input_of({**form, "field.tags": "[1"}, fields)


@pytest.mark.parametrize(
    "schema",
    [None, {}, {"type": "array"}, {"type": "object"}, {"type": "object", "properties": []}, {"type": ["object"]}],
)
def test_where_there_are_no_fields_json_has_to_do(schema: dict[str, JsonValue] | None) -> None:
    assert fields_of(schema) is None
    assert input_of({"input": "[1]"}, None) == [1]
    assert input_of({"input": " "}, None) is None


def test_odd_schemas_make_odd_fields_and_no_error() -> None:
    fields = fields_of(
        {"type": "object", "required": 5, "properties": {"a": None, "b": {"enum": {}}, "c": {"type": []}}}
    )
    assert fields is not None
    assert {field.kind for field in fields} == {"json"}


def test_numbers_that_are_no_numbers() -> None:
    for bad in ("1" * 5000, "[" * 100_000, "tru"):
        with pytest.raises(Refused):
            read_json(bad, "x")


def test_a_history_is_cut_into_fewer_parts_where_there_are_many_workflows() -> None:
    assert [parts_of((60, 30, 12, 6), workflows) for workflows in (0, 1, 16, 17, 60, 100, 5_000)] == [
        *(60, 60, 60, 30, 12, 6, 6)
    ]


def test_charts() -> None:
    assert charts.stacked([[("a", 0)]], ["x"]) == []
    blocks = charts.stacked([[("a", 1), ("b", 3)], [("a", 2)]], ["x", "y"])
    assert [(block.x, block.height) for block in blocks] == [(5, 25), (5, 75), (55, 50)]
    assert sum(block.width for block in charts.shares([("a", 1), ("b", 0), ("c", 3)])) == 100
    assert charts.shares([("a", 0)]) == []
