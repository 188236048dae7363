"""Encrypts payloads before they reach the server: the protocol of a codec, and the one that is shipped.

A codec sees each input, output, error with its stack, event and step value as bytes, together with the place where it
belongs. `AesGcmCodec` binds a ciphertext to that place, so that it can't be passed off as another run's, step's or
event's. It needs the package `cryptography`: pip install "redflow[crypto]".
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from redflow.errors import MissingExtraError, PayloadDecodeError, PayloadKeyMissingError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PayloadKind = Literal["input", "output", "error", "step_output", "step_error", "event", "cron"]
"""What a payload is: a run's input, output or error, a step's output or error, an event's data, a cron's input."""

BlindedKind = Literal["idempotency", "mutex", "throttle", "rate_limit", "debounce", "correlation", "fingerprint"]
"""What a text is that the server only compares. A fingerprint is a digest of an event's content."""

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_as_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PayloadContext:
    """The place where a payload belongs: what it is encrypted for.

    Attributes:
        prefix: of all keys.
        kind: what it is.
        owner: id of the run, of the event, or of the cron trigger.
        name: of the step or of the event; "" for the others.
    """

    prefix: str
    kind: PayloadKind
    owner: str
    name: str = ""

    def to_bytes(self) -> bytes:
        """The place as bytes, the same for the same place and for no other: the additional data of a cipher."""
        return _as_json(["redflow payload 1", self.prefix, self.kind, self.owner, self.name]).encode()


class PayloadCodec(Protocol):
    """Turns payloads into what is stored, and back. It is called for each payload, so it must not block.

    Attributes:
        require_encrypted: whether a payload that is stored in plain text is refused.
    """

    @property
    def require_encrypted(self) -> bool:
        """Whether a payload that is stored in plain text is refused."""
        ...

    def encode(self, data: bytes, context: PayloadContext) -> tuple[str, bytes]:
        """The id of the key (letters, digits, `.`, `_` and `-`) and the encrypted bytes."""
        ...

    def decode(self, key_id: str, data: bytes, context: PayloadContext) -> bytes:
        """What `encode` was given.

        Raises:
            PayloadKeyMissingError: there is no key of that id.
            PayloadDecodeError: the bytes were changed, or belong to another place.
        """
        ...

    def blind(self, kind: BlindedKind, text: str, prefix: str) -> str:
        """What stands for a text that the server only compares: the same for the same text, or the text itself.

        A fingerprint should never come back as it is: short content could be guessed from it.
        """
        ...


