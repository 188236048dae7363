"""Reads a run's record: what users see of it (RunState, StepState, AttemptTrace), and what an attempt needs.

A record with a broken field never takes others down: the field is left out and logged by its run and name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, NotRequired, TypedDict

import orjson

from redflow.domain.event import event_ref
from redflow.domain.outcome import Retry
from redflow.domain.payload import decode, unpack
from redflow.domain.run import public_run_id
from redflow.domain.sealing import StepSeals
from redflow.domain.step import FIELD_PREFIX, ChildRef, StepRecord, child_ref, pack_header, unpack_step
from redflow.engines.redis.runs import ClaimedRun
from redflow.errors import CanceledError, PayloadDecodeError, PayloadKeyMissingError, SerializedError, make_error_json
from redflow.execution.journal import Claim
from redflow.types import AttemptTrace, JsonData, ListedRun, RunState, RunStatus, StepState, StepTrace

log = logging.getLogger("redflow")

Record = Mapping[bytes, bytes]

HEADER_FIELDS: Final = (
    *(
        "w",
        "q",
        "s",
        "a",
        "m",
        "c",
        "t",
        "f",
        "d",
        "b",
        "cr",
        "cw",
        "p",
        "mi",
        "rf",
        "tl",
        "pr",
        "ta",
        "di",
        "i",
        "o",
        "e",
    ),
)
"""The fields of `get_run`, in the order they are asked for."""

_STEP_PREFIX: Final = FIELD_PREFIX.encode()
_STATUSES: Final[dict[bytes, RunStatus]] = {
    b"scheduled": "scheduled",
    b"queued": "queued",
    b"running": "running",
    b"succeeded": "succeeded",
    b"failed": "failed",
    b"canceled": "canceled",
}


def claim_of(run: ClaimedRun) -> Claim:
    """A claimed run as an attempt needs it."""
    record, run_id = run.record, run.lease.run_id
    created_at = int(record[b"c"])
    return Claim(
        public_run_id(run_id),
        record[b"w"].decode(),
        record[b"q"].decode(),
        run.attempt,
        max_attempts=int(record.get(b"m", b"3")),
        created_at=created_at,
        input_json=record[b"i"],
        steps=steps_of(record, run_id) if len(record) > 6 else {},
        decided_failure=record.get(b"z"),
        started_at=int(record.get(b"b") or record.get(b"t") or created_at),
        unpaid=b"rb" in record and b"ad" not in record,
    )


def steps_of(record: Record, run_id: str) -> dict[str, StepRecord]:
    """The steps of a record, by name."""
    created_at = int(record[b"c"])
    steps: dict[str, StepRecord] = {}
    for field, packed in record.items():
        if field.startswith(_STEP_PREFIX):
            name = field[len(_STEP_PREFIX) :].decode(errors="replace")
            try:
                steps[name] = unpack_step(name, packed, created_at)
            except ValueError as exc:
                log.error("run %s: %s", run_id, exc)
    return steps


def status_of(raw: bytes) -> RunStatus:
    """A stored status.

    Raises:
        ValueError: it is none.
    """
    try:
        return _STATUSES[raw]
    except KeyError:
        raise ValueError(f"unknown status {raw[:40]!r}") from None


def stored_json(raw: bytes) -> JsonData:
    """A stored payload as users see it."""
    return decode(unpack(raw))


def stored_error(raw: bytes) -> SerializedError:
    """A stored error: plain data, nothing is built by a name in it."""
    error: SerializedError = decode(unpack(raw))  # type: ignore[assignment] # reason: see docs/internals/typing-allowlist
    return error


def listed_run(run_id: str, record: Record) -> ListedRun:
    """What `list_runs` and `search_runs` give of a run."""
    listed: ListedRun = {
        "id": public_run_id(run_id),
        "workflow": text_of(record, b"w"),
        "queue": text_of(record, b"q"),
        "status": status_of(record[b"s"]),
        "created_at": _number(record, b"c", run_id) or 0,
        "attempt": _number(record, b"a", run_id) or 0,
        "max_attempts": 3 if (most := _number(record, b"m", run_id)) is None else most,
    }
    if b"e" in record:
        listed["error"] = error_or_remark(record[b"e"], run_id)
    if (at := _number(record, b"d", run_id)) is not None:
        listed["available_at"] = at
    if (at := _number(record, b"t", run_id)) is not None:
        listed["started_at"] = at
    if (at := _number(record, b"f", run_id)) is not None:
        listed["finished_at"] = at
    if b"p" in record:
        listed["parent_run_id"] = text_of(record, b"p")
    if (priority := _number(record, b"pr", run_id)) is not None:
        listed["priority"] = priority
    if (at := _number(record, b"ta", run_id)) is not None:
        listed["timeout_at"] = at
    return listed


def text_of(record: Record, field: bytes) -> str:
    """A text of a record; what is no UTF-8 in it is replaced, and one that is missing is empty."""
    return record.get(field, b"").decode(errors="replace")


def _number(record: Record, field: bytes, run_id: str) -> int | None:
    """A whole number of a record; None if it is missing, or broken, which is logged."""
    raw = record.get(field)
    if raw is None:
        return None
    try:
        return int(raw)
    except ValueError:
        log.error("run %s: its field %s is broken and left out", run_id, field.decode())
        return None


def _json_or_reason(raw: bytes | None, what: str, run_id: str, *, raises: bool) -> tuple[JsonData, str]:
    """A payload of a record and ""; or None for one that is broken, which is logged, and why.

    Raises:
        PayloadKeyMissingError: nothing is broken, the reader lacks a key; unless it `raises` nothing.
    """
    try:
        return (None, "") if raw is None else (stored_json(raw), "")
    except PayloadDecodeError as exc:
        if raises and isinstance(exc, PayloadKeyMissingError):
            raise
        return None, str(exc)
    except ValueError:
        log.error("run %s: its %s is broken and left out", run_id, what)
        return None, f"the stored {what} is broken"


def error_or_remark(raw: bytes, run_id: str) -> SerializedError:
    """A stored error; one that is broken is told to be so."""
    error: SerializedError | None
    try:
        error = stored_error(raw)
    except PayloadDecodeError as exc:
        return {"name": type(exc).__name__, "message": str(exc), "kind": exc.kind}
    except ValueError:
        error = None
    if isinstance(error, dict):
        return error
    log.error("run %s: a stored error of it is broken", run_id)
    return {"name": "RedflowError", "message": "the stored error is broken", "kind": "error"}


class _Details(TypedDict):
    """What `get_run` gives beyond the lists."""

    input: JsonData
    input_error: NotRequired[str]
    output: NotRequired[JsonData]
    output_error: NotRequired[str]
    cancel_requested_at: NotRequired[int]
    cancel_reason: NotRequired[str]
    merged_into: NotRequired[str]
    rerun_of: NotRequired[str]


def run_state(run_id: str, record: Record, *, raises: bool = True) -> RunState:
    """What `get_run` gives.

    Args:
        run_id: stored id of the run.
        record: its fields.
        raises: whether a key that is missing is an error; if not, it is told why there is no input or output.

    Raises:
        PayloadKeyMissingError
    """
    value, reason = _json_or_reason(record.get(b"i"), "input", run_id, raises=raises)
    more: _Details = {"input": value}
    if reason:
        more["input_error"] = reason
    if b"o" in record:
        more["output"], reason = _json_or_reason(record[b"o"], "output", run_id, raises=raises)
        if reason:
            more["output_error"] = reason
    if (at := _number(record, b"cr", run_id)) is not None:
        more["cancel_requested_at"] = at
    if b"cw" in record:
        more["cancel_reason"] = text_of(record, b"cw")
    if b"mi" in record:
        more["merged_into"] = text_of(record, b"mi")
    if b"rf" in record:
        more["rerun_of"] = text_of(record, b"rf")
    return {**listed_run(run_id, record), **more}


def step_states(record: Record, run_id: str) -> list[StepState]:
    """What `get_run_steps` gives, by seq."""
    states: list[StepState] = []
    for step in sorted(_ended_with_run(record, run_id), key=lambda step: step.seq):
        state: StepState = {
            "name": step.name,
            "status": step.status,
            "seq": step.seq,
            "attempt": step.attempt,
            "started_at": step.started_at,
        }
        if step.finished_at is not None:
            state["finished_at"] = step.finished_at
        if step.kind == "event":
            ref = event_ref(step.payload)
            state["wait"] = ref.wait_info()
            if step.status == "running":
                state["wait_until_at"] = ref.deadline
        if step.kind == "child":
            state["child_run_id"] = public_run_id(child_ref(step.payload).run_id)
        if step.status == "succeeded":
            state["output"] = stored_json(_content(step))
        elif step.status != "running":
            state["error"] = stored_error(_content(step))
        elif step.due_at is not None:
            state["wait_until_at"] = step.due_at
        states.append(state)
    return states


def _ended_with_run(record: Record, run_id: str) -> list[StepRecord]:
    """The steps; those that were still open when the run ended (it was canceled while asleep, say) ended with it."""
    steps = list(steps_of(record, run_id).values())
    if b"f" not in record:
        return steps
    at = int(record[b"f"])
    return [
        step if step.status != "running" else step.finished("canceled", at, step.attempt, _canceled_payload(step))
        for step in steps
    ]


def _canceled_payload(step: StepRecord) -> bytes:
    error = _canceled_error(step.name)
    if step.kind == "event":
        return step.payload
    if step.kind != "child":
        return error
    ref = child_ref(step.payload)
    return ChildRef("C", ref.run_id, ref.generation, ref.own, error).packed()


def _canceled_error(name: str) -> bytes:
    return make_error_json(CanceledError(f"Step canceled: {name}")).encode()


def _content(step: StepRecord) -> bytes:
    """The output or error of an ended step, as stored JSON."""
    if step.kind == "child":
        return child_ref(step.payload).content
    return _event_output(step) if step.kind == "event" else step.payload


def _event_output(step: StepRecord) -> bytes:
    ref = event_ref(step.payload)
    if step.status == "canceled":
        return _canceled_error(step.name)
    if ref.end != "E":
        return b"null"
    return orjson.dumps({"id": ref.event_id, "name": ref.event, "data": stored_json(ref.data), "ts": ref.ts})


def attempt_traces(record: Record, run_id: str) -> list[AttemptTrace]:
    """What `get_run_attempts` gives.

    A failed attempt left a trace of its own. The last one is told by the run and the steps it wrote.
    """
    steps = {step.name: step for step in _ended_with_run(record, run_id)}
    last = int(record.get(b"a", b"0"))
    traces: list[AttemptTrace] = []
    for number in range(1, last + 1):
        raw = record.get(f"a:{number}".encode())
        if raw is not None:
            traces.append(_failed_attempt(number, raw, steps))
    if b"f" in record and last > 0 and f"a:{last}".encode() not in record:
        traces.append(_last_attempt(last, record, steps))
    return traces


def pack_trace(outcome: Retry, started_at: int, sealed: StepSeals | None = None) -> bytes:
    """What is kept of a failed attempt beyond the record: its error, and the steps that the next one overwrites.

    Args:
        outcome: how it ended, its error encrypted if steps are to be.
        started_at: epoch ms.
        sealed: encrypts the steps; None: nothing does.
    """
    content = _uncompressed if sealed is None else sealed.sealed
    steps = [[step.name, pack_header(step, 0), content(step).decode()] for step in outcome.steps]
    return orjson.dumps([started_at, unpack(outcome.error_json).decode(), steps])


def _uncompressed(step: StepRecord) -> bytes:
    """The payload of an ended step as text."""
    if step.kind == "event":
        return step.payload
    if step.kind != "child":
        return unpack(step.payload)
    ref = child_ref(step.payload)
    return ChildRef(ref.end, ref.run_id, ref.generation, ref.own, unpack(ref.content)).packed()


def _failed_attempt(number: int, raw: bytes, steps: Mapping[str, StepRecord]) -> AttemptTrace:
    finished, text = raw.split(b" ", 1)
    started_at, error_json, kept = orjson.loads(text)
    ended = [step for step in steps.values() if step.attempt == number and step.status == "succeeded"]
    ended += [unpack_step(name, header.encode() + payload.encode(), 0) for name, header, payload in kept]
    return {
        "attempt": number,
        "status": "failed",
        "started_at": started_at,
        "finished_at": int(finished),
        "steps": _step_traces(ended),
        "error": orjson.loads(error_json),
    }


def _last_attempt(number: int, record: Record, steps: Mapping[str, StepRecord]) -> AttemptTrace:
    status = status_of(record[b"s"])
    assert status in ("succeeded", "failed", "canceled")
    trace: AttemptTrace = {
        "attempt": number,
        "status": status,
        "started_at": int(record.get(b"b") or record[b"t"]),
        "finished_at": int(record[b"f"]),
        "steps": _step_traces([s for s in steps.values() if s.attempt == number and s.status != "running"]),
    }
    if status == "succeeded":
        trace["output"] = stored_json(record[b"o"])
    elif status == "failed":
        trace["error"] = stored_error(record[b"e"])
    return trace


def _step_traces(steps: list[StepRecord]) -> list[StepTrace]:
    traces: list[StepTrace] = []
    for step in sorted(steps, key=lambda step: step.seq):
        trace: StepTrace = {
            "name": step.name,
            "seq": step.seq,
            "status": step.status,
            "attempt": step.attempt,
            "started_at": step.started_at,
            "finished_at": step.finished_at if step.finished_at is not None else step.started_at,
        }
        if step.kind == "event":
            trace["wait"] = event_ref(step.payload).wait_info()
        if step.status == "succeeded":
            trace["output"] = stored_json(_content(step))
        else:
            trace["error"] = stored_error(_content(step))
        traces.append(trace)
    return traces
