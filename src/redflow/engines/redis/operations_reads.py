"""Looks at many runs: counts, finds, groups, exports. Indexes where they tell it, records in chunks where not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from redflow.domain.run import public_run_id
from redflow.domain.sealing import Vault
from redflow.engines.redis.link import Argument
from redflow.engines.redis.listing import looks_at_records
from redflow.engines.redis.opening import opened_record
from redflow.engines.redis.operations_base import OperationsBase, Place
from redflow.engines.redis.packing import unpack_record
from redflow.engines.redis.queries import apart_fields
from redflow.engines.redis.records import Record, attempt_traces, error_or_remark, run_state, step_states
from redflow.engines.redis.replies import BrokenRecordError, as_fields, as_int, as_list, as_text, readable, reading
from redflow.errors import PayloadDecodeError, PayloadKeyMissingError
from redflow.types import (
    ALL_STATUSES,
    ExportedRun,
    FailureGroup,
    FailureGroups,
    RunBucket,
    RunCount,
    RunState,
    RunStatus,
    SearchRunsParams,
)

log = logging.getLogger("redflow")

_MOST_COUNTED: Final = 10_000
_LONGEST_MESSAGE: Final = 300
_COUNTS_A_TRIP: Final = 2_000


class RunReads(OperationsBase):
    """What is asked about many runs."""

    async def server_time(self) -> int:
        """See `Operations.server_time`."""
        return await self._home.now()

    async def find_matching(
        self, params: SearchRunsParams, statuses: Sequence[RunStatus]
    ) -> tuple[list[str], str | None]:
        """See `Operations.find_matching`."""
        found, following, _, _ = await self._listing.find(params, statuses)
        return found, following

    async def count_matching(self, params: SearchRunsParams, statuses: Sequence[RunStatus]) -> RunCount:
        """See `Operations.count_matching`."""
        if not looks_at_records(params):
            return {"count": await self._count_indexed(params, statuses), "exact": True}
        count = scanned = 0
        cursor: int | str | None = None
        while scanned < _MOST_COUNTED:
            page = SearchRunsParams(
                workflow=params.workflow,
                queue=params.queue,
                parent_run_id=params.parent_run_id,
                query=params.query,
                created_after=params.created_after,
                created_before=params.created_before,
                error=params.error,
                cursor=cursor,
                limit=200,
            )
            found, cursor, looked_at, _ = await self._listing.find(page, statuses)
            count, scanned = count + len(found), scanned + looked_at
            if cursor is None:
                return {"count": count, "exact": True}
        return {"count": count, "exact": False}

    async def _count_indexed(self, params: SearchRunsParams, statuses: Sequence[RunStatus]) -> int:
        first = "-inf" if params.created_after is None else str(params.created_after)
        last = "+inf" if params.created_before is None else str(params.created_before)

        async def count(place: Place) -> int:
            workflows = await self._workflow_names(place) if params.workflow is None else [params.workflow]
            return sum(await self._counts(place, workflows, [(status, first, last) for status in statuses]))

        return sum(await self._of_all(count))

    async def _workflow_names(self, place: Place) -> list[str]:
        return [as_text(name) for name in as_list(await place.connection.read("SMEMBERS", place.keys.workflows))]

    async def _counts(
        self, place: Place, workflows: Sequence[str], wanted: Sequence[tuple[RunStatus, str, str]]
    ) -> list[int]:
        """For each (status, first, last) how many runs of the workflows were created from `first` to `last`."""
        totals = [0] * len(wanted)
        step = max(1, _COUNTS_A_TRIP // max(1, len(workflows)))
        for start in range(0, len(wanted), step):
            some = wanted[start : start + step]
            commands: list[Sequence[Argument]] = [
                ("ZCOUNT", place.keys.index(status, workflow), first, last)
                for status, first, last in some
                for workflow in workflows
            ]
            replies = await place.connection.read_many(commands) if commands else []
            for index in range(len(some)):
                mine = replies[index * len(workflows) : (index + 1) * len(workflows)]
                totals[start + index] = sum(map(as_int, mine))
        return totals

    async def history(self, start: int, end: int, buckets: int) -> list[RunBucket]:
        """See `Operations.history`."""
        edges = [start + (end - start) * number // buckets for number in range(buckets + 1)]
        spans = list(pairwise(edges))
        wanted = [(status, str(first), f"({last}") for first, last in spans for status in ALL_STATUSES]

        async def count(place: Place) -> list[int]:
            return await self._counts(place, await self._workflow_names(place), wanted)

        totals = [sum(counts) for counts in zip(*await self._of_all(count), strict=True)]
        width = len(ALL_STATUSES)
        return [
            {
                "start": first,
                "end": last,
                "by_status": dict(zip(ALL_STATUSES, totals[n * width : (n + 1) * width], strict=True)),
            }
            for n, (first, last) in enumerate(spans)
        ]

    async def failure_groups(self, created_after: int | None, scan: int) -> FailureGroups:
        """See `Operations.failure_groups`."""
        groups: dict[tuple[str, str], FailureGroup] = {}
        scanned, params = 0, SearchRunsParams(status="failed", created_after=created_after)
        more = False
        async for run_id, created, record in self._listing.failed(params):
            if created_after is not None and created < created_after:
                break
            if scanned >= scan:
                more = True
                break
            scanned += 1
            readable(f"run {run_id}", partial(_into_group, groups, run_id, record))
        largest = sorted(groups.values(), key=lambda group: (-group["count"], -group["last_at"]))
        return {"groups": largest, "scanned": scanned, "truncated": more}

    async def inspect_run(self, run_id: str) -> RunState | None:
        """See `Operations.inspect_run`."""
        for shard in self._by_place([run_id]):
            return await self._places[shard].queries.run(run_id, raises=False)
        return None

    async def export(self, run_ids: Sequence[str]) -> list[ExportedRun]:
        """See `Operations.export`."""
        found: dict[int, ExportedRun] = {}
        for shard, some in self._by_place(run_ids).items():
            place = self._places[shard]
            records = await self._whole(place, [stored for _, stored in some])
            for (index, stored), record in zip(some, records, strict=True):
                run = _exported(place.scripts.vault, stored, record) if record else None
                if run is not None:
                    found[index] = run
        return [found[index] for index in sorted(found)]

    async def _whole(self, place: Place, ids: Sequence[str]) -> list[dict[bytes, bytes]]:
        """Records with all their payloads; {} for one that is gone."""
        replies = await place.connection.read_many([("HGETALL", place.keys.run(run_id)) for run_id in ids])
        records = [
            unpack_record(as_fields(r), run_id) if as_list(r) else {} for r, run_id in zip(replies, ids, strict=True)
        ]
        apart = [(n, fields) for n, record in enumerate(records) if (fields := apart_fields(record))]
        payloads = await place.connection.read_many([("HMGET", place.keys.big(ids[n]), *fields) for n, fields in apart])
        for (n, fields), values in zip(apart, payloads, strict=True):
            for field, value in zip(fields, as_list(values), strict=True):
                if isinstance(value, bytes):
                    records[n][field] = records[n][field][:-1] + value
        return records


def _into_group(groups: dict[tuple[str, str], FailureGroup], run_id: str, record: Record) -> None:
    name, message = "unknown", ""
    if b"e" in record:
        error = error_or_remark(record[b"e"], run_id)
        name, message = str(error.get("name", name)), str(error.get("message", message))
    workflow, at = record[b"w"].decode(), int(record[b"f"])
    group = groups.get((workflow, name))
    if group is None:
        groups[workflow, name] = {
            "workflow": workflow,
            "error": name,
            "count": 1,
            "message": message[:_LONGEST_MESSAGE],
            "first_at": at,
            "last_at": at,
            "last_run_id": public_run_id(run_id),
        }
        return
    group["count"] += 1
    group["first_at"] = min(group["first_at"], at)
    if at > group["last_at"]:
        group["last_at"], group["last_run_id"], group["message"] = at, public_run_id(run_id), message[:_LONGEST_MESSAGE]


def _exported(vault: Vault | None, stored: str, record: dict[bytes, bytes]) -> ExportedRun | None:
    """A whole run; None for one that is broken or was tampered with, which is logged.

    Raises:
        PayloadKeyMissingError: nothing is wrong with it: this program lacks a key, and so an export of its own.
    """
    try:
        with reading(f"run {public_run_id(stored)}"):
            if vault is not None:
                record = opened_record(vault, stored, record)
            return {
                **run_state(stored, record),
                "steps": step_states(record, stored),
                "attempts": attempt_traces(record, stored),
            }
    except PayloadKeyMissingError:
        raise
    except (BrokenRecordError, PayloadDecodeError) as exc:
        log.error("%s; it is left out", exc)
        return None
