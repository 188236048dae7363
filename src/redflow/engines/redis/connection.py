"""The connection of one client or worker: where the server is, what it must be, and how a verb is called.

Every state-changing verb may be sent again with the same arguments (see the scripts' headers), so a call whose
connection broke is repeated here, and only here, until its time is up. Nothing else in the engine retries.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from redflow.engines.redis.complaints import Complaints
from redflow.engines.redis.discovery import (
    CONNECT_TIMEOUT_S,
    Address,
    ClusterFinder,
    NewConnection,
    SentinelFinder,
    certificate_hint,
    hung_up_on,
    open_connection,
    peer_of,
    refused_at_the_door,
    tls_failure,
)
from redflow.engines.redis.durable import WAIT_MS, is_confirmed, marker_command, unsupported, wait_command
from redflow.engines.redis.link import Argument, Link, LinkLost
from redflow.engines.redis.replies import Reply
from redflow.engines.redis.routes import RoutedLink
from redflow.engines.redis.scripts import Script
from redflow.errors import ConnectionError, QueueFullError, RedflowError, ServerTooOldError
from redflow.types import Durability

T = TypeVar("T")

OnConnect = Callable[[AbstractConnection], Awaitable[None]]

OLDEST_SERVER: Final = (6, 2)
_ASK_SENTINELS_EVERY_S: Final = 1.0
_LONGEST_WAIT_FOR_SENTINELS_S: Final = 0.5
_ELSEWHERE: Final = (MovedError, ReadOnlyError, MasterDownError)
"""Refusals of a server that is not the primary (any more): the next connection asks anew who is."""
_PASSING: Final = (*_ELSEWHERE, AskError, ClusterDownError, TryAgainError)
"""Refusals that go away by themselves: a server that fails over, or that is handing our slot to another.

