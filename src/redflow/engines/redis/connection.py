"""The connection of one client or worker: where the server is, what it must be, and how a verb is called.

Every state-changing verb may be sent again with the same arguments (see the scripts' headers), so a call whose
connection broke is repeated here, and only here, until its time is up. Nothing else in the engine retries.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ResponseError,
)

from redflow.engines.redis.link import Argument, Link, LinkLost, Reply
from redflow.engines.redis.scripts import Script
from redflow.errors import ConnectionError, QueueFullError, RedflowError, ServerTooOldError

T = TypeVar("T")

OLDEST_SERVER: Final = (6, 2)
CONNECT_TIMEOUT_S: Final = 5.0
_PASSING: Final = (
    "LOADING",
    "BUSY ",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "UNBLOCKED",
    "MISCONF",
    "NOREPLICAS",
)
"""Refusals that go away by themselves: a server that starts, fails over, is blocked or has a full disk."""
_ELSEWHERE: Final = ("READONLY", "MASTERDOWN", "UNBLOCKED")
"""Refusals of a server that is not the primary any more: the next connection asks anew who is."""

NewConnection = Callable[[], Awaitable[AbstractConnection]]


class Connection:
    """A checked, self-healing way to one Redis.

    Args:
        new_connection: makes an unconnected redis-py connection with our settings.
        address: what to call the server in messages; without password.
        patience_s: how long a call is repeated while the server can't be reached, seconds.
    """

    def __init__(self, new_connection: NewConnection, address: str, *, patience_s: float = 3.0) -> None:
        self._new_connection = new_connection
        self._patience_s = patience_s
        self._link = Link(self.connect)
        self.address = address
        self.losses = 0
        """How often the server was out of reach; a reaper waits after such a gap."""

    async def connect(self) -> AbstractConnection:
        """A fresh connection to a server that is new enough.

        Raises:
            ServerTooOldError, redis.exceptions.RedisError, OSError
        """
        connection = await self._new_connection()
        async with asyncio.timeout(connection.socket_connect_timeout or CONNECT_TIMEOUT_S):
            await connection.connect()  # type: ignore[no-untyped-call]  # reason: redis-py leaves it unannotated
            await self._check_version(connection)
        return connection

    async def _check_version(self, connection: AbstractConnection) -> None:
        try:
            await connection.send_command("HELLO", check_health=False)
            hello = await connection.read_response(disable_decoding=True)
        except ResponseError as exc:
            if isinstance(exc, AuthenticationError) or "NOAUTH" in str(exc).upper():
                raise AuthenticationError(str(exc)) from exc
            if "unknown command" not in str(exc).lower():
                return
            await connection.disconnect(nowait=True)
            raise ServerTooOldError(
                f"{self.address} runs a Redis older than 6.0; redflow needs Redis >= 6.2 or Valkey"
            ) from exc
        facts = dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else hello
        version = facts.get(b"version", b"").decode()
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers and numbers < OLDEST_SERVER:
            await connection.disconnect(nowait=True)
            raise ServerTooOldError(f"{self.address} runs Redis {version}; redflow needs Redis >= 6.2 or Valkey")

    async def call(
        self,
        script: Script,
        base: str | Sequence[str],
        args: Sequence[Argument] = (),
        *,
        patience_s: float | None = None,
    ) -> Reply:
        """Run a verb.

        Args:
            script: the verb.
            base: the keys' base, the only declared key; or the keys, for scripts that declare them all.
            args: its arguments, flat.
            patience_s: how long to repeat while the server is out of reach; None means the connection's own.

        Raises:
            ConnectionError: not reached in time; the verb may or may not have been applied.
            QueueFullError: the server is out of memory.
            RedflowError: the server refused the verb.
        """
        keys = (base,) if isinstance(base, str) else base

        async def once() -> Reply:
            try:
                return await self._link.send("EVALSHA", script.sha, len(keys), *keys, *args)
            except NoScriptError:
                return await self._link.send("EVAL", script.source, len(keys), *keys, *args)

        return await self._repeat(once, script.name, patience_s)

    async def read(self, *args: Argument, patience_s: float | None = None) -> Reply:
        """Run a plain command that changes nothing, or that may be repeated."""

        async def once() -> Reply:
            return await self._link.send(*args)

        return await self._repeat(once, str(args[0]), patience_s)

    async def read_many(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Run several plain commands in one trip."""

        async def once() -> list[Reply]:
            return list(await asyncio.gather(*[self._link.send(*command) for command in commands]))

        return await self._repeat(once, str(commands[0][0]) if commands else "", None)

    async def transaction(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Run several plain commands as one, all or none, in one trip; their replies.

        They leave in one write, so nothing that other coroutines send can come between them.
        """

        async def once() -> list[Reply]:
            whole = (("MULTI",), *commands, ("EXEC",))
            *_, replies = await asyncio.gather(*[self._link.send(*command) for command in whole])
            return replies if isinstance(replies, list) else []

        return await self._repeat(once, str(commands[0][0]), None)

    async def _repeat(self, once: Callable[[], Awaitable[T]], what: str, patience_s: float | None) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._patience_s if patience_s is None else patience_s)
        delay = 0.02
        while True:
            try:
                return await once()
            except LinkLost as exc:
                self.losses += 1
                reason = str(exc)
            except AuthenticationError as exc:
                raise ConnectionError(f"{self.address} refuses the user name or password: {exc}") from exc
            except ResponseError as exc:
                reason = str(exc)
                if isinstance(exc, OutOfMemoryError) or "OOM command not allowed" in reason:
                    raise QueueFullError(f"{self.address} is out of memory; {what} was refused whole") from exc
                if isinstance(exc, MovedError) or any(code in reason for code in _ELSEWHERE):
                    await self._link.reconnect(reason)
                elif not any(code in reason for code in _PASSING):
                    raise RedflowError(f"{self.address} refused {what}: {reason}") from exc
            if self._link.closed:
                raise ConnectionError(f"the client of {self.address} is closed")
            if loop.time() + delay > deadline:
                raise ConnectionError(f"can't reach {self.address}: {reason}")
            await asyncio.sleep(delay * (0.5 + random.random()))
            delay = min(delay * 2, 0.5)

    def limit_silence(self, seconds: float) -> None:
        """How long a server that owes a reply may say nothing before the connection counts as broken."""
        self._link.reply_timeout_s = seconds

    def twin(self) -> Connection:
        """Another connection to the same server, for another thread's event loop."""
        return Connection(self._new_connection, self.address, patience_s=self._patience_s)

    async def close(self) -> None:
        """Close the connection; a call after that fails."""
        await self._link.close()


def clone_of(client: Redis | RedisCluster, base: str) -> NewConnection:
    """Connections to the server of a redis-py client, with our own settings.

    Whatever the client's mode (bytes or `decode_responses`, retries, timeouts, protocol), ours read bytes, never
    send a command again by themselves and leave time-outs to the link. In a cluster they lead to the primary of
    the slot of `base`, and every key has that slot; each connection asks anew who it is.
    """
    if isinstance(client, RedisCluster):
        return _to_node_of(client, base)
    pool = client.connection_pool
    kwargs = _ours(pool.connection_kwargs)

    async def new_connection() -> AbstractConnection:
        return pool.connection_class(**kwargs)

    return new_connection


def _to_node_of(cluster: RedisCluster, base: str) -> NewConnection:
    async def new_connection() -> AbstractConnection:
        await cluster.aclose()
        fresh = await cluster.initialize()  # reads the slots again
        node = fresh.get_node_from_key(base)
        if node is None:
            raise ClusterDownError(f"no node of the cluster has the slot of {base}")
        return node.connection_class(**_ours(node.connection_kwargs))

    return new_connection


def _ours(kwargs: Mapping[str, object]) -> dict[str, Any]:  # reason: redis-py takes them as untyped keywords
    kept = {name: value for name, value in kwargs.items() if name not in _NOT_CLONED}
    return kept | {
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "socket_timeout": None,
        "socket_connect_timeout": kept.get("socket_connect_timeout") or CONNECT_TIMEOUT_S,
        "health_check_interval": 0,
        "protocol": 2,
    }


_NOT_CLONED: Final = frozenset(
    {
        "maint_notifications_config",
        "maint_notifications_pool_handler",
        "oss_cluster_maint_notifications_handler",
        "orig_host_address",
        "orig_socket_timeout",
        "orig_socket_connect_timeout",
    }
)
