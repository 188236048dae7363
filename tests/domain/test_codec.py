"""The shipped codec: what it gives back, what it refuses, and what it never shows."""

from __future__ import annotations

import base64
import builtins
import copy
import json
import pickle
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.codec import AesGcmCodec, BlindedKind, PayloadContext, PayloadKind
from redflow.domain.payload import decode
from redflow.errors import MissingExtraError, PayloadDecodeError, PayloadKeyMissingError

OLD, NEW, LOOKUP = bytes(range(32)), bytes(range(32, 64)), b"l" * 32

CODEC = AesGcmCodec(keys={"old": OLD, "new": NEW}, current="new", lookup_key=LOOKUP)
HERE = PayloadContext("p", "step_output", "run_1", "pay")

CONTEXTS = st.builds(PayloadContext, st.text(max_size=5), st.sampled_from(get_args(PayloadKind)), st.text(), st.text())


@given(st.binary(max_size=2000), CONTEXTS)
def test_what_was_encoded_comes_back(data: bytes, context: PayloadContext) -> None:
    key_id, body = CODEC.encode(data, context)
    assert key_id == "new"
    assert CODEC.decode(key_id, body, context) == data
    assert len(body) == len(data) + 28


@given(CONTEXTS, CONTEXTS)
def test_a_ciphertext_can_only_be_read_in_its_place(here: PayloadContext, there: PayloadContext) -> None:
    key_id, body = CODEC.encode(b"data", here)
    if here == there:
        assert CODEC.decode(key_id, body, there) == b"data"
        return
    with pytest.raises(PayloadDecodeError, match="moved"):
        CODEC.decode(key_id, body, there)


@given(st.binary(max_size=40), st.data())
def test_each_flipped_bit_is_seen(data: bytes, draw: st.DataObject) -> None:
    key_id, body = CODEC.encode(data, HERE)
    at = draw.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(PayloadDecodeError):
        CODEC.decode(key_id, bytes(changed), HERE)


@pytest.mark.parametrize("length", [0, 1, 11, 12, 27])
def test_a_ciphertext_that_is_too_short_is_refused(length: int) -> None:
    key_id, body = CODEC.encode(b"", HERE)
    with pytest.raises(PayloadDecodeError):
        CODEC.decode(key_id, body[:length], HERE)


def test_the_same_payload_never_looks_the_same() -> None:
    assert len({CODEC.encode(b"x", HERE)[1] for _ in range(100)}) == 100


def test_old_keys_decode_and_the_current_one_encodes() -> None:
    before = AesGcmCodec(keys={"old": OLD}, current="old")
    key_id, body = before.encode(b"x", HERE)
    assert CODEC.decode(key_id, body, HERE) == b"x"
    with pytest.raises(PayloadKeyMissingError, match=r"'new'.*it has old") as caught:
        before.decode(*CODEC.encode(b"x", HERE), HERE)
    assert caught.value.key_id == "new"


def test_another_key_of_the_same_id_does_not_decode() -> None:
    other = AesGcmCodec(keys={"new": OLD}, current="new")
    with pytest.raises(PayloadDecodeError, match="another one here"):
        other.decode(*CODEC.encode(b"x", HERE), HERE)


def test_blinded_keys_are_stable_and_tell_kinds_and_prefixes_apart() -> None:
    blinded = {CODEC.blind(kind, "order-17", prefix) for kind in get_args(BlindedKind) for prefix in ("p", "q")}
    assert len(blinded) == 14
    assert all(len(text) == 43 and "order" not in text for text in blinded)
    assert CODEC.blind("mutex", "order-17", "p") in blinded
    assert AesGcmCodec(keys={"k": OLD}, current="k", lookup_key=LOOKUP).blind("mutex", "order-17", "p") in blinded


