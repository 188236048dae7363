"""Reads, and nothing else. Payloads that are stored apart are put back in their places."""

from __future__ import annotations

from redflow.domain.event import event_ref
from redflow.domain.run import stored_run_id
from redflow.domain.sealing import Vault
from redflow.domain.step import FIELD_PREFIX, STORED_APART, StepKind, StepRecord, child_ref, unpack_step
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.opening import opened_record
from redflow.engines.redis.packing import read_fields, read_record
from redflow.engines.redis.records import HEADER_FIELDS, attempt_traces, run_state, step_states, steps_of
from redflow.engines.redis.replies import as_int, as_list, as_text, reading
from redflow.types import ALL_STATUSES, AttemptTrace, RunState, RunStats, StepState

_STEP = FIELD_PREFIX.encode()


class Queries:
    """What can be asked about runs and workflows under one prefix."""

    def __init__(self, connection: Connection, keys: Keys, vault: Vault | None = None) -> None:
        self._connection = connection
        self._keys = keys
        self._vault = vault

    async def run(self, run_id: str, *, raises: bool = True) -> RunState | None:
        """One run; None if there is none of that id.

        Args:
            run_id: public id.
            raises: whether a key that is missing is an error; if not, it is told why there is no input or output.
        """
        stored = stored_run_id(run_id)
        if stored is None:
            return None
        record = (await read_fields(self._connection, self._keys, [stored], HEADER_FIELDS))[0]
        if b"s" not in record:
            return None
        await self._fill_in(stored, record, header_only=True)
        if b"tl" in record and b"d" in record:
            # In a throttle's line: it moves on at the window's end, whichever window it was when the run joined.
            moves_on = await self._connection.read("ZSCORE", self._keys.throttled, record[b"tl"])
            if isinstance(moves_on, bytes):
                record[b"d"] = moves_on
        with reading(f"run {run_id}"):
            if self._vault is not None:
                record = opened_record(self._vault, stored, record, raises=raises)
            return run_state(stored, record, raises=raises)

    async def steps(self, run_id: str) -> list[StepState]:
        """The steps of a run, by seq; [] if there is no such run."""
        with reading(f"run {run_id}"):
            stored, record = await self._whole(run_id)
            return step_states(record, stored) if record else []

    async def step_kinds(self, run_id: str) -> dict[str, StepKind]:
        """Which primitive each step of a run is, by name; {} if there is no such run."""
        with reading(f"run {run_id}"):
            stored = stored_run_id(run_id)
            record = {} if stored is None else await read_record(self._connection, self._keys, stored)
            return {name: step.kind for name, step in steps_of(record, run_id).items()} if b"c" in record else {}

    async def attempts(self, run_id: str) -> list[AttemptTrace]:
        """The finished attempts of a run; [] if there is no such run."""
        with reading(f"run {run_id}"):
            stored, record = await self._whole(run_id)
            return attempt_traces(record, stored) if record else []

    async def stats(self) -> RunStats:
        """How many runs there are, by status."""
        workflows = [as_text(name) for name in as_list(await self._connection.read("SMEMBERS", self._keys.workflows))]
        counts = await self._connection.read_many(
            [("ZCARD", self._keys.index(status, workflow)) for status in ALL_STATUSES for workflow in workflows]
        )
        by_status = {
            status: sum(as_int(n) for n in counts[i * len(workflows) : (i + 1) * len(workflows)])
            for i, status in enumerate(ALL_STATUSES)
        }
        stats: RunStats = {"total": sum(by_status.values()), "by_status": by_status}
        paused = [as_text(what) for what in as_list(await self._connection.read("HKEYS", self._keys.paused))]
        if paused:
            queues, workflows = ([what[2:] for what in paused if what.startswith(kind)] for kind in ("q:", "w:"))
            stats["paused"] = {"queues": sorted(queues), "workflows": sorted(workflows)}
        return stats

    async def _whole(self, run_id: str) -> tuple[str, dict[bytes, bytes]]:
        stored = stored_run_id(run_id)
        if stored is None:
            return "", {}
        record = await read_record(self._connection, self._keys, stored)
        if b"s" not in record:
            return stored, {}
        await self._fill_in(stored, record, header_only=False)
        return stored, record if self._vault is None else opened_record(self._vault, stored, record)

    async def _fill_in(self, stored: str, record: dict[bytes, bytes], *, header_only: bool) -> None:
        apart = apart_fields(record, header_only=header_only)
        if not apart:
            return
        payloads = as_list(await self._connection.read("HMGET", self._keys.big(stored), *apart))
        for field, payload in zip(apart, payloads, strict=True):
            if isinstance(payload, bytes):
                record[field] = record[field][:-1] + payload


def apart_fields(record: dict[bytes, bytes], *, header_only: bool = False) -> list[bytes]:
    """The fields of a record whose payloads are stored apart.

    Args:
        record: of a run.
        header_only: it has no steps and no traces.
    """
    return [
        field
        for field, value in record.items()
        if value.endswith(b"@") and (value == b"@" or (not header_only and _is_apart(field, value)))
    ]


def _content(step: StepRecord) -> bytes:
    if step.kind == "child":
        return child_ref(step.payload).content
    return event_ref(step.payload).data if step.kind == "event" else step.payload


def _is_apart(field: bytes, value: bytes) -> bool:
    """Whether a packed value ends in the mark for 'stored apart', and not in a payload that ends in that sign."""
    if field.startswith(_STEP):
        step = unpack_step("", value, 0)
        return _content(step) == STORED_APART
    return field.startswith(b"a:") and value.split(b" ", 1)[-1] == b"@"
