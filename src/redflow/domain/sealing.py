"""How encrypted payloads are stored, and for which place each is encrypted.

    rf1:<origin>:<key id>:<base64>

No JSON text begins so, nor does a compressed payload, so no user's value can be taken for one. A payload is compressed
before it is encrypted. Scripts carry payloads from place to place as they are: an event's data becomes the input of a
subscriber's run and the value of a step that waits, a child's output its parent's step, a debounced run's input that of
the run it is merged into. Each is encrypted for the place where it was made, and its reader has to know that place:

- a step that waits knows its child's run id or the event's id and name; there the origin is ignored
- what becomes a run's input carries its origin: `r<run>`, `c<cron trigger>` or `e<event id>.<event name>` (base64). The
  run's id is made of its trigger and tick, or of its event and trigger, which is what the origin is checked against.
- everything else is read where it was written; its origin is empty.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

from redflow.codec import BlindedKind, PayloadCodec, PayloadContext, PayloadKind
from redflow.domain.event import EventRef, event_ref
from redflow.domain.payload import SEALED_MARK, sealed_key_id
from redflow.domain.run import cron_run_id, public_run_id, stored_run_id
from redflow.domain.shards import shard_of_run
from redflow.domain.step import STORED_APART, ChildRef, StepRecord, child_ref
from redflow.errors import PayloadDecodeError

_PLAIN_IS_FINE: Final[frozenset[PayloadKind]] = frozenset({"error", "step_error"})
"""Scripts make errors of their own (a time-out, say), which hold nothing of a user's."""


class Vault:
    """Encrypts and decrypts the payloads of one prefix.

    Args:
        codec: does it.
        prefix: of all keys.
    """

    __slots__ = ("_codec", "_prefix")

    def __init__(self, codec: PayloadCodec, prefix: str) -> None:
        self._codec = codec
        self._prefix = prefix

    def seal(self, data: bytes, kind: PayloadKind, owner: str, name: str = "", origin: str = "") -> bytes:
        """A payload as it is stored; `data` is JSON, compressed or not."""
        key_id, body = self._codec.encode(data, PayloadContext(self._prefix, kind, owner, name))
        return b"%s%s:%s:%s" % (SEALED_MARK, origin.encode(), key_id.encode(), base64.b64encode(body))

    def seal_of_run(self, data: bytes, kind: PayloadKind, run_id: str) -> bytes:
        """The output or error of a run, by its stored id."""
        return self.seal(data, kind, public_run_id(run_id))

    def seal_input(self, data: bytes, run_id: str) -> bytes:
        """The input of a run that a client or a step starts."""
        return self.seal(data, "input", public_run_id(run_id), origin="r" + run_id)

    def seal_event(self, data: bytes, event_id: str, name: str) -> bytes:
        """The data of an event."""
        return self.seal(data, "event", event_id, name, f"e{_as_text(event_id)}.{_as_text(name)}")

    def seal_cron(self, data: bytes, trigger: str) -> bytes:
        """The input of a cron trigger's runs."""
        return self.seal(data, "cron", trigger, origin="c" + trigger)

    def open(self, stored: bytes, kind: PayloadKind, owner: str, name: str = "") -> bytes:
        """What `seal` was given for this place.

        Raises:
            PayloadDecodeError
        """
        if not stored.startswith(SEALED_MARK):
            return self._plain(stored, kind, owner)
        _origin, key_id, body = _parts(stored)
        return self._codec.decode(key_id, body, PayloadContext(self._prefix, kind, owner, name))

    def open_of_run(self, stored: bytes, kind: PayloadKind, run_id: str) -> bytes:
        """The output or error of a run, by its stored id."""
        return self.open(stored, kind, public_run_id(run_id))

    def open_input(
        self, stored: bytes, run_id: str, handed_in_by: str = "", triggers: Sequence[str] | None = None
    ) -> bytes:
        """The input of a run.

        Args:
            stored: as the record has it.
            run_id: stored id of the run.
            handed_in_by: stored id of the run whose input a debounced run has taken over; "" for none.
            triggers: ids of the event triggers of its workflow; None: it isn't checked whether the event that the
                input names started this run.

        Raises:
            PayloadDecodeError
        """
        if not stored.startswith(SEALED_MARK):
            return self._plain(stored, "input", public_run_id(run_id))
        origin, key_id, body = _parts(stored)
        place = self._origin_of(origin, handed_in_by or run_id, triggers)
        if place is None:
            raise PayloadDecodeError(
                f"the input of {public_run_id(run_id)} was moved there: it is encrypted for {_shown(origin)}",
                key_id=key_id,
            )
        return self._codec.decode(key_id, body, place)

    def _origin_of(self, origin: str, run_id: str, triggers: Sequence[str] | None) -> PayloadContext | None:
        """The place an input was encrypted for; None if a run of this id can't have got its input there."""
        what, rest = origin[:1], origin[1:]
        if what == "r" and rest == run_id:
            return PayloadContext(self._prefix, "input", public_run_id(run_id))
        if what == "c" and cron_run_id(rest, int(run_id[:12], 16), shard_of_run(run_id)) == run_id:
            return PayloadContext(self._prefix, "cron", rest)
        if what == "e":
            event_id, name = _event_of(rest)
            if triggers is None or any(_is_delivery(run_id, event_id, trigger) for trigger in triggers):
                return PayloadContext(self._prefix, "event", event_id, name)
        return None

    def blind(self, kind: BlindedKind, text: str) -> str:
        """What the server is told in place of a key that it only compares."""
        return self._codec.blind(kind, text, self._prefix)

    def _plain(self, stored: bytes, kind: PayloadKind, owner: str) -> bytes:
        if self._codec.require_encrypted and kind not in _PLAIN_IS_FINE and not _made_by_script(stored, kind):
            raise PayloadDecodeError(
                f"the {kind} of {owner[:80]!r} is in plain text, and the codec requires encryption"
            )
        return stored


