"""What may be stored as JSON, and how it is stored.

orjson is quick but lenient, and trusting: it writes NaN as null, enums and UUIDs as if they were JSON, and
tuples nested some thousand deep corrupt its memory. So every value is looked at first. That look is cheap:
no paths, no copies. What it finds odd, a tuple for instance, takes a second and slower walk, which makes a
plain copy or refuses the value, naming the path of its first bad part.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable

import orjson

from redflow.errors import PayloadDecodeError, PayloadKeyMissingError, PayloadTooLargeError
from redflow.types import JsonValue

MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""The largest JSON payload, in bytes."""

MAX_DEPTH = 200
"""How deep lists and dicts may be nested; a plain value has depth 0."""

MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""What a packed payload may grow to when it is read; a stored value that is larger is damaged or hostile."""

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1

_PACK_FROM_BYTES = 4 * 1024
_PACKED_MARK = b"z"  # no JSON text starts with it
_PACK_LEVEL = 1

SEALED_MARK = b"rf1:"
"""How an encrypted payload begins; see redflow.domain.sealing. No JSON text and no compressed payload does."""

_UNREADABLE_MARK = b"not readable "

_HEAVY = 256
"""Parts of a value that weigh more are not walked again where they come up again."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_MAX_PATH_CHARS = 240


def encode(value: object, *, what: str = "input", max_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """Turn a value into JSON, refusing everything that would not come back as it went in.

    Tuples become lists; subclasses of str, int, float, list and dict (IntEnum and StrEnum too) count as what
    they derive from; keys that are int, float, bool or None become text, as `json.dumps` makes it.

    Args:
        value: what to encode.
        what: how an error names the value.
        max_bytes: the most the JSON may take.

    Returns:
        Compact UTF-8 JSON; text that is not ASCII stays as it is.

    Raises:
        TypeError: a part of it is no JSON, such as bytes, datetime, Decimal, set or UUID.
        ValueError: NaN or an infinity, an int outside -2^63 … 2^64-1, keys that become equal, lone
            surrogates, or nesting beyond 200 (a value that contains itself, too).
        PayloadTooLargeError: the JSON is larger than `max_bytes`.
        The messages name the path: `input is not JSON at $.a.b[0]: bytes`.

    Example:
        >>> encode({"total": 3, "tags": ("a", "b")})
        b'{"total":3,"tags":["a","b"]}'
    """
    plain = value if _is_plain(value, what, max_bytes) else _plain_value(value, what)
    try:
        data = orjson.dumps(plain)
    except TypeError:
        _plain_value(plain, what)  # orjson refuses long integers and lone surrogates, but says not where
        raise
    if len(data) > max_bytes:
        raise _too_large(what, max_bytes, f"{len(data)}")
    return data


def round_trip(value: object, *, what: str = "input", max_bytes: int = MAX_PAYLOAD_BYTES) -> tuple[bytes, JsonValue]:
    """`encode` a value and read it back: the JSON, and the value as every later reader will see it."""
    data = encode(value, what=what, max_bytes=max_bytes)
    return data, orjson.loads(data)


def decode(data: bytes | str) -> JsonValue:
    """Read JSON that `encode` wrote.

    Raises:
        ValueError: it is no JSON.
        PayloadDecodeError: it is encrypted, and whoever reads it has no codec; or it stands for what is `unreadable`.
    """
    try:
        value: JsonValue = orjson.loads(data)
    except ValueError:
        raise_if_sealed(data)
        raise
    return value


def raise_if_sealed(data: bytes | str) -> None:
    """Say of what is no JSON that it is an encrypted payload, or stands for one that is `unreadable`, if so.

    Raises:
        PayloadDecodeError
    """
    stored = data.encode() if isinstance(data, str) else data
    if stored.startswith(_UNREADABLE_MARK):
        missing, key_id, message = stored[len(_UNREADABLE_MARK) :].decode().split(" ", 2)
        error = PayloadKeyMissingError if missing == "key" else PayloadDecodeError
        raise error(message, key_id=key_id or None)
    if stored.startswith(SEALED_MARK):
        key_id = sealed_key_id(stored)
        raise PayloadKeyMissingError(
            f"a payload is encrypted with key {key_id!r}, and this program has no codec: give it one with that key, "
            f"create_client(codec=AesGcmCodec(...)) or REDFLOW_CODEC_KEYS_FILE",
            key_id=key_id,
        )


def unreadable(exc: PayloadDecodeError) -> bytes:
    """What stands in a record that was read for a payload that can't be decrypted: no JSON; `decode` says why."""
    what = "key" if isinstance(exc, PayloadKeyMissingError) else "-"
    return _UNREADABLE_MARK + f"{what} {exc.key_id or ''} {exc}".encode()


def sealed_key_id(stored: bytes) -> str:
    """The id of the key that a payload is encrypted with, as it says itself; "" if it doesn't."""
    parts = stored.split(b":", 3)
    return parts[2][:64].decode("ascii", "replace") if len(parts) == 4 else ""


def pack(data: bytes) -> bytes:
    """JSON as it is stored: from 4 KiB on compressed, where that saves a tenth or more; else unchanged."""
    if len(data) < _PACK_FROM_BYTES:
        return data
    packed = _PACKED_MARK + zlib.compress(data, _PACK_LEVEL)
    return packed if len(packed) * 10 <= len(data) * 9 else data


def unpack(data: bytes, *, max_bytes: int = MAX_UNPACKED_BYTES) -> bytes:
    """Undo `pack`.

    Raises:
        ValueError: the compressed data is damaged, or larger than `max_bytes` when expanded.
    """
    if not data.startswith(_PACKED_MARK):
        return data
    expander = zlib.decompressobj()
    try:
        plain = expander.decompress(data[1:], max_bytes)
    except zlib.error as exc:
        raise ValueError(f"stored payload is damaged: {exc}") from exc
    if not expander.eof:
        if expander.unconsumed_tail:
            raise ValueError(f"stored payload is too large: more than {max_bytes} bytes when expanded")
        raise ValueError("stored payload is damaged: its end is missing")
    return plain


def _too_large(what: str, limit: int, got: str) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"{what} is too large: at most {limit} bytes of JSON, got {got}")


