"""From a URL to a redis-py client: the one place that builds one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from redflow.engines.redis.embedded import EmbeddedServer, ensure_embedded
from redflow.engines.redis.urls import ServerAddress, parse_url

_TLS_OPTIONS: Final = (
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
)


RedisOptions = dict[str, Any]  # reason: redis-py's connection classes take them as untyped keywords


AnyRedis = Redis | RedisCluster
"""A redis-py asyncio client, of one server or of a cluster."""


class EmbeddedUse:
    """One client's use of an embedded server: started at the first connection, given back at the end."""

    def __init__(self, directory: str | None) -> None:
        self.directory = directory
        self._server: EmbeddedServer | None = None
        self._starting = asyncio.Lock()

    async def socket_path(self) -> str:
        """Where the server listens; starts it if nobody has."""
        async with self._starting:
            if self._server is None or not await asyncio.to_thread(self._server.answers):
                former, self._server = self._server, await ensure_embedded(self.directory)
                if former is not None:
                    await former.release()
            return str(self._server.socket_path)

    async def release(self) -> None:
        """Give the server back; the last user's release ends it."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.release()


class EmbeddedConnection(UnixDomainSocketConnection):
    """A connection to an embedded server, which it starts when nobody has."""

    def __init__(self, *, use: EmbeddedUse, **kwargs: object) -> None:
        super().__init__(path="", **kwargs)
        self._use = use

    async def _connect(self) -> None:
        self.path = await self._use.socket_path()
        await super()._connect()  # type: ignore[no-untyped-call]  # reason: redis-py leaves it unannotated


@dataclass(slots=True)
class Source:
    """Where a URL leads.

    Attributes:
        redis: a redis-py client for it.
        address: what to call the server in messages; without password.
        embedded: the use of the embedded server, if it is one.
        reply_timeout_s: longest silence of a server that owes a reply, seconds; None: our default.
    """

    redis: AnyRedis
    address: str
    embedded: EmbeddedUse | None = None
    reply_timeout_s: float | None = None


def open_source(url: str) -> Source:
    """A redis-py client for a URL; opens no connection.

    Raises:
        ValueError: the URL is none of ours.
    """
    address = parse_url(url)
    kwargs = _common(address)
    if address.kind == "embedded":
        use = EmbeddedUse(address.path)
        pool = ConnectionPool(connection_class=EmbeddedConnection, use=use)
        return Source(Redis(connection_pool=pool), str(address), use)
    return Source(_client(address, kwargs), str(address), None, address.options.socket_timeout)


def _client(address: ServerAddress, kwargs: RedisOptions) -> AnyRedis:
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        del kwargs["db"]
        return RedisCluster(startup_nodes=nodes, ssl=address.tls, **kwargs)
    if address.kind == "sentinel":
        return _sentinel(address, kwargs)
    if address.kind == "unix":
        pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=address.path, **kwargs)
        return Redis(connection_pool=pool)
    host, port = address.hosts[0]
    connection_class = SSLConnection if address.tls else TcpConnection
    return Redis(connection_pool=ConnectionPool(connection_class=connection_class, host=host, port=port, **kwargs))


def _sentinel(address: ServerAddress, kwargs: RedisOptions) -> Redis:
    options = address.options
    login = {"username": options.sentinel_username, "password": options.sentinel_password}
    to_sentinels: RedisOptions = {name: value for name, value in login.items() if value is not None}
    to_sentinels |= {name: value for name, value in kwargs.items() if name.startswith(("ssl_", "socket_"))}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]  # reason: redis-py leaves it unannotated
        list(address.hosts), sentinel_kwargs=to_sentinels | {"ssl": address.tls}, ssl=address.tls, **kwargs
    )
    master: Redis = sentinel.master_for(address.service or "", Redis)
    return master


def _common(address: ServerAddress) -> RedisOptions:
    options = address.options
    kwargs: RedisOptions = {"db": address.db, "username": address.username, "password": address.password}
    if options.client_name is not None:
        kwargs["client_name"] = options.client_name
    if options.socket_connect_timeout is not None:
        kwargs["socket_connect_timeout"] = options.socket_connect_timeout
    if address.tls:
        kwargs["ssl_check_hostname"] = True  # not every redis-py version has it as default
        kwargs |= {name: getattr(options, name) for name in _TLS_OPTIONS if getattr(options, name) is not None}
    return kwargs


def address_of(redis: AnyRedis) -> str:
    """What to call the server of a redis-py client in messages; without password."""
    if isinstance(redis, RedisCluster):
        return "the Redis Cluster at " + ", ".join(sorted(redis.nodes_manager.startup_nodes))
    pool = redis.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        known = (sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels)
        sentinels = ", ".join(f"{each['host']}:{each['port']}" for each in known)
        return f"the master {pool.service_name!r} of the Sentinels at {sentinels}"
    kwargs = pool.connection_kwargs
    if "path" in kwargs:
        return f"unix://{kwargs['path']}"
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
