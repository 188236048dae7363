"""What is written into a record comes back with its type, and what can't is refused with its place."""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
import uuid
import zlib
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from r7kit import serializer
from r7kit.serializer import COMPRESS_FROM_BYTES, MAX_VALUE_BYTES, dumps, loads, same, to_json

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_every_json_value_comes_back_with_its_type(value: object) -> None:
    back = loads(dumps(value))
    assert same(back, to_json(value))
    assert type(back) is type(value)
    assert back == value


@pytest.mark.parametrize("value", [42, "42", 42.0, True, None, "", [], {}, 0, False, "json:1", 2**64 - 1, -(2**63)])
def test_values_that_look_alike_stay_apart(value: object) -> None:
    back = loads(dumps(value))
    assert (type(back), back) == (type(value), value)


def test_from_32_kib_on_it_is_compressed() -> None:
    text = "x" * (COMPRESS_FROM_BYTES - 2)  # and two quotes
    assert dumps(text).startswith("zjson:")
    assert len(dumps(text)) < 200
    assert loads(dumps(text)) == text
    assert dumps(text[1:]).startswith("json:")


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    when: datetime


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    total: Decimal
    colour: Colour
    at: Point


def test_types_with_one_json_form_are_taken() -> None:
    when = datetime(2024, 2, 29, 12, 0, 0, 5000, UTC)
    some_id = uuid.UUID(int=7)
    order = Order(some_id, Decimal("1.10"), Colour.RED, Point(x=1, when=when))
    assert loads(dumps({"order": order, "raw": b"\xff\x00", "day": date(2024, 2, 29), "pair": (1, 2)})) == {
        "order": {
            "id": str(some_id),
            "total": "1.10",
            "colour": "red",
            "at": {"x": 1, "when": "2024-02-29T12:00:00.005000Z"},
        },
        "raw": base64.b64encode(b"\xff\x00").decode(),
        "day": "2024-02-29",
        "pair": [1, 2],
    }
    assert loads(dumps(when)) == when.isoformat()


@pytest.mark.parametrize(
    ("value", "error", "where"),
    [
        ({"a": [0, math.nan]}, ValueError, r"\$\.a\[1\]: nan"),
        ({"a": math.inf}, ValueError, r"\$\.a: inf"),
        ({"a": {"b": 2**64}}, ValueError, r"\$\.a\.b: integer of 65 bits"),
        ([-(2**63) - 1], ValueError, r"\$\[0\]: integer"),
        ({"a": [Order(uuid.UUID(int=1), Decimal("nan"), Colour.RED, Point(x=1, when=datetime(2024, 1, 1)))]},  # noqa: DTZ001
         ValueError, r"\$\.a\[0\]\.total: nan"),
        ({"a": {1, 2}}, TypeError, r"\$\.a: set"),
        ({"when": datetime(2024, 1, 1, tzinfo=UTC), "f": len}, TypeError, r"\$\.f: builtin_function"),
        ({b"a": 1}, TypeError, r"\$: key of type bytes"),
        ("\ud800", ValueError, "lone surrogate"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_with_its_path(value: object, error: type[Exception], where: str) -> None:
    with pytest.raises(error, match=where):
        dumps(value)


def test_deep_and_cyclic_values_are_refused() -> None:
    cycle: list[object] = [b"bytes"]
    cycle.append(cycle)
    with pytest.raises(ValueError, match="nested deeper than 200"):
        dumps(cycle)


def test_a_value_that_shares_its_parts_many_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serializer, "_MAX_NODES", 10_000)
    part: list[object] = [b""]
    for _ in range(4):
        part = [part] * 10
    with pytest.raises(ValueError, match="too large"):
        dumps(part)


@pytest.mark.parametrize(
    "text",
    ["", "42", "pickle:abc", "json:", "json:{", "json:nan", "zjson:***", "zjson:AAAA", "json:\ud800", "JSON:1"],
)
def test_unknown_prefixes_and_broken_texts_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"stored value"):
        loads(text)


def test_decompression_is_bounded() -> None:
    bomb = "zjson:" + base64.b64encode(zlib.compress(b"1" * (MAX_VALUE_BYTES + 1))).decode()
    with pytest.raises(ValueError, match="too large"):
        loads(bomb)
    cut = "zjson:" + base64.b64encode(zlib.compress(b'"abc"')[:-4]).decode()
    with pytest.raises(ValueError, match="its end is missing"):
        loads(cut)


def test_same_tells_types_apart_and_ignores_the_order_of_keys() -> None:
    assert same({"a": 1, "b": [2.0]}, {"b": [2.0], "a": 1})
    assert not same(1, True)
    assert not same(1, 1.0)
    assert not same([1], [1, 1])
    assert not same({"a": None}, {})
