"""Repairs runs: retry, cancel many, run again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from redflow.domain.outcome import Retry
from redflow.domain.payload import unpack
from redflow.domain.run import RunOrder, public_run_id
from redflow.domain.shards import on_shard
from redflow.domain.step import FIELD_PREFIX
from redflow.engines.redis.link import Argument
from redflow.engines.redis.opening import opened_input
from redflow.engines.redis.operations_base import OperationsBase, Place
from redflow.engines.redis.packing import PACKED, unpack_record
from redflow.engines.redis.queries import apart_fields
from redflow.engines.redis.records import pack_trace, steps_of
from redflow.engines.redis.replies import Reply, as_fields, as_list, as_pairs, as_text, readable, reading
from redflow.engines.redis.runs import CASCADE_CHUNK, order_args
from redflow.engines.redis.scripts import verb
from redflow.errors import UnknownWorkflowError

RETRY_RUNS = verb("retry_runs", args="now, operation", item="id, fence, finished, trace_field, trace, pair_count")
CANCEL_RUNS = verb("cancel_runs", args="now, reason, retention, operation", item="id")
START_RERUN = verb(
    "start_rerun",
    args="now, client_app, source, id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout, "
    "parent",
)

_RETRY_CHUNK: Final = 50
"""How many runs one call retries: each costs about what a creation does, and its record is sent there and back."""
_RETRY_BYTES: Final = 1_000_000
"""How much one call writes, or little more: errors and inputs may be large."""
_TRIES: Final = 3
_STORED_APART: Final = b"@"


class RunRepairs(OperationsBase):
    """What is done to runs."""

    async def retry_runs(self, run_ids: Sequence[str]) -> list[str]:
        """See `Operations.retry_runs`."""
        answers = ["unknown"] * len(run_ids)

        async def retry(place: Place, some: Sequence[tuple[int, str]]) -> None:
            for first in range(0, len(some), _RETRY_CHUNK):
                chunk = some[first : first + _RETRY_CHUNK]
                told = await self._retry_chunk(place, [stored for _, stored in chunk])
                for (index, _), answer in zip(chunk, told, strict=True):
                    answers[index] = answer

        by_place = self._by_place(run_ids)
        await asyncio.gather(*(retry(self._places[shard], some) for shard, some in by_place.items()))
        return answers

    async def _retry_chunk(self, place: Place, ids: Sequence[str]) -> list[str]:
        """Read the records, and have them go on as they were read; those that have changed meanwhile are read again."""
        operation = secrets.token_hex(8)
        answers: dict[str, str] = {}
        left = list(dict.fromkeys(ids))
        for _ in range(_TRIES):
            replies = await place.connection.read_many([("HGETALL", place.keys.run(run_id)) for run_id in left])
            told: list[Reply] = []
            args: list[Argument] = []
            for run_id, reply in zip(left, replies, strict=True):
                args += await self._retry_args(place, run_id, as_fields(reply) if as_list(reply) else {})
                if run_id == left[-1] or sum(len(part) for part in args if isinstance(part, bytes)) > _RETRY_BYTES:
                    sent = (place.scripts.now, operation, *args)
                    told += as_list(await place.connection.call(RETRY_RUNS, place.keys.base, sent))
                    args = []
            answers |= {run_id: as_text(answer) for run_id, answer in zip(left, told, strict=True)}
            left = [run_id for run_id in left if answers[run_id] == "changed"]
            if not left:
                break
        return [answers[run_id] for run_id in ids]

    async def _retry_args(self, place: Place, run_id: str, stored: dict[bytes, bytes]) -> list[Argument]:
        """What the script needs of a record: the trace of its last attempt, and what it had packed."""
        whole = unpack_record(stored, run_id)
        fence, finished = whole.get(b"n", b""), whole.get(b"f", b"")
        packed = (
            {name: value for name, value in whole.items() if name not in stored} if PACKED.encode() in stored else {}
        )
        attempt = whole.get(b"a", b"0").decode()
        trace: bytes | None = None
        if whole.get(b"s") == b"failed" and attempt != "0" and f"a:{attempt}".encode() not in whole:
            told = readable(f"run {run_id}", lambda: _told_by_trace(run_id, whole, int(attempt)))
            if told is not None:
                told = await self._fill_in(place, run_id, told)
                trace = readable(f"run {run_id}", lambda: _trace(run_id, whole, told))
        pairs = [part for item in packed.items() if item[0] != b"e" for part in item]
        field = "" if trace is None else f"a:{attempt}"
        return [run_id, fence, finished, field, trace or b"", len(pairs) // 2, *pairs]

    async def _fill_in(self, place: Place, run_id: str, record: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """The record with those of its payloads that are stored apart."""
        if apart := apart_fields(record):
            values = as_list(await place.connection.read("HMGET", place.keys.big(run_id), *apart))
            found = zip(apart, values, strict=True)
            record |= {name: record[name][:-1] + value for name, value in found if isinstance(value, bytes)}
        return record

    async def cancel_runs(self, run_ids: Sequence[str], reason: str) -> list[str]:
        """See `Operations.cancel_runs`."""
        answers = ["unknown"] * len(run_ids)

        async def cancel(place: Place, some: Sequence[tuple[int, str]]) -> None:
            cascade = False
            for first in range(0, len(some), CASCADE_CHUNK):
                chunk = some[first : first + CASCADE_CHUNK]
                operation = secrets.token_hex(4)
                args = (place.scripts.now, reason, place.scripts.retention_ms, operation, *(run for _, run in chunk))
                more, *told = as_list(await place.connection.call(CANCEL_RUNS, place.keys.base, args))
                cascade = cascade or more == 1
                for (index, _), answer in zip(chunk, told, strict=True):
                    answers[index] = as_text(answer)
            await place.after_cancels(cascade)

        by_place = self._by_place(run_ids)
        await asyncio.gather(*(cancel(self._places[shard], some) for shard, some in by_place.items()))
        return answers

    async def rerun(self, run_id: str, new_id: str, input_json: bytes | None, app: str | None) -> str | None:
        """See `Operations.rerun`."""
        for shard, ((_, stored),) in self._by_place([run_id]).items():
            place = self._places[shard]
            reply = as_list(await place.connection.read("HGETALL", place.keys.run(stored)))
            record = unpack_record(as_fields(reply) if reply else {}, stored)
            if b"s" not in record:
                return None
            if input_json is None:
                input_json = await self._input(place, stored, record)
            with reading(f"run {run_id}"):
                order = _order_like(record, on_shard(new_id, shard), input_json)
            args = (place.scripts.now, app or "", run_id, *order_args(order, place.scripts.vault))
            ((code, made),) = as_pairs(await place.connection.call(START_RERUN, place.keys.base, args))
            if code == "unknown_workflow":
                raise UnknownWorkflowError(order.workflow)
            return public_run_id(made)
        return None

    async def _input(self, place: Place, stored: str, record: dict[bytes, bytes]) -> bytes:
        """The input of a run as JSON text.

        Raises:
            PayloadDecodeError: it is encrypted, and can't be decrypted here.
        """
        packed = record.get(b"i", b"null")
        if packed == _STORED_APART:
            apart = await place.connection.read("HGET", place.keys.big(stored), "i")
            packed = apart if isinstance(apart, bytes) else b"null"
        with reading(f"run {public_run_id(stored)}"):
            return unpack(opened_input(place.scripts.vault, stored, packed, record.get(b"di")))


def _told_by_trace(run_id: str, record: dict[bytes, bytes], attempt: int) -> dict[bytes, bytes]:
    """Of a failed run's record what the trace of its last attempt has to tell: its error, and the steps of that which
    did not succeed.
    """
    steps = [
        f"{FIELD_PREFIX}{step.name}".encode()
        for step in steps_of(record, run_id).values()
        if step.attempt == attempt and step.status in ("failed", "canceled")
    ]
    return {name: record[name] for name in (b"c", b"e", *steps)}


def _trace(run_id: str, record: dict[bytes, bytes], told: dict[bytes, bytes]) -> bytes:
    """The trace of a failed run's last attempt, which had none of its own: the record told of it."""
    started = int(record.get(b"b") or record.get(b"t") or record[b"f"])
    return pack_trace(Retry(told[b"e"], 0, list(steps_of(told, run_id).values())), started)


def _order_like(record: dict[bytes, bytes], new_id: str, input_json: bytes) -> RunOrder:
    """The order of a run that is like another one."""
    attempts = int(record.get(b"rb") or record.get(b"m", b"3"))
    return RunOrder(
        new_id,
        record[b"w"].decode(),
        input_json,
        queue=record[b"q"].decode(),
        max_attempts=attempts,
        priority=int(record.get(b"pr", b"0")),
        run_timeout_ms=int(record[b"to"]) if b"to" in record else None,
    )
