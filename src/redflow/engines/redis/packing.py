"""Reads the records of finished runs that `pack_record.lua` has made small: the only Python that knows that form.

A hash of Redis is compact as long as no value and no name in it is over 64 bytes. So when a run has ended, its long
payloads are joined to one text and cut into fields `0`, `1`, `2` … of 64 bytes each. The text is, for each payload,

    <bytes of name> <bytes of value> <name><value>

or, if the value stands in the text already (an output that is the result of a step),

    <bytes of name> <bytes of value>@<its first byte, counted from 1> <name>

A live run is never packed, and fields that scripts look at (status, fence, token, …) keep their names in either form.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import Reply, as_fields, as_list

log = logging.getLogger("redflow")

PACKED: Final = "0"
"""The field by which a packed record is known: the beginning of its text."""

_MARK: Final = PACKED.encode()


def unpack_record(record: dict[bytes, bytes], run_id: str) -> dict[bytes, bytes]:
    """A record as its run wrote it, whichever form it has; what is broken of a packed one is left out and logged.

    Args:
        record: all its fields.
        run_id: whose it is, for the log.
    """
    if _MARK not in record:
        return record
    pieces = sorted((int(name), value) for name, value in record.items() if name.isdigit())
    whole = {name: value for name, value in record.items() if not name.isdigit()}
    try:
        whole.update(_payloads(b"".join(piece for _, piece in pieces)))
    except ValueError as exc:
        log.error("run %s: its packed record is broken: %s", run_id, exc)
    return whole


async def read_fields(
    connection: Connection, keys: Keys, run_ids: Sequence[str], fields: Sequence[str]
) -> list[dict[bytes, bytes]]:
    """The named fields of some records, without those that a record lacks; {} for a record that is gone.

    Packed records are read again, whole: one more trip for all of them together.

    Args:
        connection: to the server.
        keys: of the prefix.
        run_ids: stored ids.
        fields: what is asked for.
    """
    replies = await connection.read_many([("HMGET", keys.run(run_id), *fields, PACKED) for run_id in run_ids])
    found = [_named(fields, reply) for reply in replies]
    packed = [i for i, reply in enumerate(replies) if as_list(reply)[-1] is not None]
    if packed:
        wholes = await connection.read_many([("HGETALL", keys.run(run_ids[i])) for i in packed])
        for i, whole in zip(packed, wholes, strict=True):
            record = unpack_record(as_fields(whole), run_ids[i])
            found[i] = {name: record[name] for name in map(str.encode, fields) if name in record}
    return found


async def read_record(connection: Connection, keys: Keys, run_id: str) -> dict[bytes, bytes]:
    """All fields of a record; {} if it is gone."""
    return unpack_record(as_fields(await connection.read("HGETALL", keys.run(run_id))), run_id)


def _payloads(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of a packed record's text.

    Raises:
        ValueError: it ends too early, or isn't one.
    """
    at = 0
    while at < len(text):
        name_size, told, _ = text[at:].split(b" ", 2)
        size, _, elsewhere = told.partition(b"@")
        first = at + len(name_size) + len(told) + 2
        middle = first + int(name_size)
        start = int(elsewhere) - 1 if elsewhere else middle
        end = start + int(size)
        if not (first <= middle <= len(text) and 0 <= start <= end <= len(text)):
            raise ValueError(f"{text[at : at + 40]!r} tells of more than is there")
        yield text[first:middle], text[start:end]
        at = middle if elsewhere else end


def _named(fields: Sequence[str], reply: Reply) -> dict[bytes, bytes]:
    return {
        name.encode(): value for name, value in zip(fields, as_list(reply), strict=False) if isinstance(value, bytes)
    }
