"""How values are written into the task record: a prefix that names the form, then JSON.

`json:` is followed by JSON. From 32 KiB of JSON on it is `zjson:`, followed by the JSON
compressed with zlib, in base64.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import zlib
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from redflow.domain.payload import MAX_DEPTH, decode, encode
from redflow.errors import PayloadTooLargeError
from redflow.types import JsonData, JsonValue

PLAIN: Final = "json:"
"""The prefix of JSON as it is."""

COMPRESSED: Final = "zjson:"
"""The prefix of compressed JSON."""

COMPRESS_FROM_BYTES: Final = 32 * 1024
"""From how many bytes of JSON on a value is compressed."""

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""The largest value, in bytes of JSON; also what a compressed one may grow to when it is read."""

_MAX_NODES = 1_000_000
"""How many parts a value beyond JSON may have: parts that are shared are copied as often as they occur."""
_LEVEL = 6


def dumps(obj: object) -> str:
    """A value as text that `loads` reads back with its type.

    Besides JSON it takes what has one obvious JSON form: dataclasses and pydantic models become objects, enums their
    values, datetimes, dates and times ISO 8601 text, UUIDs and Decimals text, bytes base64 text, tuples lists.

    Raises:
        TypeError: a part of it is none of these.
        ValueError: NaN, an infinity, an int beyond 64 bit, nesting beyond 200, or more than 16 MiB of JSON.
        Both name the path of the bad part, such as `value is not JSON at $.a[0]: set`.

    Example:
        >>> dumps({"n": 42})
        'json:{"n":42}'
    """
    data = _encode(obj, "value")
    if len(data) < COMPRESS_FROM_BYTES:
        return PLAIN + data.decode()
    return COMPRESSED + base64.b64encode(zlib.compress(data, _LEVEL)).decode()


def loads(text: str | bytes) -> JsonData:
    """Read what `dumps` wrote.

    Raises:
        ValueError: an unknown prefix, broken text, or more than 16 MiB when it is decompressed.

    Example:
        >>> loads('json:"42"')
        '42'
    """
    if isinstance(text, bytes):
        text = _utf8(text)
    if not isinstance(text, str):
        raise ValueError(f"not a stored value: text was expected, got {type(text).__name__}")
    try:
        if text.startswith(PLAIN):
            return _decode(text[len(PLAIN) :].encode())
        if text.startswith(COMPRESSED):
            return _decode(_expand(text[len(COMPRESSED) :]))
    except UnicodeEncodeError as exc:
        raise ValueError("a stored value is damaged: it is not Unicode text") from exc
    prefix = text[:12].partition(":")[0]
    raise ValueError(f"not a stored value: it must begin with {PLAIN} or {COMPRESSED}, not with {prefix!r}")


def to_json(obj: object, *, what: str = "value") -> JsonValue:
    """The plain JSON that `dumps` would store, as Python values.

    Args:
        obj: see `dumps`.
        what: how an error names the value.

    Raises:
        TypeError, ValueError: see `dumps`.
    """
    return decode(_encode(obj, what))


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether two JSON values are equal and of the same types: 1, 1.0 and True differ, the order of keys does not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def _encode(obj: object, what: str) -> bytes:
    try:
        return encode(obj, what=what, max_bytes=MAX_VALUE_BYTES)
    except PayloadTooLargeError:
        raise
    except TypeError:
        # It holds something beyond JSON: make a plain copy; what still is none is refused with its path.
        return encode(_Plain(what).copy(obj, 0), what=what, max_bytes=MAX_VALUE_BYTES)


class _Plain:
    """Copies a value, putting JSON in place of the types we take besides it; leaves the rest as it is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._nodes = 0

    def copy(self, value: object, depth: int) -> object:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise PayloadTooLargeError(f"{self._what} is too large: it has more than {_MAX_NODES} parts")
        if depth > MAX_DEPTH:
            return value  # `encode` says where
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return _leaf(value)
        if isinstance(value, Enum):
            return self.copy(value.value, depth + 1)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if isinstance(value, dict):
            return {
                key.value if isinstance(key, Enum) else key: self.copy(item, depth + 1) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.copy(item, depth + 1) for item in value]
        return self.copy(self._dumped(value), depth + 1) if isinstance(value, BaseModel) else _leaf(value)

    def _dumped(self, model: BaseModel) -> object:
        try:
            return model.model_dump(mode="json")
        except (PydanticSerializationError, UnicodeDecodeError) as exc:
            raise ValueError(f"{self._what} is not JSON: {type(model).__name__}: {exc}") from exc


def _leaf(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        # It travels as text, which would hide what JSON has no number for.
        return str(value) if value.is_finite() else float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return value


def _decode(data: bytes) -> JsonData:
    try:
        return decode(data)
    except ValueError as exc:
        raise ValueError(f"a stored value is damaged: {exc}") from exc


def _expand(text: str) -> bytes:
    try:
        packed = base64.b64decode(text.encode(), validate=True)
        expander = zlib.decompressobj()
        data = expander.decompress(packed, MAX_VALUE_BYTES + 1)
    except (binascii.Error, zlib.error) as exc:
        raise ValueError(f"a stored value is damaged: {exc}") from exc
    if len(data) > MAX_VALUE_BYTES:
        raise ValueError(f"a stored value is too large: more than {MAX_VALUE_BYTES} bytes when decompressed")
    if not expander.eof:
        raise ValueError("a stored value is damaged: its end is missing")
    return data


def _utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as exc:
        raise ValueError("a stored value is damaged: it is not UTF-8") from exc