class AesGcmCodec:
    """AES-256-GCM with keys that have ids, so that they can be replaced one after the other.

    Each payload is encrypted with a key of its own, derived by HMAC-SHA256 from the named key and the payload's
    place; so the number of payloads under one named key has no practical limit. The place is the additional data, too.

    Args:
        keys: id -> 32 random bytes. All of them decode; an id is stored with each payload in plain text.
        current: id of the key that encodes.
        lookup_key: at least 32 random bytes; with it idempotency, mutex, throttle, rate limit, debounce and correlation
            keys are stored as HMAC-SHA256. The same in all programs of a prefix, for good: another one makes all keys
            other keys.
        require_encrypted: refuse inputs, outputs, step values and events that are stored in plain text. Without it
            plain ones are read, as they were written before; whoever may write to Redis can then replace any.

    Raises:
        MissingExtraError: the package `cryptography` is not installed.
        ValueError: a key or an id is none; the message never shows a key.

    Example:
        >>> codec = AesGcmCodec(keys={"2026-11": secrets.token_bytes(32)}, current="2026-11")
        >>> codec
        AesGcmCodec(keys=['2026-11'], current='2026-11', blinds=False)
    """

    __slots__ = ("_cipher", "_current", "_invalid_tag", "_keys", "_lookup_key", "_require_encrypted")

    def __init__(
        self,
        *,
        keys: Mapping[str, bytes],
        current: str,
        lookup_key: bytes | None = None,
        require_encrypted: bool = False,
    ) -> None:
        self._cipher, self._invalid_tag = _cryptography()
        self._keys = {_checked_id(key_id): _checked_key(key, f"key {key_id!r}") for key_id, key in keys.items()}
        if current not in self._keys:
            raise ValueError(
                f"current={current!r} is none of the keys: {', '.join(sorted(self._keys)) or 'there are none'}"
            )
        self._current = current
        self._lookup_key = None if lookup_key is None else _checked_lookup_key(lookup_key)
        self._require_encrypted = require_encrypted

    @classmethod
    def from_json(cls, text: str, source: str = "the text") -> AesGcmCodec:
        """A codec from a JSON object: `{"current": id, "keys": {id: base64}, "lookup_key": base64}`.

        `lookup_key` and `require_encrypted` (true or false) may be missing.

        Args:
            text: the JSON.
            source: where it is from, for errors.

        Raises:
            ValueError: it isn't of that form; the message never shows what it holds.
        """
        try:
            given: object = json.loads(text)
        except ValueError:
            raise ValueError(f"{source} is no JSON") from None
        if not isinstance(given, dict) or not isinstance(given.get("keys"), dict):
            raise ValueError(f'{source} must be a JSON object with "current" and "keys"')
        unknown = sorted(str(name) for name in given.keys() - {"current", "keys", "lookup_key", "require_encrypted"})
        if unknown:
            raise ValueError(f"{source} has unknown fields: {', '.join(unknown)[:100]}")
        if not isinstance(given.get("current"), str):
            raise ValueError(f'{source} needs "current", the id of the key that encodes')
        require_encrypted = given.get("require_encrypted", False)
        if not isinstance(require_encrypted, bool):
            raise ValueError(f'{source}: "require_encrypted" must be true or false')
        lookup_key = given.get("lookup_key")
        return cls(
            keys={key_id: _from_base64(key, f"{source}: key {key_id!r}") for key_id, key in given["keys"].items()},
            current=given["current"],
            lookup_key=None if lookup_key is None else _from_base64(lookup_key, f'{source}: "lookup_key"'),
            require_encrypted=require_encrypted,
        )

    def __repr__(self) -> str:
        blinds = self._lookup_key is not None
        return f"AesGcmCodec(keys={sorted(self._keys)!r}, current={self._current!r}, blinds={blinds})"

    def __reduce__(self) -> str:
        raise TypeError("an AesGcmCodec holds keys and can't be pickled")

    @property
    def require_encrypted(self) -> bool:
        """Whether a payload that is stored in plain text is refused."""
        return self._require_encrypted

    def encode(self, data: bytes, context: PayloadContext) -> tuple[str, bytes]:
        """See `PayloadCodec.encode`: 12 random bytes, the ciphertext, and 16 bytes of tag."""
        place, nonce = context.to_bytes(), secrets.token_bytes(NONCE_BYTES)
        key = hmac.digest(self._keys[self._current], place, "sha256")
        return self._current, nonce + self._cipher(key).encrypt(nonce, data, place)

    def decode(self, key_id: str, data: bytes, context: PayloadContext) -> bytes:
        """See `PayloadCodec.decode`."""
        key = self._keys.get(key_id)
        if key is None:
            known = ", ".join(sorted(self._keys))
            raise PayloadKeyMissingError(
                f"a payload is encrypted with key {key_id[:64]!r}, which this program does not have (it has {known}): "
                f"add it to the keys of its AesGcmCodec",
                key_id=key_id,
            )
        place = context.to_bytes()
        try:
            return self._cipher(hmac.digest(key, place, "sha256")).decrypt(
                data[:NONCE_BYTES], data[NONCE_BYTES:], place
            )
        except (self._invalid_tag, ValueError):
            raise PayloadDecodeError(
                f"the {context.kind} of {context.owner[:80]!r}, encrypted with key {key_id!r}, was changed, or was "
                f"moved there from another place, or key {key_id!r} is another one here",
                key_id=key_id,
            ) from None

    def blind(self, kind: BlindedKind, text: str, prefix: str) -> str:
        """See `PayloadCodec.blind`: 43 characters of base64, where there is a `lookup_key`."""
        key = self._lookup_key
        if key is None:
            if kind != "fingerprint":
                return text
            key = hmac.digest(self._keys[self._current], b"redflow fingerprint 1", "sha256")
        place = _as_json(["redflow lookup 1", prefix, kind, text]).encode()
        return base64.urlsafe_b64encode(hmac.digest(key, place, "sha256")).rstrip(b"=").decode()


def _cryptography() -> tuple[type[AESGCM], type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as exc:
        raise MissingExtraError(
            'AesGcmCodec needs the package cryptography, which is not installed: pip install "redflow[crypto]"'
        ) from exc
    return AESGCM, InvalidTag


def _checked_id(key_id: object) -> str:
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise ValueError(
            f"a key's id must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit, "
            f"got {str(key_id)[:80]!r}"
        )
    return key_id


def _checked_key(key: object, what: str) -> bytes:
    if not isinstance(key, bytes):
        raise ValueError(f"{what} must be {KEY_BYTES} bytes, got {type(key).__name__}")
    if len(key) != KEY_BYTES:
        raise ValueError(f"{what} must be {KEY_BYTES} bytes, got {len(key)}")
    return key


def _checked_lookup_key(key: object) -> bytes:
    if not isinstance(key, bytes) or len(key) < KEY_BYTES:
        got = f"{len(key)}" if isinstance(key, bytes) else type(key).__name__
        raise ValueError(f"lookup_key must be at least {KEY_BYTES} bytes, got {got}")
    return key


def _from_base64(text: object, what: str) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    raise ValueError(f"{what} must be base64")