class _TooDeepError(Exception):
    """A value is nested too deep."""


class _TooHeavyError(Exception):
    """A value's JSON would be larger than allowed: a part of it already takes `weight` bytes or more."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


def _is_plain(value: object, what: str, max_bytes: int) -> bool:
    """Whether orjson may have the value as it is.

    Raises:
        PayloadTooLargeError: its JSON would be larger than `max_bytes`.
    """
    if not isinstance(value, (dict, list, tuple)):
        return value is None or type(value) in (str, int, bool)
    odd: list[object] = []
    try:
        _weigh(value, 1, odd, max_bytes, {})
    except _TooDeepError:
        return False
    except _TooHeavyError as exc:
        raise _too_large(what, max_bytes, f"at least {exc.weight}") from None
    return not odd and (type(value) is dict or type(value) is list)


def _weigh(
    value: dict[object, object] | list[object] | tuple[object, ...],
    depth: int,
    odd: list[object],
    limit: int,
    heavy: dict[int, tuple[int, int]],
) -> int:
    """The least number of bytes a container takes as JSON; adds what orjson must not have to `odd`.

    The weight stops values that share their parts (ten lists of ten times the same list, and so on) from
    growing without bound when they are written out; `heavy` keeps depth and weight of larger parts, so that such a
    value is not walked without bound either. This runs for every input, output and step: the common types come first
    and are told apart by identity, which is the quickest there is.
    """
    if depth > MAX_DEPTH:
        raise _TooDeepError
    if heavy and (known := heavy.get(id(value))) is not None and depth <= known[0]:
        return known[1]
    items: Iterable[object]
    if isinstance(value, dict):
        size = 5 * len(value)  # for each item a byte, its comma or bracket, and of its key quotes and colon
        if size > limit:
            raise _TooHeavyError(size)
        for key in value:
            if type(key) is str:
                size += len(key)
            else:
                odd.append(key)
        items = value.values()
    else:
        size = 2 * len(value)
        items = value
    if size > limit:
        raise _TooHeavyError(size)
    for item in items:
        if type(item) is str:
            size += len(item)
        elif type(item) is int or item is None or item is True or item is False:
            pass
        elif type(item) is dict or type(item) is list:
            size += _weigh(item, depth + 1, odd, limit, heavy)
        elif type(item) is not float or not math.isfinite(item):
            odd.append(item)
            if isinstance(item, (dict, list, tuple)):
                size += _weigh(item, depth + 1, odd, limit, heavy)
    if size > limit:
        raise _TooHeavyError(size)
    if size > _HEAVY:
        heavy[id(value)] = depth, size
    return size


class _Refusal(Exception):
    """A part that is no JSON. The path is put together on the way out: good values never pay for it."""

    def __init__(self, error: type[TypeError] | type[ValueError], reason: str) -> None:
        self.error = error
        self.reason = reason
        self.path: list[str] = []


def _plain_value(value: object, what: str) -> JsonValue:
    """A copy of `value` made of plain JSON types only."""
    try:
        return _plain(value, 0)
    except _Refusal as refusal:
        path = "$" + "".join(reversed(refusal.path))
        if len(path) > _MAX_PATH_CHARS:
            path = path[: _MAX_PATH_CHARS // 2] + "..." + path[-_MAX_PATH_CHARS // 2 :]
        raise refusal.error(f"{what} is not JSON at {path}: {refusal.reason}") from None


def _plain(value: object, depth: int) -> JsonValue:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, int):
        return _plain_int(value)
    if isinstance(value, float):
        return _plain_float(value)
    if not isinstance(value, (list, tuple, dict)):
        raise _Refusal(TypeError, type(value).__name__)
    if depth == MAX_DEPTH:
        raise _Refusal(ValueError, f"nested deeper than {MAX_DEPTH} levels")
    return _plain_dict(value, depth + 1) if isinstance(value, dict) else _plain_list(value, depth + 1)


def _plain_list(value: list[object] | tuple[object, ...], depth: int) -> list[JsonValue]:
    plain: list[JsonValue] = []
    for index, item in enumerate(value):
        try:
            plain.append(_plain(item, depth))
        except _Refusal as refusal:
            refusal.path.append(f"[{index}]")
            raise
    return plain


def _plain_dict(value: dict[object, object], depth: int) -> dict[str, JsonValue]:
    plain: dict[str, JsonValue] = {}
    for key, item in value.items():
        text = _key_text(key)
        if text in plain:
            raise _Refusal(ValueError, f"two keys become {_shown_key(text)}")
        try:
            plain[text] = _plain(item, depth)
        except _Refusal as refusal:
            refusal.path.append(f".{text}" if _PLAIN_KEY.fullmatch(text) else f"[{_shown_key(text)}]")
            raise
    return plain


def _plain_text(value: str) -> str:
    # Called on the class, so that subclasses (StrEnum among them) give the text they carry.
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Refusal(ValueError, "text with a lone surrogate, which has no UTF-8") from None
    return text


def _plain_int(value: int) -> int:
    number = int.__int__(value)
    if not _MIN_INT <= number <= _MAX_INT:
        raise _Refusal(ValueError, f"integer of {number.bit_length()} bits, outside -2^63 to 2^64-1")
    return number


def _plain_float(value: float) -> float:
    number = float.__float__(value)
    if not math.isfinite(number):
        raise _Refusal(ValueError, f"{number!r} has no JSON")
    return number


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return _plain_text(key)
    if key is None:
        return "null"
    if key is True or key is False:
        return "true" if key else "false"
    if isinstance(key, int):
        return repr(_plain_int(key))
    if isinstance(key, float):
        return repr(_plain_float(key))
    raise _Refusal(TypeError, f"key of type {type(key).__name__}")


def _shown_key(text: str) -> str:
    return json.dumps(text if len(text) <= 64 else text[:61] + "...")
