"""Lists and searches runs. The cost is bounded by the page, not by the history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import orjson

from redflow.domain.paging import LARGEST_PAGE, MOST_SCANNED, check_list, check_search, page_limit
from redflow.domain.payload import unpack
from redflow.domain.run import public_run_id, stored_run_id
from redflow.domain.sealing import Vault
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.opening import opened_record
from redflow.engines.redis.packing import read_fields
from redflow.engines.redis.records import error_or_remark, listed_run
from redflow.engines.redis.replies import Reply, as_int, as_list, as_text, readable
from redflow.engines.redis.scripts import verb
from redflow.types import ALL_STATUSES, ListedRun, ListRunsParams, RunStatus, SearchRunsParams, SearchRunsResult

LIST_PAGE = verb("list_page", args="newest_first, cursor_time, cursor_id, limit", item="index")

LISTED_FIELDS: Final = ("w", "q", "s", "c", "a", "m", "e", "d", "t", "f", "p", "pr", "ta")
_SEARCHED_FIELDS: Final = (*LISTED_FIELDS, "cw", "i", "o", "di")
_PAYLOAD_FIELDS: Final = ("e", "i", "o")
_MOST_BYTES: Final = 64 * 1024 * 1024
_CHUNK: Final = 100

Record = dict[bytes, bytes]


@dataclass(slots=True)
class Position:
    """Where a page begins: after this run, or after this time if there is no id. '' is the very beginning."""

    created: int | str = ""
    run_id: str = ""


class Listing:
    """Lists and searches runs of one prefix."""

    def __init__(self, connection: Connection, keys: Keys, vault: Vault | None = None) -> None:
        self._connection = connection
        self._keys = keys
        self._vault = vault

    async def runs(self, params: ListRunsParams) -> list[ListedRun]:
        """One page; see `RedflowClient.list_runs`."""
        check_list(params)
        start = await self._position(params.cursor)
        if start is None:
            return []
        newest_first = params.sort != "asc"
        statuses = ALL_STATUSES if params.status is None else (params.status,)
        indexes = await self._indexes(statuses, params.workflow)
        listed: list[ListedRun] = []
        left = page_limit(params.limit)
        while left > 0:
            size = min(left, LARGEST_PAGE)
            entries = await self._page(indexes, start, size, newest_first)
            records = await self._records([run_id for run_id, _ in entries], LISTED_FIELDS)
            for (run_id, _), record in zip(entries, records, strict=True):
                if record and (run := _listed(run_id, record)) is not None:
                    listed.append(run)
            if len(entries) < size:
                break
            start, left = Position(entries[-1][1], entries[-1][0]), left - size
        return listed

    async def search(self, params: SearchRunsParams) -> SearchRunsResult:
        """Search; see `RedflowClient.search_runs`."""
        check_search(params)
        after, before = params.created_after, params.created_before
        if after is not None and before is not None and after > before:
            return {"runs": [], "scanned": 0}
        limit = page_limit(params.limit, largest=LARGEST_PAGE)
        found: list[ListedRun] = []
        scanned = size = 0
        last = ""
        statuses = ALL_STATUSES if params.status is None else (params.status,)
        async for run_id, created, record in self._walk(params, statuses):
            if _is_past(created, params):
                return {"runs": found, "scanned": scanned}
            scanned += 1
            size += sum(map(len, record.values()))
            last = run_id
            if readable(f"run {run_id}", partial(_matches, run_id, record, params)) and (
                run := _listed(run_id, record)
            ):
                found.append(run)
            if len(found) >= limit:
                return {"runs": found, "scanned": scanned, "next_cursor": public_run_id(last)}
            if scanned >= params.scan or size >= _MOST_BYTES:
                return {"runs": found, "scanned": scanned, "next_cursor": public_run_id(last), "truncated": True}
        return {"runs": found, "scanned": scanned}

    async def find(
        self, params: SearchRunsParams, statuses: Sequence[RunStatus]
    ) -> tuple[list[str], str | None, int, bool]:
        """One page of public ids of runs of these statuses that match.

        A run that changes between these statuses while pages are read is found once: its place in the order stays.

        Returns:
            The ids, the cursor of the next page (None: there is none; it holds also when its run is gone), how many
            runs were looked at, and whether it stopped there at the limits of a search.
        """
        limit = min(LARGEST_PAGE, page_limit(params.limit))
        found: list[str] = []
        scanned = size = 0
        async for run_id, created, record in self._walk(params, statuses):
            if _is_past(created, params):
                return found, None, scanned, False
            scanned += 1
            size += sum(map(len, record.values()))
            if readable(f"run {run_id}", partial(_fits, run_id, record, params, statuses)):
                found.append(public_run_id(run_id))
            truncated = scanned >= MOST_SCANNED or size >= _MOST_BYTES
            if len(found) >= limit or truncated:
                return found, f"{created}.{public_run_id(run_id)}", scanned, truncated
        return found, None, scanned, False

    def failed(self, params: SearchRunsParams) -> AsyncIterator[tuple[str, int, Record]]:
        """The failed runs, newest first, with what lists tell of them: (stored id, time of creation, record)."""
        return self._walk(replace(params, limit=LARGEST_PAGE), ("failed",))

    async def _walk(
        self, params: SearchRunsParams, statuses: Sequence[RunStatus]
    ) -> AsyncIterator[tuple[str, int, Record]]:
        newest_first = params.sort != "asc"
        position = await self._position(params.cursor)
        if position is None:
            return
        position = _later(position, _range_start(params, newest_first), newest_first)
        children = await self._children(params.parent_run_id)
        if children is not None:
            async for found in self._walk_over(_after(position, children, newest_first), params):
                yield found
            return
        indexes = await self._indexes(statuses, params.workflow)
        chunk = _CHUNK if looks_at_records(params) else min(page_limit(params.limit), LARGEST_PAGE)
        while True:
            entries = await self._page(indexes, position, chunk, newest_first)
            async for found in self._walk_over(entries, params):
                yield found
            if len(entries) < chunk:
                return
            position = Position(entries[-1][1], entries[-1][0])

    async def _walk_over(
        self, entries: Sequence[tuple[str, int]], params: SearchRunsParams
    ) -> AsyncIterator[tuple[str, int, Record]]:
        fields = _SEARCHED_FIELDS if params.query else LISTED_FIELDS
        for start in range(0, len(entries), _CHUNK):
            chunk = entries[start : start + _CHUNK]
            records = await self._records([run_id for run_id, _ in chunk], fields)
            for (run_id, created), record in zip(chunk, records, strict=True):
                if record:
                    yield run_id, created, record

    async def _children(self, parent: str | None) -> list[tuple[str, int]] | None:
        """The children of a run with the time of their creation.

        None if the search has to go through all runs for them: the parent is gone, or no run at all, or has more
        children than a search looks at.
        """
        stored = stored_run_id(parent)
        place = None if stored is None else self._place_of(stored)
        if stored is None or place is None:
            return None
        connection, keys = place
        sets = keys.children(stored)
        exists, *sizes = await connection.read_many([("EXISTS", keys.run(stored)), *(("SCARD", key) for key in sets)])
        if exists != 1 or sum(map(as_int, sizes)) > MOST_SCANNED:
            return None
        run_ids = [as_text(run_id) for run_id in as_list(await connection.read("SUNION", *sets))]
        times = await self._times(run_ids)
        return [(run_id, as_int(time)) for run_id, time in zip(run_ids, times, strict=True) if time is not None]

    def _place_of(self, stored: str) -> tuple[Connection, Keys] | None:
        """Where a run is; None: nowhere."""
        return self._connection, self._keys

    async def _times(self, run_ids: Sequence[str]) -> list[Reply]:
        """When the runs were created; None for one that is gone."""
        return await self._connection.read_many([("HGET", self._keys.run(run_id), "c") for run_id in run_ids])

    async def _indexes(self, statuses: Sequence[RunStatus], workflow: str | None) -> list[tuple[str, str]]:
        """The (status, workflow) indexes that hold runs of these statuses, of one workflow or of all."""
        if workflow is not None:
            return [(one, workflow) for one in statuses]
        names = as_list(await self._connection.read("SMEMBERS", self._keys.workflows))
        return [(one, as_text(name)) for one in statuses for name in names]

    async def _position(self, cursor: int | str | None) -> Position | None:
        """Where the cursor points; None for a run that is gone, or a text that is no cursor."""
        if cursor is None:
            return Position()
        if isinstance(cursor, int):
            return Position(cursor)
        if (exact := exact_position(cursor)) is not None:
            return exact
        stored = stored_run_id(cursor)
        if stored is None:
            return None
        created = await self._connection.read("HGET", self._keys.run(stored), "c")
        return None if created is None else Position(as_int(created), stored)

    async def _page(
        self, indexes: Sequence[tuple[str, str]], start: Position, limit: int, newest_first: bool
    ) -> list[tuple[str, int]]:
        args: list[Argument] = ["1" if newest_first else "", start.created, start.run_id, limit]
        args += [f"idx:{status}:{workflow}" for status, workflow in indexes]
        flat = as_list(await self._connection.call(LIST_PAGE, self._keys.base, args))
        return [(as_text(run_id), as_int(created)) for run_id, created in zip(flat[::2], flat[1::2], strict=True)]

    async def _records(self, run_ids: Sequence[str], fields: Sequence[str]) -> list[Record]:
        """The named fields of each run; {} for one that was removed meanwhile."""
        found = await read_fields(self._connection, self._keys, run_ids, fields)
        return [
            await self._whole(run_id, record) if b"s" in record else {}
            for run_id, record in zip(run_ids, found, strict=True)
        ]

    async def _whole(self, run_id: str, record: Record) -> Record:
        """Puts payloads that are stored apart in their places."""
        apart = [name for name in _PAYLOAD_FIELDS if record.get(name.encode()) == b"@"]
        if apart:
            payloads = as_list(await self._connection.read("HMGET", self._keys.big(run_id), *apart))
            record |= {n.encode(): p for n, p in zip(apart, payloads, strict=True) if isinstance(p, bytes)}
        return record if self._vault is None else opened_record(self._vault, run_id, record, raises=False)


def exact_position(cursor: object) -> Position | None:
    """The position that a cursor of `Listing.find` names; None for any other cursor."""
    created, dot, run_id = cursor.partition(".") if isinstance(cursor, str) else ("", "", "")
    stored = stored_run_id(run_id)
    exact = dot and stored is not None and created.isascii() and created.isdigit() and len(created) < 16
    return Position(int(created), stored) if exact and stored is not None else None


def looks_at_records(params: SearchRunsParams) -> bool:
    """Whether a search has to read records, since no index tells what is asked for."""
    asked = (params.queue, params.parent_run_id, params.error)
    return bool(params.query) or any(value is not None for value in asked)


def _listed(run_id: str, record: Record) -> ListedRun | None:
    return readable(f"run {run_id}", partial(listed_run, run_id, record))


def _after(start: Position, entries: Sequence[tuple[str, int]], newest_first: bool) -> list[tuple[str, int]]:
    """What follows a position, in order; the rules are those of list_page."""
    in_order = sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=newest_first)
    if start.created == "":
        return in_order
    passed = (int(start.created), start.run_id)

    def follows(entry: tuple[str, int]) -> bool:
        at = (entry[1], entry[0]) if start.run_id else (entry[1], "")
        return at < passed if newest_first else at > passed

    return [entry for entry in in_order if follows(entry)]


def _range_start(params: SearchRunsParams, newest_first: bool) -> Position:
    if newest_first and params.created_before is not None:
        return Position(params.created_before + 1)
    if not newest_first and params.created_after is not None:
        return Position(params.created_after - 1)
    return Position()


def _later(cursor: Position, start: Position, newest_first: bool) -> Position:
    """Where a walk begins: at the cursor or at the start of the range of time, whichever it comes to later."""
    if cursor.created == "" or start.created == "":
        return start if cursor.created == "" else cursor
    before = int(start.created) < int(cursor.created) if newest_first else int(start.created) > int(cursor.created)
    return start if before else cursor


def _is_past(created: int, params: SearchRunsParams) -> bool:
    """Whether this run, and with it every later one of the walk, lies outside the range of time."""
    if params.sort == "asc":
        return params.created_before is not None and created > params.created_before
    return params.created_after is not None and created < params.created_after


def _fits(run_id: str, record: Record, params: SearchRunsParams, statuses: Sequence[RunStatus]) -> bool:
    return record[b"s"].decode() in statuses and _matches(run_id, record, params)


def _matches(run_id: str, record: Record, params: SearchRunsParams) -> bool:
    if params.status is not None and record[b"s"].decode() != params.status:
        return False
    if params.workflow is not None and record[b"w"].decode() != params.workflow:
        return False
    if params.queue is not None and record[b"q"].decode() != params.queue:
        return False
    if params.parent_run_id is not None and record.get(b"p", b"").decode() != params.parent_run_id:
        return False
    if params.error is not None and _error_name(run_id, record) != params.error:
        return False
    if not params.query:
        return True
    wanted = params.query.casefold()
    texts = [public_run_id(run_id), *(record.get(name, b"").decode() for name in (b"w", b"q", b"s", b"cw"))]
    if any(wanted in text.casefold() for text in texts):
        return True
    return any(wanted in _text(record[name.encode()]) for name in _PAYLOAD_FIELDS if name.encode() in record)


def _error_name(run_id: str, record: Record) -> str | None:
    """The type of a run's error; of one that can't be decrypted here, as lists show it, the reason for that."""
    name = error_or_remark(record[b"e"], run_id).get("name") if b"e" in record else None
    return name if isinstance(name, str) else None


def _text(stored: bytes) -> str:
    """A payload as its readers write it: escapes undone, so that what is seen can be found. Of one that can't be read
    there is no text.
    """
    try:
        return orjson.dumps(orjson.loads(unpack(stored))).decode().casefold()
    except ValueError:
        return ""
