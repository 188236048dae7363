"""Finds the server to talk to: the node of a Cluster that has our slot, or the master that Sentinels name.

Asked anew at each connection, and over connections of its own. redis-py's Cluster and Sentinel clients are taken
apart for their addresses and settings, and not used for this: their locks and pools belong to one event loop, while
a worker's leases are renewed from another; they repeat by themselves; and to make a cluster client read its slots
again is to close it under whoever uses it, too.

Whoever is asked may be dead, frozen or behind the times. So the next one is asked when one fails or takes long, each
search begins with another one, and `connection.py` looks whether what was found is a master.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from redflow.engines.redis.link import hang_up
from redflow.engines.redis.replies import Reply

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0
_HEAD_START_S: Final = 0.5
"""How long one is asked before the next one is asked as well."""

_DOOR_S: Final = 0.2
"""How long a server that hung up is listened to, to hear why."""

NewConnection = Callable[[], Awaitable[AbstractConnection]]
"""Makes an unconnected redis-py connection with our settings."""

Options = dict[str, Any]  # reason: redis-py's connection classes take them as untyped keywords


class Address(NamedTuple):
    """Where a server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ClusterFinder:
    """Makes connections to the primary of a slot.

    Args:
        seeds: nodes to ask first; those that they tell of are remembered.
        key: whose slot it is.
        to_node: makes a connection to one node.
        remap: from the address that the nodes tell to the one that leads there from here.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        key: str,
        to_node: Callable[[Address], AbstractConnection],
        remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None,
    ) -> None:
        self._nodes = list(seeds)
        self._slot = key_slot(key.encode())
        self.to_node = to_node
        self._remap = remap

    async def __call__(self) -> AbstractConnection:
        """An unconnected connection to the node that has the slot, as far as the others know.

        Raises:
            redis.exceptions.RedisError, OSError: nobody knows one.
        """
        return self.to_node(await self.owner())

    async def owner(self) -> Address:
        """The node that has the slot, as far as the others know.

        Raises:
            redis.exceptions.RedisError, OSError: nobody knows one.
        """
        nodes, self._nodes = self._nodes, _rotated(self._nodes)
        return await first_answer([partial(self._ask, node) for node in nodes])

    async def _ask(self, node: Address) -> Address:
        reply = await ask(self.to_node(node), "CLUSTER", "SLOTS")
        owner: Address | None = None
        told: list[Address] = []
        for row in reply if isinstance(reply, list) else ():
            assert isinstance(row, list)
            first, last, *servers = row
            addresses = [self._address(server, node) for server in servers]
            told += addresses
            if isinstance(first, int) and isinstance(last, int) and first <= self._slot <= last and addresses:
                owner = addresses[0]
        if owner is None:
            raise RedisConnectionError(f"{node} knows no node of the cluster that has slot {self._slot}")
        self._nodes += [address for address in dict.fromkeys(told) if address not in self._nodes]
        return owner

    def _address(self, server: Reply, asked: Address) -> Address:
        """The address in a row of CLUSTER SLOTS; no host means that of whoever was asked."""
        assert isinstance(server, list)
        host, port = server[0], server[1]
        name = host.decode() if isinstance(host, bytes) else ""
        assert isinstance(port, int)
        address = Address(asked.host if name in ("", "?") else name, port)
        return address if self._remap is None else Address(*self._remap(address))


class SentinelFinder:
    """Makes connections to the master of a service.

    Args:
        sentinels: each makes a connection to one Sentinel.
        service: what the Sentinels call it.
        to_node: makes a connection to one server.
    """

    def __init__(
        self,
        sentinels: Sequence[Callable[[], AbstractConnection]],
        service: str,
        to_node: Callable[[Address], AbstractConnection],
    ) -> None:
        self._sentinels = list(sentinels)
        self._service = service
        self._to_node = to_node

    async def __call__(self) -> AbstractConnection:
        """An unconnected connection to the master.

        Raises:
            redis.exceptions.RedisError, OSError: no Sentinel names one.
        """
        return self._to_node(await self.master())

    async def master(self) -> Address:
        """The master that the first Sentinel to answer names.

        Raises:
            redis.exceptions.RedisError, OSError: none names one.
        """
        sentinels, self._sentinels = self._sentinels, _rotated(self._sentinels)
        return await first_answer([partial(self._ask, new) for new in sentinels])

    async def _ask(self, to_sentinel: Callable[[], AbstractConnection]) -> Address:
        reply = await ask(to_sentinel(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        if not isinstance(reply, list) or len(reply) != 2:
            raise RedisConnectionError(f"the Sentinels know no master named {self._service!r}")
        host, port = (part.decode() if isinstance(part, bytes) else str(part) for part in reply)
        return Address(host, int(port))


def peer_of(connection: AbstractConnection | None) -> Address | None:
    """Where a connection goes; None if there is none, or if it is no TCP connection."""
    return Address(connection.host, int(connection.port)) if isinstance(connection, TcpConnection) else None


async def open_connection(connection: AbstractConnection) -> None:
    """Connect, and log in.

    Raises:
        TimeoutError, redis.exceptions.RedisError, OSError
    """
    try:
        async with asyncio.timeout(connection.socket_connect_timeout or CONNECT_TIMEOUT_S):
            await connection.connect()  # type: ignore[no-untyped-call]  # reason: redis-py leaves it unannotated
    except TimeoutError as exc:
        if isinstance(connection, SSLConnection):
            raise RedisConnectionError("no answer to the TLS handshake in time; does that port speak TLS?") from exc
        raise


async def refused_at_the_door(connection: AbstractConnection) -> str:
    """What the server tells those whom it does not let in, before it hangs up; nothing if it lets one in.

    Who speaks first, as every client does, most often hears of it only that the connection was reset.
    """
    if not isinstance(connection, TcpConnection) or isinstance(connection, SSLConnection):
        return ""
    try:
        async with asyncio.timeout(_DOOR_S):
            reader, writer = await asyncio.open_connection(connection.host, connection.port)
            try:
                said = await reader.readline()
            finally:
                writer.close()
    except (TimeoutError, OSError, ValueError):
        return ""
    return said[1:].decode("utf-8", "replace").strip() if said.startswith(b"-") else ""


def hung_up_on(exc: Exception) -> bool:
    """Whether an error says that the other side ended the connection."""
    return any(part in str(exc) for part in ("while reading", "while writing", "closed by server"))


@contextlib.contextmanager
def certificate_hint(connection: AbstractConnection) -> Iterator[None]:
    """TLS 1.3 refuses a client without a certificate after the handshake, and the alert that says so often gets lost.

    Raises:
        redis.exceptions.ConnectionError: with a hint, if the server hung up on such a client.
    """
    try:
        yield
    except RedisConnectionError as exc:
        if hung_up_on(exc) and isinstance(connection, SSLConnection) and connection.certfile is None:
            raise RedisConnectionError(f"{exc} Perhaps it asks for a client certificate (ssl_certfile).") from exc
        raise


async def ask(connection: AbstractConnection, *command: str) -> Reply:
    """One command over a connection of its own.

    Raises:
        TimeoutError, redis.exceptions.RedisError, OSError
    """
    try:
        with certificate_hint(connection):
            await open_connection(connection)
            async with asyncio.timeout(connection.socket_connect_timeout or CONNECT_TIMEOUT_S):
                await connection.send_command(*command, check_health=False)
                reply: Reply = await connection.read_response(disable_decoding=True)
        return reply
    finally:
        await hang_up(connection)


async def first_answer(asking: Sequence[Callable[[], Awaitable[T]]], head_start_s: float = _HEAD_START_S) -> T:
    """The first answer of several who know the same.

    The next one is asked when one failed or has been silent for `head_start_s` seconds; what is left is cancelled.

    Raises:
        redis.exceptions.RedisError, OSError: all failed. A login or a certificate that was refused goes first, since
            it does not go away; else one error tells all.
    """
    waiting = list(asking)
    tasks: set[asyncio.Future[T]] = set()
    errors: list[BaseException] = []
    try:
        while waiting or tasks:
            if waiting:
                tasks.add(asyncio.ensure_future(waiting.pop(0)()))
            patience = head_start_s if waiting else None
            done, tasks = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            failures = [task.exception() for task in done]
            for task, failure in zip(done, failures, strict=True):
                if failure is None:
                    return task.result()
            errors += [failure for failure in failures if failure is not None]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for error in errors:
        if isinstance(error, AuthenticationError) or tls_failure(error) or not isinstance(error, RedisError | OSError):
            raise error
    raise RedisConnectionError("; ".join(dict.fromkeys(str(error) or "no answer in time" for error in errors)))


def tls_failure(error: BaseException) -> str | None:
    """Why TLS was refused, in a few words, if that is behind an error and won't go away by itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return f"TLS failed: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
        cause = cause.__cause__ or cause.__context__
    return None


