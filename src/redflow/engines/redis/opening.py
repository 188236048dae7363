"""Decrypts records and claims, so that what reads them need not know that payloads may be encrypted."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Final

import orjson

from redflow.domain.event import event_ref
from redflow.domain.payload import raise_if_sealed, unpack, unreadable
from redflow.domain.run import public_run_id, stored_run_id
from redflow.domain.sealing import StepSeals, Vault
from redflow.domain.step import FIELD_PREFIX, STORED_APART, child_ref, pack_header, unpack_step
from redflow.engines.redis.runs import RunScripts
from redflow.errors import PayloadDecodeError, PayloadKeyMissingError
from redflow.execution.journal import Claim

log = logging.getLogger("redflow")

_RUN_ID: Final = re.compile(rb"[0-9a-f]{32}")
_STEP: Final = FIELD_PREFIX.encode()


def opened_record(vault: Vault, run_id: str, record: dict[bytes, bytes], *, raises: bool = True) -> dict[bytes, bytes]:
    """A run's record with its payloads decrypted.

    Args:
        vault: of the prefix.
        run_id: stored id of the run.
        record: its fields, what is stored apart put in its place.
        raises: whether a key that is missing is an error, unless it is the error's.

    Raises:
        PayloadKeyMissingError
        PayloadDecodeError: a step or a trace was tampered with; for an input, output or error it stands why it can't be
            read.
    """
    opened = dict(record)
    for field, value in record.items():
        try:
            opened[field] = _opened_field(vault, run_id, record, field, value)
        except PayloadDecodeError as exc:
            missing = isinstance(exc, PayloadKeyMissingError)
            if field not in (b"i", b"o", b"e") or (missing and raises and field != b"e"):
                raise
            if not missing:
                log.error("run %s: %s", run_id, exc)
            opened[field] = unreadable(exc)
    return opened


def _opened_field(vault: Vault, run_id: str, record: dict[bytes, bytes], field: bytes, value: bytes) -> bytes:
    if field == b"i":
        return vault.open_input(value, run_id, handed_in_by(record.get(b"di")))
    if field == b"o":
        return vault.open_of_run(value, "output", run_id)
    if field == b"e":
        return vault.open_of_run(value, "error", run_id)
    if field.startswith(_STEP):
        return _opened_step(
            StepSeals(vault, public_run_id(run_id)), field[len(_STEP) :].decode(errors="replace"), value
        )
    return _opened_trace(vault, run_id, value) if field.startswith(b"a:") else value


def _opened_step(seals: StepSeals, name: str, packed: bytes) -> bytes:
    try:
        step = unpack_step(name, packed, 0)
    except ValueError:
        return packed  # its reader says that it is broken
    return pack_header(step, 0).encode() + seals.opened(step).payload


def _opened_trace(vault: Vault, run_id: str, raw: bytes) -> bytes:
    seals = StepSeals(vault, public_run_id(run_id))
    finished, text = raw.split(b" ", 1)
    started_at, error_json, kept = orjson.loads(text)
    error = unpack(vault.open_of_run(error_json.encode(), "error", run_id)).decode()
    steps = [[name, header, _step_text(seals, name, header, payload)] for name, header, payload in kept]
    return finished + b" " + orjson.dumps([started_at, error, steps])


def _step_text(seals: StepSeals, name: str, header: str, payload: str) -> str:
    """The payload of a step in a trace; compressed ones are expanded, since a trace is text."""
    step = seals.opened(unpack_step(name, header.encode() + payload.encode(), 0))
    if step.kind == "child":
        child = child_ref(step.payload)
        child.content = unpack(child.content)
        return child.packed().decode()
    if step.kind == "event":
        event = event_ref(step.payload)
        event.data = unpack(event.data)
        return event.packed().decode()
    return unpack(step.payload).decode()


def opened_input(vault: Vault | None, run_id: str, stored: bytes, taken_over: bytes | None) -> bytes:
    """The input of a run for whoever starts another one with it.

    Args:
        vault: of the prefix; None: this program has no codec.
        run_id: stored id of the run.
        stored: its input, from wherever it is stored.
        taken_over: field `di` of its record.

    Raises:
        PayloadDecodeError
    """
    if vault is not None:
        return vault.open_input(stored, run_id, handed_in_by(taken_over))
    raise_if_sealed(stored)
    return stored


def opened_cron_input(vault: Vault | None, trigger: str, stored: bytes) -> bytes:
    """The input of a cron trigger.

    Raises:
        PayloadDecodeError
    """
    if vault is not None:
        return vault.open(stored, "cron", trigger)
    raise_if_sealed(stored)
    return stored


def handed_in_by(raw: bytes | None) -> str:
    """The run whose input a debounced run took over, from the field `di` of its record; "" for none."""
    run_id = b"" if raw is None else raw.split(b" ")[-1]
    return run_id.decode() if _RUN_ID.fullmatch(run_id) else ""


async def open_claim(
    vault: Vault, claim: Claim, scripts: RunScripts, seals: StepSeals, triggers: Sequence[str]
) -> None:
    """Decrypt the input, the steps and the decided failure of a claimed run in place.

    Args:
        vault: of the prefix.
        claim: the run.
        scripts: of its shard.
        seals: of its journal.
        triggers: ids of the event triggers of its workflow.

    Raises:
        PayloadDecodeError
    """
    run_id = stored_run_id(claim.run_id) or ""
    for step in claim.steps.values():
        seals.opened(step)
    if claim.decided_failure is not None:
        claim.decided_failure = vault.open_of_run(claim.decided_failure, "error", run_id)
    if claim.input_json == STORED_APART:
        return
    stored = claim.input_json
    try:
        claim.input_json = vault.open_input(stored, run_id, triggers=triggers)
    except PayloadKeyMissingError:
        raise
    except PayloadDecodeError:
        taken_over = await scripts.connection.read("HGET", scripts.keys.run(run_id), "di")
        if not isinstance(taken_over, bytes):
            raise
        claim.input_json = vault.open_input(stored, run_id, handed_in_by(taken_over), triggers)
