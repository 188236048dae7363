"""Waits for the end of runs by notification: one push channel for all waits of a client.

A wait registers the client at the run, then reads it once: whatever the order in which the end and the wait come,
one of the two sees the other. A slow check is the net under a lost notification.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Final

from redflow.domain.run import stored_run_id
from redflow.domain.sealing import Vault
from redflow.engine import RunEnd
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.packing import PACKED, read_record
from redflow.engines.redis.records import status_of, stored_error, stored_json
from redflow.engines.redis.replies import Reply, as_list, readable, reading
from redflow.engines.redis.signals import Signals
from redflow.errors import QueueFullError, RedflowError
from redflow.types import TERMINAL_STATUSES

CHECK_EVERY_S: Final = 2.0
_ABSENT_FOR_S: Final = 1.0
_REGISTRATION_TTL_S: Final = 300


class Results:
    """The waits of one client."""

    def __init__(self, connection: Connection, keys: Keys, vault: Vault | None = None) -> None:
        self._connection = connection
        self._keys = keys
        self._vault = vault
        self._client = secrets.token_hex(6)
        self._waits: dict[str, set[asyncio.Future[RunEnd | None]]] = {}
        self._signals: Signals | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def end_of(self, run_id: str, timeout_s: float) -> RunEnd | None:
        """How the run ended; None when it hasn't within `timeout_s` seconds.

        Raises:
            RedflowError: it was absent for a second.
        """
        stored = stored_run_id(run_id)
        if stored is None:
            raise RedflowError(f"Run not found: {run_id}")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        absent_since: float | None = None
        seen = False
        if timeout_s > 0:
            await self._listen()
        while True:
            future: asyncio.Future[RunEnd | None] = loop.create_future()
            self._waits.setdefault(stored, set()).add(future)
            try:
                end, exists = await self._look(stored, register=timeout_s > 0)
                if end is not None:
                    return end
                left = deadline - loop.time()
                if exists:
                    seen, absent_since, pause = True, None, CHECK_EVERY_S
                else:
                    absent_since = loop.time() if absent_since is None else absent_since
                    if loop.time() - absent_since >= _ABSENT_FOR_S:
                        raise RedflowError(f"{'Run state unavailable' if seen else 'Run not found'}: {run_id}")
                    pause = 0.1
                if left <= 0:
                    return None
                done, _ = await asyncio.wait({future}, timeout=min(left, pause))
                if done and (end := future.result()) is not None:
                    return end
            finally:
                self._forget(stored, future)

    async def close(self) -> None:
        """Stop listening; the waits that are left look once more, and fail if the connection is closed."""
        self._closed = True
        if self._signals is not None:
            await self._signals.close()
            self._signals = None
        self._look_again()

    async def _listen(self) -> None:
        if self._closed or (self._signals is not None and self._signals.alive):
            return
        async with self._opening:
            if self._signals is None:
                self._signals = Signals(self._connection, self._channels(), self._heard, self._look_again)
            await self._signals.open()

    def _channels(self) -> list[str]:
        """Where this client is told."""
        return [self._keys.client_channel(self._client)]

    def _home_of(self, stored: str) -> tuple[Connection, Keys] | None:
        """Where a run is; None: nowhere."""
        return self._connection, self._keys

    async def _look(self, stored: str, *, register: bool) -> tuple[RunEnd | None, bool]:
        """(how it ended if it has, whether it exists); registers this client in the same instant."""
        home = self._home_of(stored)
        if home is None:
            return None, False
        connection, keys = home
        read = ("HMGET", keys.run(stored), "s", "o", "e", "cw", "mi", PACKED)
        if register:
            reply = await self._register(connection, keys.waiters(stored), read)
        else:
            reply = await connection.read(*read)
        values = as_list(reply)
        status, output, error, reason, merged, packed = (v if isinstance(v, bytes) else None for v in values)
        if status is None:
            return None, False
        if status.decode() not in TERMINAL_STATUSES:
            return None, True
        with reading(f"run {stored}"):
            payload = output if output is not None else error
            if packed is not None and payload is None:
                record = await read_record(connection, keys, stored)
                if b"s" not in record:
                    return None, False
                payload = record.get(b"o" if status == b"succeeded" else b"e")
            if payload == b"@":
                field = "o" if status == b"succeeded" else "e"
                whole = await connection.read("HGET", keys.big(stored), field)
                payload = whole if isinstance(whole, bytes) else None
            end = self._run_end(stored, status, payload, reason)
            end.merged_into = merged.decode() if merged is not None else None
        return end, True

    async def _register(self, connection: Connection, waiters: str, read: Sequence[Argument]) -> Reply:
        """Enter this client among those that hear of the run's end, and read the run: a transaction, not a script.

        A script would cost every run that is awaited a call more than its life takes. A full server enters nobody;
        the slow check finds the end.
        """
        enter = (("SADD", waiters, self._client), ("EXPIRE", waiters, _REGISTRATION_TTL_S), read)
        try:
            return (await connection.transaction(enter))[-1]
        except QueueFullError:
            return await connection.read(*read)

    def _heard(self, channel: str, message: bytes) -> None:
        run_id, status, payload = message.split(b" ", 2)
        waits = self._waits.get(run_id.decode())
        if not waits:
            return
        end = None
        if payload != b"@" and status != b"canceled":
            stored = run_id.decode()
            end = readable(f"run {stored}", partial(self._run_end, stored, status, payload, None))
        for future in waits:
            if not future.done():
                future.set_result(end)

    def _run_end(self, stored: str, status: bytes, payload: bytes | None, reason: bytes | None) -> RunEnd:
        end = RunEnd(status_of(status), cancel_reason=(reason or b"").decode())
        if payload is None or end.status not in ("succeeded", "failed"):
            return end
        failed = end.status == "failed"
        if self._vault is not None:
            payload = self._vault.open_of_run(payload, "error" if failed else "output", stored)
        if failed:
            end.error = stored_error(payload)
        else:
            end.output = stored_json(payload)
        return end

    def _look_again(self) -> None:
        """Notifications may have been missed: every wait reads for itself."""
        for waits in self._waits.values():
            for future in waits:
                if not future.done():
                    future.set_result(None)

    def _forget(self, stored: str, future: asyncio.Future[RunEnd | None]) -> None:
        waits = self._waits.get(stored)
        if waits is not None:
            waits.discard(future)
            if not waits:
                del self._waits[stored]