def clone_of(client: Redis | RedisCluster, key: str) -> NewConnection:
    """Connections to the server of a redis-py client, with our own settings.

    Whatever the client's mode (bytes or `decode_responses`, retries, timeouts, protocol), ours read bytes, never
    send a command again by themselves and leave time-outs to the link. In a cluster they lead to the primary of
    the slot of `key`, and all our keys have that slot; with Sentinels to the master.
    """
    if isinstance(client, RedisCluster):
        return _cluster_finder(client, key)
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return _sentinel_finder(pool)
    kwargs = _ours(pool.connection_kwargs)

    async def new_connection() -> AbstractConnection:
        return pool.connection_class(**kwargs)

    return new_connection


def _cluster_finder(cluster: RedisCluster, key: str) -> ClusterFinder:
    nodes = [*cluster.nodes_manager.startup_nodes.values(), *cluster.nodes_manager.nodes_cache.values()]
    kwargs, connection_class = _ours(nodes[0].connection_kwargs), nodes[0].connection_class
    kwargs.pop("redis_connect_func", None)  # it would ask a replica to answer reads

    def to_node(node: Address) -> AbstractConnection:
        return connection_class(**kwargs | node._asdict())

    seeds = list(dict.fromkeys(Address(node.host, int(node.port)) for node in nodes))
    return ClusterFinder(seeds, key, to_node, cluster.nodes_manager.address_remap)


def _sentinel_finder(pool: SentinelConnectionPool) -> SentinelFinder:
    kwargs = _ours(pool.connection_kwargs)
    kwargs.pop("connection_pool", None)
    connection_class = SSLConnection if issubclass(pool.connection_class, SSLConnection) else TcpConnection

    def to_node(node: Address) -> AbstractConnection:
        return connection_class(**kwargs | node._asdict())

    def to_sentinel(sentinel: Redis) -> Callable[[], AbstractConnection]:
        its = sentinel.connection_pool
        return lambda: its.connection_class(**_ours(its.connection_kwargs))

    sentinels = [to_sentinel(sentinel) for sentinel in pool.sentinel_manager.sentinels]
    return SentinelFinder(sentinels, pool.service_name, to_node)


def _rotated(places: list[T]) -> list[T]:
    return places[1:] + places[:1]


def _ours(kwargs: Mapping[str, object]) -> Options:
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