ASK is not followed. No key has the name of the base, so a node that hands our slot over refuses every script whole
(ASK), and goes on doing so until the other one has all keys. There a script would find only those that have arrived,
and what it wrote would collide with those that had not.
"""
_PASSING_CODES: Final = ("LOADING", "BUSY ", "READONLY", "UNBLOCKED", "MISCONF", "NOREPLICAS")
"""More of them, for which redis-py has no class, or not in each of its versions: a server that starts, whose disk is
full, or that is busy with a script. READONLY stands inside of what Redis 6.2 says of a script."""
_ELSEWHERE_CODES: Final = ("READONLY", "UNBLOCKED", "NOREPLICAS")
"""NOREPLICAS: perhaps its replica is the master by now."""


class Connection:
    """A checked, self-healing way to one Redis.

    Args:
        new_connection: makes an unconnected redis-py connection with our settings.
        address: what to call the server in messages; without password.
        patience_s: how long a call is repeated while the server can't be reached, seconds.
        link: what calls go over; None: a connection of its own.
    """

    def __init__(
        self, new_connection: NewConnection, address: str, *, patience_s: float = 3.0, link: RoutedLink | None = None
    ) -> None:
        self._new_connection = new_connection
        self._patience_s = patience_s
        self._link: Link | RoutedLink = Link(self.connect) if link is None else link
        self.on_connect: OnConnect | None = None
        """Awaited with each new connection, before anything else is asked over it."""
        self._durable: Link | None = None
        self._durable_checked: set[tuple[Durability, int]] = set()
        self.durable_wait_ms = WAIT_MS
        """How long a durable call waits for its confirmation, ms."""
        self.address = address
        self.losses = 0
        """How often the server was out of reach; a reaper waits after such a gap."""
        self.complaints = Complaints()
        self.on_moved: set[Callable[[], None]] = set()
        """Called when another server has become the master while the old one lives on."""
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    async def connect(self, new: NewConnection | None = None) -> AbstractConnection:
        """A fresh connection to a server that is new enough, and the master where there are several.

        Args:
            new: makes it unconnected; None: as this Connection does.

        Raises:
            ServerTooOldError, ShardMismatchError, redflow.errors.ConnectionError
            redis.exceptions.RedisError, OSError
        """
        try:
            connection = await (new or self._new_connection)()
            try:
                with certificate_hint(connection):
                    await open_connection(connection)
                    async with asyncio.timeout(connection.socket_connect_timeout or CONNECT_TIMEOUT_S):
                        self._check(await self._hello(connection))
                        if self.on_connect is not None:
                            await self.on_connect(connection)
            except BaseException as exc:
                await connection.disconnect(nowait=True)
                hung_up = isinstance(exc, RedisConnectionError) and hung_up_on(exc)
                if hung_up and (said := await refused_at_the_door(connection)):
                    raise RedisConnectionError(said) from exc
                raise
        except (RedisError, OSError) as exc:
            if why := tls_failure(exc):
                raise ConnectionError(f"can't use {self.address}: {why}") from exc
            raise
        return connection

    async def _hello(self, connection: AbstractConnection) -> dict[bytes, Reply]:
        """What the server says of itself; nothing if it may not."""
        try:
            await connection.send_command("HELLO", check_health=False)
            hello = await connection.read_response(disable_decoding=True)
        except ResponseError as exc:
            if isinstance(exc, AuthenticationError) or "NOAUTH" in str(exc).upper():
                raise AuthenticationError(str(exc)) from exc
            if "unknown command" not in str(exc).lower():
                return {}
            raise ServerTooOldError(
                f"{self.address} runs a Redis older than 6.0; redflow needs Redis >= 6.2 or Valkey"
            ) from exc
        return dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else hello

    def _check(self, facts: dict[bytes, Reply]) -> None:
        version = facts.get(b"version")
        text = version.decode() if isinstance(version, bytes) else ""
        numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
        if numbers and numbers < OLDEST_SERVER:
            raise ServerTooOldError(f"{self.address} runs Redis {text}; redflow needs Redis >= 6.2 or Valkey")
        # Whoever named this server may be behind the times: after a failover the old master is a replica.
        if isinstance(self._new_connection, ClusterFinder | SentinelFinder) and facts.get(b"role") == b"replica":
            raise RedisConnectionError("the server that was named as the master is a replica")

    def call(
        self,
        script: Script,
        base: str | Sequence[str],
        args: Sequence[Argument] = (),
        *,
        patience_s: float | None = None,
        at_once: bool = False,
    ) -> Awaitable[Reply]:
        """Run a verb.

        Args:
            script: the verb.
            base: the keys' base, the only declared key; or the keys, for scripts that declare them all.
            args: its arguments, flat.
            patience_s: how long to repeat while the server is out of reach; None means the connection's own.
            at_once: send it before this returns, not when the loop has gone round.

        Raises:
            ConnectionError: not reached in time; the verb may or may not have been applied.
            QueueFullError: the server is out of memory.
            RedflowError: the server refused the verb.
        """
        keys = (base,) if isinstance(base, str) else base
        under_way: asyncio.Future[Reply] | None = None
        if at_once and not isinstance(self._new_connection, SentinelFinder):
            under_way = self._link.send_now("EVALSHA", script.sha, len(keys), *keys, *args)

        async def once() -> Reply:
            nonlocal under_way
            first, under_way = under_way, None
            try:
                return await (first or self._link.send("EVALSHA", script.sha, len(keys), *keys, *args))
            except NoScriptError:
                return await self._link.send("EVAL", script.source, len(keys), *keys, *args)

        return self._repeat(once, script.name, patience_s)

    async def call_durably(
        self, script: Script, base: str, args: Sequence[Argument], durability: Durability
    ) -> tuple[Reply, bool]:
        """Run a verb, and wait until what it wrote is on a replica or on the disk; see `durable.py`.

        Returns:
            Its reply, and whether that was confirmed in time; if not, the verb was applied all the same.

        Raises:
            DurabilityUnsupportedError: the server can't do that; the verb was not applied.
            As `call`.
        """
        link = self._durable_link()
        wait = wait_command(durability, self.durable_wait_ms)

        async def together(*verb: str) -> tuple[Reply, bool]:
            sent = [link.send(*verb, 1, base, *args), link.send(*marker_command(base)), link.send(*wait)]
            answers = await asyncio.gather(*sent, return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            reply, _, waited = [await answered for answered in sent]
            return reply, is_confirmed(durability, waited)

        async def once() -> tuple[Reply, bool]:
            await self._check_support(link, durability)
            try:
                return await together("EVALSHA", script.sha)
            except NoScriptError:
                return await together("EVAL", script.source)

        return await self._repeat(once, script.name, None, link)

    async def check_durability(self, durability: Durability) -> None:
        """Ask once for each connection whether the server can do that.

        Raises:
            DurabilityUnsupportedError: it can't.
            ConnectionError: it can't be reached.
        """
        link = self._durable_link()
        if (durability, link.connections) not in self._durable_checked:
            await self._repeat(lambda: self._check_support(link, durability), "WAIT", None, link)

    async def _check_support(self, link: Link, durability: Durability) -> None:
        if link.connection is not None and (durability, link.connections) in self._durable_checked:
            return
        try:
            await link.send(*wait_command(durability, 1))
        except ResponseError as exc:
            if isinstance(exc, _PASSING) or any(code in str(exc) for code in _PASSING_CODES):
                raise
            raise unsupported(durability, self.address, str(exc)) from exc
        self._durable_checked = {one for one in self._durable_checked if one[1] == link.connections}
        self._durable_checked.add((durability, link.connections))

    def _durable_link(self) -> Link:
        if self._durable is None:
            self._durable = Link(self.connect, reply_timeout_s=self._link.reply_timeout_s + self.durable_wait_ms / 1000)
        return self._durable

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

    async def _repeat(
        self, once: Callable[[], Awaitable[T]], what: str, patience_s: float | None, over: Link | None = None
    ) -> T:
        used = over or self._link
        if isinstance(self._new_connection, SentinelFinder):
            await self._ask_sentinels_now_and_then(self._new_connection)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._patience_s if patience_s is None else patience_s)
        delay = 0.02
        while True:
            link = used.connections
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
                if not isinstance(exc, _PASSING) and not any(code in reason for code in _PASSING_CODES):
                    raise RedflowError(f"{self.address} refused {what}: {reason}") from exc
                self.losses += 1  # leases could not be renewed meanwhile, as little as without a connection
                if isinstance(exc, _ELSEWHERE) or any(code in reason for code in _ELSEWHERE_CODES):
                    await used.reconnect(reason, link)
                reason = f"{_CODES.get(type(exc), '')} {reason}".strip()
            if self._link.closed:
                raise ConnectionError(f"the client of {self.address} is closed")
            if loop.time() + delay > deadline:
                raise ConnectionError(f"can't reach {self.address}: {reason}")
            await asyncio.sleep(delay * (0.5 + random.random()))
            delay = min(delay * 2, 0.5)

    async def _ask_sentinels_now_and_then(self, finder: SentinelFinder) -> None:
        """A master that was replaced is told so some ten seconds later, and what it accepts until then is lost.

        So while calls are made the Sentinels are asked once a second, beside the calls; after a rest the first call
        waits for their answer, unless they take long.
        """
        loop = asyncio.get_running_loop()
        rested_s = loop.time() - self._asked_at
        if rested_s < _ASK_SENTINELS_EVERY_S or self.peer is None:
            return
        if self._asking is None or self._asking.done():
            self._asked_at = loop.time()
            self._asking = loop.create_task(self._move_if_replaced(finder), name="redflow-ask-sentinels")
            if rested_s >= 2 * _ASK_SENTINELS_EVERY_S:
                await asyncio.wait({self._asking}, timeout=_LONGEST_WAIT_FOR_SENTINELS_S)

    async def _move_if_replaced(self, finder: SentinelFinder) -> None:
        number, peer = self._link.connections, self.peer
        try:
            master = await finder.master()
        except (TimeoutError, RedisError, OSError):
            return  # the way to the master stands; whoever needs a new one will say what is wrong
        if peer is not None and peer != master:
            await self._link.reconnect(f"{master} is the master now", number)
            for tell in list(self.on_moved):
                tell()

    @property
    def peer(self) -> Address | None:
        """Where the connection of the moment goes, if there is one over TCP."""
        return peer_of(self._link.connection)

    def poll_when(self, wanted: Callable[[], bool]) -> None:
        """Look for replies that are near without sleeping, whenever `wanted` says so; see `polling.py`."""
        self._link.poll_when(wanted)

    def limit_silence(self, seconds: float) -> None:
        """How long a server that owes a reply may say nothing before the connection counts as broken."""
        self._link.reply_timeout_s = seconds

    def twin(self) -> Connection:
        """Another connection to the same server, for another thread's event loop."""
        twin = Connection(self._new_connection, self.address, patience_s=self._patience_s)
        twin.on_connect, twin.complaints = self.on_connect, self.complaints
        return twin

    @property
    def finder(self) -> NewConnection:
        """What makes its connections."""
        return self._new_connection

    async def close(self) -> None:
        """Close the connection; a call after that fails."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._link.close()
        if self._durable is not None:
            await self._durable.close()


_CODES: Final[dict[type[ResponseError], str]] = {
    MovedError: "MOVED",
    AskError: "ASK",
    ReadOnlyError: "READONLY",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    TryAgainError: "TRYAGAIN",
}
"""The codes that redis-py cuts off, for messages."""
