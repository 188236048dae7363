"""What may be stored as JSON, and how it is stored."""

from __future__ import annotations

import collections
import dataclasses
import enum
import hashlib
import json
import math
import time
import uuid
import zlib
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.domain.payload import MAX_PAYLOAD_BYTES, decode, encode, pack, round_trip, unpack
from redflow.errors import PayloadTooLargeError
from redflow.types import JsonValue


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class OldMode(str, enum.Enum):  # noqa: UP042 - the older form
    FAST = "fast"


class Flag(enum.Flag):
    A = 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


class Number(int):
    pass


class Real(float):
    pass


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Record:
    a: int


json_scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
) | st.text()
json_values = st.recursive(
    json_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


@given(json_values)
def test_json_values_come_back_unchanged(value: JsonValue) -> None:
    data, back = round_trip(value)
    assert data == encode(value)
    assert back == value
    assert repr(back) == repr(value)  # 1 and 1.0 and True are not the same, nor are 0.0 and -0.0
    assert json.loads(data) == value
    assert decode(unpack(pack(data))) == value


@given(st.recursive(json_scalars, lambda inner: st.tuples(inner, inner) | st.dictionaries(st.text(), inner)))
def test_tuples_come_back_as_lists_like_in_the_standard_library(value: object) -> None:
    assert decode(encode(value)) == json.loads(json.dumps(value))


@given(st.dictionaries(st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.none(), json_scalars))
def test_keys_become_texts_like_in_the_standard_library(value: dict[object, object]) -> None:
    texts = [json.loads(json.dumps({key: 0})) for key in value]
    if len({next(iter(text)) for text in texts}) < len(value):
        with pytest.raises(ValueError, match="two keys become"):
            encode(value)
    else:
        assert decode(encode(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("é", '"é"'.encode()),
        ([], b"[]"),
        ({}, b"{}"),
        (None, b"null"),
        ("", b'""'),
        (False, b"false"),
        (0, b"0"),
        (-0.0, b"-0.0"),
        ((1, (2,)), b"[1,[2]]"),
        (Point(1, 2), b"[1,2]"),
        ({1: "a", 1.5: "b", False: "c", None: "d"}, b'{"1":"a","1.5":"b","false":"c","null":"d"}'),
        (Level.HIGH, b"3"),
        (Mode.FAST, b'"fast"'),
        (OldMode.FAST, b'"fast"'),
        (Text("abc"), b'"abc"'),
        (Number(7), b"7"),
        (Real(1.5), b"1.5"),
        ({Text("k"): [Text("v")], Mode.FAST: Level.HIGH}, b'{"k":["v"],"fast":3}'),
        (collections.OrderedDict(a=1), b'{"a":1}'),
        (collections.defaultdict(int, a=1), b'{"a":1}'),
        ({"__proto__": 1, "constructor": 2}, b'{"__proto__":1,"constructor":2}'),
        (2**64 - 1, b"18446744073709551615"),
        (-(2**63), b"-9223372036854775808"),
    ],
)
def test_what_is_written(value: object, data: bytes) -> None:
    written, back = round_trip(value)
    assert written == data
    assert type(back) in {dict, list, str, int, float, bool, type(None)}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"x", "bytes"),
        (bytearray(b"x"), "bytearray"),
        (datetime(2026, 1, 1, tzinfo=UTC), "datetime"),
        (date(2026, 1, 1), "date"),
        (Decimal("1.5"), "Decimal"),
        ({1, 2}, "set"),
        (frozenset(), "frozenset"),
        (uuid.UUID(int=7), "UUID"),
        (Color.RED, "Color"),
        (Flag.A, "Flag"),
        (Record(1), "Record"),
        (object(), "object"),
        (range(3), "range"),
        (orjson.Fragment(b"1"), "Fragment"),
        (1j, "complex"),
        ((x for x in [1]), "generator"),
    ],
)
def test_other_types_are_refused_with_their_path(value: object, kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode(value)
    assert str(caught.value) == f"input is not JSON at $: {kind}"
    with pytest.raises(TypeError) as caught:
        encode({"a": {"b": [0, (1, value)]}}, what="output of step 'x'")
    assert str(caught.value) == f"output of step 'x' is not JSON at $.a.b[1][1]: {kind}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "nan has no JSON"),
        (math.inf, "inf has no JSON"),
        (-math.inf, "-inf has no JSON"),
        (Real("nan"), "nan has no JSON"),
        (2**64, "integer of 65 bits, outside -2^63 to 2^64-1"),
        (-(2**63) - 1, "integer of 64 bits, outside -2^63 to 2^64-1"),
        pytest.param(10**5000, "integer of 16610 bits, outside -2^63 to 2^64-1", id="huge"),
        ("a\ud800", "text with a lone surrogate, which has no UTF-8"),
        ({"a\udfff": 1}, "text with a lone surrogate, which has no UTF-8"),
        ({1: "a", "1": "b"}, 'two keys become "1"'),
        ({True: "a", "true": "b"}, 'two keys become "true"'),
        ({Text("a"): 1, "b": 2, Mode.FAST: 3, Level.HIGH: 4, "3": 5}, 'two keys become "3"'),
        ({math.nan: 1}, "nan has no JSON"),
        ({2**64: 1}, "integer of 65 bits, outside -2^63 to 2^64-1"),
    ],
)
def test_bad_values_are_refused_with_their_path(value: object, reason: str) -> None:
    for wrapped, path in ((value, "$"), ({"a b": [value]}, '$["a b"][0]'), ({3: (None, value)}, '$["3"][1]')):
        with pytest.raises(ValueError, match="is not JSON") as caught:
            encode(wrapped)
        assert str(caught.value) == f"input is not JSON at {path}: {reason}"


