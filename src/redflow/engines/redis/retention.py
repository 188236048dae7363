"""Removes the keys of a prefix: all of them, or all but what describes workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import as_bytes, as_int, as_list

_KEPT: Final = (b"meta:", b"metas", b"idem:", b"cron:", b"crons", b"subs:", b"subscribed", b"contract:")
_CHUNK: Final = 500


class Resets:
    """Removes keys in chunks; nothing outside the prefix is ever looked at.

    Args:
        connection: to the server.
        keys: of the prefix.
        others: those of further shards on the same server, looked for in the same pass.
    """

    def __init__(self, connection: Connection, keys: Keys, others: Sequence[Keys] = ()) -> None:
        self._connection = connection
        self._bases = [one.base.encode() for one in (keys, *others)]

    async def everything(self) -> int:
        """Remove every key; how many."""
        return await self._remove(())

    async def runs(self) -> int:
        """Remove everything but workflow metadata, triggers, contracts and idempotency keys; how many."""
        return await self._remove(_KEPT)

    async def _remove(self, kept: tuple[bytes, ...]) -> int:
        start = self._bases[0]
        if len(self._bases) > 1:  # they differ in what follows the last dot
            start = start.rpartition(b".")[0] + b"."
        cursor: bytes = b"0"
        removed = 0
        while True:
            reply = as_list(
                await self._connection.read("SCAN", cursor, "MATCH", _escaped(start) + b"*", "COUNT", _CHUNK)
            )
            cursor = as_bytes(reply[0])
            found = [as_bytes(key) for key in as_list(reply[1])]
            for base in self._bases:  # apart: of a Cluster each is in another slot
                ours = [key for key in found if key.startswith(base)]
                doomed = [key for key in ours if not key[len(base) :].startswith(kept)] if kept else ours
                if not doomed:
                    continue
                removed += as_int(await self._connection.read("UNLINK", *doomed))
            if cursor == b"0":
                return removed


def _escaped(text: bytes) -> bytes:
    """The text as a glob that matches only itself."""
    return b"".join(b"\\" + bytes([c]) if bytes([c]) in b"*?[]\\^-" else bytes([c]) for c in text)