class StepSeals:
    """Encrypts and decrypts the steps of one run, as its journal writes and reads them.

    What came from another place, a child's output or an event's data, is kept as it came and written as it came.

    Args:
        vault: of the prefix.
        run_id: the run's id, as users see it.
    """

    __slots__ = ("_came", "_run_id", "_vault")

    def __init__(self, vault: Vault, run_id: str) -> None:
        self._vault = vault
        self._run_id = run_id
        self._came: dict[str, bytes] = {}

    def opened(self, step: StepRecord) -> StepRecord:
        """The step, its payload decrypted in place.

        Raises:
            PayloadDecodeError, ValueError: it can't be, or it is none.
        """
        content = _content_of(step)
        if content is None or content == STORED_APART:
            return step
        if _came_from_elsewhere(step):
            self._came[step.name] = content
        step.payload = _with_content(step, self.open_content(step, content))
        return step

    def open_content(self, step: StepRecord, content: bytes) -> bytes:
        """A step's output, error, child's end or event's data, from wherever it is stored.

        Raises:
            PayloadDecodeError
        """
        if step.kind == "event":
            ref = event_ref(step.payload)
            return self._vault.open(content, "event", ref.event_id, ref.event)
        if step.kind == "child" and step.status in ("running", "succeeded"):
            child = child_ref(step.payload)
            return self._vault.open_of_run(content, "output" if child.end == "S" else "error", child.run_id)
        return self._vault.open(content, _own_kind(step), self._run_id, step.name)

    def sealed(self, step: StepRecord) -> bytes:
        """The payload of a step as it is stored; the step itself stays as it is."""
        content = _content_of(step)
        if content is None or content == STORED_APART:
            return step.payload
        if _came_from_elsewhere(step):
            return _with_content(step, self._came.get(step.name, content))
        return _with_content(step, self._vault.seal(content, _own_kind(step), self._run_id, step.name))


def _content_of(step: StepRecord) -> bytes | None:
    """What of a step is a user's: its output, error, child's end or event's data; None if there is nothing yet."""
    if step.kind == "child" and step.payload:
        return child_ref(step.payload).content or None
    if step.kind == "event" and step.payload:
        return event_ref(step.payload).data or None
    if step.status == "running" or (step.kind == "sleep" and step.status == "succeeded"):
        return None
    return step.payload or None


def _own_kind(step: StepRecord) -> PayloadKind:
    return "step_output" if step.status == "succeeded" else "step_error"


def _came_from_elsewhere(step: StepRecord) -> bool:
    return step.kind == "event" or (step.kind == "child" and step.status in ("running", "succeeded"))


def _with_content(step: StepRecord, content: bytes) -> bytes:
    ref: ChildRef | EventRef
    if step.kind == "child" and step.payload:
        ref = child_ref(step.payload)
        ref.content = content
        return ref.packed()
    if step.kind == "event" and step.payload:
        ref = event_ref(step.payload)
        ref.data = content
        return ref.packed()
    return content


def _parts(stored: bytes) -> tuple[str, str, bytes]:
    """Origin, id of the key and encrypted bytes.

    Raises:
        PayloadDecodeError: it isn't of that form.
    """
    try:
        _mark, origin, key_id, body = stored.split(b":", 3)
        return origin.decode(), key_id.decode(), base64.b64decode(body, validate=True)
    except ValueError:
        raise PayloadDecodeError("an encrypted payload was changed", key_id=sealed_key_id(stored)) from None


def _is_delivery(run_id: str, event_id: str, trigger: str) -> bool:
    """Whether the id of a run is that of an event's delivery to a trigger; see delivery_run_id.lua."""
    return hashlib.sha1(f"{event_id} {trigger}".encode(), usedforsecurity=False).hexdigest()[:11] == run_id[21:]


def _made_by_script(stored: bytes, kind: PayloadKind) -> bool:
    """Whether it is the id of a child, which scripts write as the output of the step that started it."""
    if kind != "step_output" or not stored.startswith(b'"run_') or len(stored) != 42:
        return False
    return stored_run_id(stored[1:-1].decode("ascii", "replace")) is not None


def _as_text(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _event_of(origin: str) -> tuple[str, str]:
    """Id and name of the event of an origin; it is checked by decrypting, so one that is broken is just another."""
    event_id, _, name = origin.partition(".")
    return _from_text(event_id), _from_text(name)


def _from_text(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "replace")
    except ValueError:
        return ""


def _shown(origin: str) -> str:
    if origin[:1] == "r" and len(origin) == 33:
        return public_run_id(origin[1:])
    if origin[:1] == "e":
        return f"event {_event_of(origin[1:])[0][:80]!r}"
    return f"cron trigger {origin[1:][:40]!r}" if origin[:1] == "c" else "another place"