def test_keys_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^input is not JSON at \$\.a: key of type tuple$"):
        encode({"a": {(1, 2): 3}})
    with pytest.raises(TypeError, match=r"^input is not JSON at \$: key of type bytes$"):
        encode({b"a": 1})


def nested(depth: int, kind: str) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value} if kind == "dict" else (value,)
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_nesting_ends_at_200(kind: str) -> None:
    assert decode(encode(nested(200, kind))) == json.loads(json.dumps(nested(200, kind)))
    for depth in (201, 253, 300, 100_000):
        with pytest.raises(ValueError, match="nested deeper than 200 levels") as caught:
            encode(nested(depth, kind))
        assert len(str(caught.value)) < 400


def test_wide_values_are_not_deep() -> None:
    wide = [{"a": [i, {"b": "]}" * 5}]} for i in range(500)]
    assert decode(encode(wide)) == wide
    with pytest.raises(ValueError, match=r"input is not JSON at \$\[500\]\[0\]"):
        encode([*wide, nested(200, "list")])


def test_a_value_that_contains_itself_is_nested_too_deep() -> None:
    loop: list[object] = []
    loop.append({"again": loop})
    with pytest.raises(ValueError, match=r"\$\[0\]\.again\[0\].*nested deeper than 200 levels"):
        encode(loop)


def test_long_paths_and_keys_are_cut() -> None:
    with pytest.raises(TypeError) as caught:
        encode({"k" * 100_000: {"y" * 200: {"z" * 200: {"ä" * 200: b""}}}})
    assert len(str(caught.value)) < 400


def test_large_payloads_are_refused_before_anything_else() -> None:
    encode("x" * (MAX_PAYLOAD_BYTES - 2))
    with pytest.raises(PayloadTooLargeError, match="input is too large: at most 4194304 bytes of JSON, got 4194305"):
        encode("x" * (MAX_PAYLOAD_BYTES - 1))
    with pytest.raises(PayloadTooLargeError, match="output is too large: at most 5 bytes of JSON, got at least 6"):
        encode((1, 2, 3), what="output", max_bytes=5)
    with pytest.raises(PayloadTooLargeError, match="at most 5 bytes"):
        encode({1: 2, 3: 4}, max_bytes=5)


@given(json_values | st.tuples(json_values, json_values))
def test_the_limit_is_exact(value: object) -> None:
    size = len(encode(value))
    assert len(encode(value, max_bytes=size)) == size
    with pytest.raises(PayloadTooLargeError):
        encode(value, max_bytes=size - 1)


@pytest.mark.parametrize("kind", [list, tuple])
def test_values_that_share_their_parts_do_not_explode(kind: type) -> None:
    value: object = "x"
    for _ in range(60):
        value = kind([value, value])  # 2**60 leaves when written out
    with pytest.raises(PayloadTooLargeError, match="at most 4194304 bytes of JSON, got at least "):
        encode(value)
    with pytest.raises(PayloadTooLargeError):
        encode(["x" * 1_000_000] * 1_000_000)


def test_what_comes_back_shares_nothing_with_what_went_in() -> None:
    inner = [1]
    _, back = round_trip({"a": inner})
    assert isinstance(back, dict)
    assert back["a"] is not inner


@pytest.mark.parametrize("data", [b"", b"{", b"nan", b"NaN", b'"\xff"', b"[1,]", b"1e400", b"[" * 2000])
def test_what_is_no_json_cannot_be_decoded(data: bytes) -> None:
    with pytest.raises(ValueError, match="line 1 column"):
        decode(data)


def test_short_payloads_are_stored_as_they_are() -> None:
    data = encode("x" * 4000)
    assert pack(data) is data
    assert unpack(data) is data


def test_long_payloads_are_compressed_where_it_pays() -> None:
    data = encode(["text that repeats itself"] * 1000)
    packed = pack(data)
    assert packed[:1] == b"z"
    assert len(packed) * 10 < len(data) * 9
    assert unpack(packed) == data

    noise = encode("".join(hashlib.sha512(bytes([i])).hexdigest() for i in range(200)))  # saves less than half
    assert len(noise) > 20_000
    assert unpack(pack(noise)) == noise
    incompressible = b'"' + b"".join(hashlib.sha512(bytes([i])).digest() for i in range(200)) + b'"'
    assert pack(incompressible) is incompressible


@given(json_values, st.integers(1, 2_000))
def test_packing_loses_nothing(value: JsonValue, times: int) -> None:
    data = encode([value] * times)
    assert unpack(pack(data)) == data
    assert len(pack(data)) <= len(data)


def test_damaged_payloads_are_refused() -> None:
    packed = pack(encode(["text"] * 5000))
    for damaged in (packed[:-5], b"z", b"zzzz", packed[:50] + b"\0\0\0\0" + packed[54:]):
        with pytest.raises(ValueError, match="stored payload is damaged"):
            unpack(damaged)


def test_expansion_is_bounded() -> None:
    bomb = b"z" + zlib.compress(b"0" * 10_000_000)
    with pytest.raises(ValueError, match="stored payload is too large: more than 1000 bytes"):
        unpack(bomb, max_bytes=1000)
    assert len(unpack(bomb, max_bytes=10_000_000)) == 10_000_000


def test_small_values_cost_microseconds() -> None:
    # The true price is below 1 us; the bound only catches a walk through every value or worse.
    value = {"id": 1, "name": "abc"}
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2_000):
            round_trip(value)
        best = min(best, (time.perf_counter() - started) / 2_000)
    assert best < 20e-6
