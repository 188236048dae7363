"""Removes the keys of a prefix: all of them, or all but what describes workflows."""

from __future__ import annotations

from typing import Final

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import as_bytes, as_int, as_list

_KEPT: Final = (b"meta:", b"metas", b"idem:", b"cron:", b"crons", b"subs:", b"subscribed", b"contract:")
_CHUNK: Final = 500


class Resets:
    """Removes keys in chunks; nothing outside the prefix is ever looked at."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def everything(self) -> int:
        """Remove every key; how many."""
        return await self._remove(())

    async def runs(self) -> int:
        """Remove everything but workflow metadata, triggers, contracts and idempotency keys; how many."""
        return await self._remove(_KEPT)

    async def _remove(self, kept: tuple[bytes, ...]) -> int:
        base = self._keys.base.encode()
        cursor: bytes = b"0"
        removed = 0
        while True:
            reply = as_list(
                await self._connection.read("SCAN", cursor, "MATCH", _escaped(base) + b"*", "COUNT", _CHUNK)
            )
            cursor = as_bytes(reply[0])
            found = [as_bytes(key) for key in as_list(reply[1])]
            doomed = [key for key in found if not key[len(base) :].startswith(kept)] if kept else found
            if doomed:
                removed += as_int(await self._connection.read("UNLINK", *doomed))
            if cursor == b"0":
                return removed


def _escaped(text: bytes) -> bytes:
    """The text as a glob that matches only itself."""
    return b"".join(b"\\" + bytes([c]) if bytes([c]) in b"*?[]\\^-" else bytes([c]) for c in text)