def test_without_a_lookup_key_keys_stay_but_fingerprints_do_not() -> None:
    plain = AesGcmCodec(keys={"k": OLD}, current="k")
    assert plain.blind("mutex", "order-17", "p") == "order-17"
    assert plain.blind("fingerprint", "ab" * 32, "p") != "ab" * 32
    assert plain.blind("fingerprint", "ab" * 32, "p") == plain.blind("fingerprint", "ab" * 32, "p")


@pytest.mark.parametrize(
    ("keys", "current", "said"),
    [
        ({}, "a", "there are none"),
        ({"a": OLD}, "b", "none of the keys: a"),
        ({"a": OLD[:16]}, "a", "key 'a' must be 32 bytes, got 16"),
        ({"a": OLD.hex()}, "a", "key 'a' must be 32 bytes, got str"),
        ({"a:b": OLD}, "a:b", "a key's id must be"),
        ({"": OLD}, "", "a key's id must be"),
        ({"x" * 65: OLD}, "x" * 65, "a key's id must be"),
        ({"é": OLD}, "é", "a key's id must be"),
    ],
)
def test_bad_keys_are_refused_and_not_shown(keys: Mapping[str, Any], current: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        AesGcmCodec(keys=keys, current=current)
    assert OLD.hex()[:8] not in str(caught.value)


def test_a_short_lookup_key_is_refused() -> None:
    with pytest.raises(ValueError, match="lookup_key must be at least 32 bytes, got 31"):
        AesGcmCodec(keys={"a": OLD}, current="a", lookup_key=LOOKUP[:31])


def test_no_way_of_showing_it_shows_a_key() -> None:
    shown = f"{CODEC!r} {CODEC!s} {vars(type(CODEC))}"
    assert repr(CODEC) == "AesGcmCodec(keys=['new', 'old'], current='new', blinds=True)"
    for key in (OLD, NEW, LOOKUP):
        assert repr(key)[2:-1] not in shown
    for make in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="holds keys"):
            make(CODEC)


def test_keys_come_from_json() -> None:
    text = json.dumps(
        {
            "current": "a",
            "keys": {"a": base64.b64encode(OLD).decode()},
            "lookup_key": base64.b64encode(LOOKUP).decode(),
            "require_encrypted": True,
        }
    )
    codec = AesGcmCodec.from_json(text)
    assert codec.require_encrypted
    assert AesGcmCodec(keys={"a": OLD}, current="a").decode(*codec.encode(b"x", HERE), HERE) == b"x"
    assert codec.blind("mutex", "m", "p") == CODEC.blind("mutex", "m", "p")


SECRET = base64.b64encode(bytes(range(100, 132))).decode()  # the same in each process: it is in names of tests


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SECRET, "F is no JSON"),
        ("[]", "F must be a JSON object"),
        (f'{{"keys": {{"a": "{SECRET}"}}}}', 'F needs "current"'),
        (f'{{"current": "a", "keys": {{"a": "{SECRET}!"}}}}', "F: key 'a' must be base64"),
        (f'{{"current": "a", "keys": {{"a": 5}}, "x": "{SECRET}"}}', "F has unknown fields: x"),
        (f'{{"current": "a", "keys": {{"a": "{SECRET}"}}, "require_encrypted": 1}}', "true or false"),
        (f'{{"current": "a", "keys": {{"a": "{SECRET}"}}, "lookup_key": "ééé"}}', '"lookup_key" must be base64'),
    ],
)
def test_broken_json_is_refused_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        AesGcmCodec.from_json(text, "F")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> object:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r'pip install "redflow\[crypto\]"'):
        AesGcmCodec(keys={"a": OLD}, current="a")


def test_a_reader_without_a_codec_is_told_the_key() -> None:
    with pytest.raises(PayloadKeyMissingError, match=r"key '2026-11'.*no codec.*REDFLOW_CODEC_KEYS_FILE") as caught:
        decode(b"rf1:r0:2026-11:AAAA")
    assert caught.value.key_id == "2026-11"
    assert decode(b'"rf1:r0:2026-11:AAAA"') == "rf1:r0:2026-11:AAAA"  # a user's text is no ciphertext
