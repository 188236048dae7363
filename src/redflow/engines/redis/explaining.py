"""Reads what tells why a run is where it is, in one script call, and has it explained."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

import orjson

from redflow.domain.event import event_ref
from redflow.domain.explain import LiveWorker, OpenStep, RunFacts, explain
from redflow.domain.payload import decode, unpack
from redflow.domain.run import public_run_id, stored_run_id
from redflow.domain.sealing import Vault
from redflow.domain.step import FIELD_PREFIX, STORED_APART, StepRecord, child_ref, unpack_step
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.packing import PACKED, read_record
from redflow.engines.redis.pauses import pause_of
from redflow.engines.redis.records import status_of
from redflow.engines.redis.replies import Reply, as_bytes, as_int, as_list, as_text, readable, reading, time_or_none
from redflow.engines.redis.runs import SERVER_TIME
from redflow.engines.redis.scripts import verb
from redflow.errors import PayloadDecodeError
from redflow.types import RunExplanation

EXPLAIN = verb("explain_run", args="now, id", item="field (of the record to be read)")

_FIELDS: Final = (
    *("w", "q", "s", "a", "m", "c", "d", "f", "e", "r", "k", "cr", "cw", "mi", "dk", "mk", "ta", "z"),
    PACKED,
)
_HOLDER: Final = re.compile(rb"\w+")
_LONGEST_ERROR: Final = 300


class Explainer:
    """Explains runs of one prefix.

    Args:
        connection: to the server.
        keys: of the prefix.
        now: SERVER_TIME, or a time for tests, ms.
        vault: decrypts errors; None: nothing does.
    """

    def __init__(
        self, connection: Connection, keys: Keys, now: str | int = SERVER_TIME, vault: Vault | None = None
    ) -> None:
        self._connection = connection
        self._keys = keys
        self.now = now
        self._vault = vault

    async def explain(self, run_id: str) -> RunExplanation | None:
        """Why a run is where it is; None if there is none of that id."""
        with reading(f"run {run_id}"):
            facts = await self.facts(run_id)
        return None if facts is None else explain(facts)

    async def facts(self, run_id: str) -> RunFacts | None:
        """What there is to know about it; None if there is none of that id."""
        stored = stored_run_id(run_id)
        if stored is None:
            return None
        reply = await self._connection.call(EXPLAIN, self._keys.base, (self.now, stored, *_FIELDS))
        if reply is None:
            return None
        now, values, steps, place, workers, known, holders, limit, moves_at, paused = as_list(reply)
        record = {name: value for name, value in zip(_FIELDS, as_list(values), strict=True) if isinstance(value, bytes)}
        stands_in, rank, size = as_list(place)
        holder = _HOLDER.match(record.get("k", b"")) if record["s"] == b"running" else None
        return RunFacts(
            run_id=run_id,
            workflow=record["w"].decode(),
            queue=record["q"].decode(),
            status=status_of(record["s"]),
            now=as_int(now),
            attempt=int(record.get("a", b"0")),
            max_attempts=int(record.get("m", b"3")),
            created_at=int(record["c"]),
            available_at=int(record["d"]) if "d" in record else None,
            finished_at=int(record["f"]) if "f" in record else None,
            error=await self._error(stored, record),
            asleep="r" in record,
            holder=holder[0].decode() if holder else "",
            cancel_requested="cr" in record,
            cancel_reason=record.get("cw", b"").decode(),
            merged_into=record.get("mi", b"").decode(),
            debounced="dk" in record,
            mutex=record.get("mk", b"").decode(),
            place=as_text(stands_in),
            position=as_int(rank) + 1,
            size=as_int(size),
            moves_at=time_or_none(moves_at),
            steps=_open_steps(as_list(steps), int(record["c"])),
            timeout_at=int(record["ta"]) if "ta" in record else None,
            decided="z" in record,
            workers=_live_workers(as_list(workers)),
            known=sorted({as_text(name) for names in as_list(known) for name in as_list(names)} - {""}),
            holders=[
                (public_run_id(as_text(run)), as_text(workflow))
                for run, workflow in zip(as_list(holders)[::2], as_list(holders)[1::2], strict=True)
            ],
            limit=time_or_none(limit),
            queue_paused=pause_of(as_list(paused)[0]),
            workflow_paused=pause_of(as_list(paused)[1]),
        )

    async def _error(self, stored: str, record: dict[str, bytes]) -> str:
        """Name and message of a stored error."""
        packed = record.get("e", b"")
        if PACKED in record:
            packed = (await read_record(self._connection, self._keys, stored)).get(b"e", b"")
        if packed == STORED_APART:
            apart = await self._connection.read("HGET", self._keys.big(stored), "e")
            packed = apart if isinstance(apart, bytes) else b""
        if not packed:
            return ""
        try:
            if self._vault is not None:
                packed = self._vault.open_of_run(packed, "error", stored)
            error = decode(unpack(packed))
        except PayloadDecodeError as exc:
            return str(exc)[:_LONGEST_ERROR]
        if not isinstance(error, dict):
            return str(error)[:_LONGEST_ERROR]
        return f"{error.get('name')}: {error.get('message')}"[:_LONGEST_ERROR]


def _open_steps(flat: list[Reply], created_at: int) -> list[OpenStep]:
    steps: list[OpenStep] = []
    for field, packed, child_status in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        name = as_bytes(field)[len(FIELD_PREFIX) :].decode(errors="replace")
        steps.append(_open_step(unpack_step(name, as_bytes(packed), created_at), as_text(child_status)))
    return steps


def _open_step(step: StepRecord, child_status: str) -> OpenStep:
    if step.kind == "sleep":
        return OpenStep(step.name, "sleep", until=step.due_at)
    if step.kind == "event":
        ref = event_ref(step.payload)
        return OpenStep(step.name, "event", until=ref.deadline, event=ref.event, correlation_key=ref.correlation_key)
    if step.kind == "child":
        child = child_ref(step.payload)
        return OpenStep(step.name, "child", child=public_run_id(child.run_id), child_status=child_status)
    return OpenStep(step.name, "run")


def _live_workers(flat: list[Reply]) -> list[LiveWorker]:
    workers: list[LiveWorker] = []
    for worker, info, knows in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        live = readable(f"worker {as_text(worker)}", partial(_live_worker, worker, info, knows))
        if live is not None:
            workers.append(live)
    return workers


def _live_worker(worker: Reply, info: Reply, knows: Reply) -> LiveWorker:
    said = orjson.loads(as_bytes(info))
    return LiveWorker(as_text(worker), list(said.get("queues", [])), int(said.get("concurrency", 0)), knows == 1)
