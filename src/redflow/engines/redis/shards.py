"""The connections of a prefix that is spread over shards: one for all on one server, one for each node of a Cluster."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from redis.exceptions import RedisError

from redflow.engines.redis.connection import Connection, OnConnect
from redflow.engines.redis.discovery import Address, ClusterFinder, clone_of
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import Reply
from redflow.engines.redis.routes import Nodes, RoutedLink
from redflow.engines.redis.shard_record import ShardRecord
from redflow.engines.redis.signals import OnMessage, Signals
from redflow.engines.redis.sources import AnyRedis
from redflow.errors import RedflowError

log = logging.getLogger("redflow")


def open_shards(redis: AnyRedis, prefix: str, shards: int, address: str) -> tuple[list[Connection], ShardRecord]:
    """The connection of each shard, all checked against what is recorded of the prefix.

    Args:
        redis: a redis-py client; ours are made like its.
        prefix: of all keys.
        shards: how many the prefix has.
        address: what to call the server in messages.
    """
    bases = [Keys.of(prefix, shard, shards).base for shard in range(shards)]
    finders = [clone_of(redis, base) for base in bases]
    if shards == 1 or not isinstance(finders[0], ClusterFinder):
        connection, record = Connection(finders[0], address), ShardRecord(prefix, shards)
        connection.on_connect = record.check
        return [connection] * shards, record

    async def ask_where_it_is(*command: str | int) -> Reply:
        """The record has a slot of its own. Home has a copy, so that only home need be there later."""
        record_at, home = (Connection(clone_of(redis, base), address) for base in (Keys.of(prefix).base, bases[0]))
        copy = Keys.of(prefix, 0, shards).shards
        try:
            if command[0] == "EVAL" and await home.read("GET", copy) is not None:
                return shards
            reply = await record_at.read(*command)
            if command[0] == "EVAL" and reply == shards:
                await home.read("SET", copy, shards)
            return reply
        finally:
            await close_all([record_at, home])

    record = ShardRecord(prefix, shards, ask_where_it_is)
    return _routed([finder for finder in finders if isinstance(finder, ClusterFinder)], address, record.check), record


def twins(connections: Sequence[Connection]) -> list[Connection]:
    """The same for another thread's event loop."""
    finders = [connection.finder for connection in connections if isinstance(connection.finder, ClusterFinder)]
    if len(connections) == 1 or not finders:
        return [connections[0].twin()] * len(connections)
    return _routed(finders, connections[0].address, connections[0].on_connect)


def _routed(finders: Sequence[ClusterFinder], address: str, on_connect: OnConnect | None) -> list[Connection]:
    nodes, connections = Nodes(), []
    for finder in finders:
        link = RoutedLink(finder, nodes)
        connection = Connection(finder, address, link=link)
        connection.on_connect = on_connect
        link.connect = connection.connect
        connections.append(connection)
    return connections


async def close_all(connections: Sequence[Connection]) -> None:
    """Close each connection once."""
    for connection in dict.fromkeys(connections):
        await connection.close()


async def by_node(connections: Sequence[Connection]) -> list[list[int]]:
    """Which shards are on the same server at the moment; one whose server nobody tells stands alone."""
    if len(set(connections)) == 1:
        return [list(range(len(connections)))]

    async def owner(connection: Connection) -> Address | None:
        finder = connection.finder
        assert isinstance(finder, ClusterFinder)
        try:
            return await finder.owner()
        except (TimeoutError, RedisError, OSError):
            return None

    groups: defaultdict[Address | int, list[int]] = defaultdict(list)
    for shard, address in enumerate(await asyncio.gather(*map(owner, connections))):
        groups[address or shard].append(shard)
    return list(groups.values())


class SignalsOfAll:
    """What is heard of all shards: over one subscription, or one at each node of a Cluster.

    A script learns of a PUBLISH only how many heard it at its own node; so it is there that we must listen.

    Args:
        connections: to each shard.
        channels: what to hear, and of which shard it is.
        on_message, on_gap: see `Signals`.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        channels: Mapping[str, int],
        on_message: OnMessage,
        on_gap: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._channels = channels
        self._on_message = on_message
        self._on_gap = on_gap
        self._signals: list[Signals] = []

    async def open(self) -> None:
        """Start listening; returns when the subscriptions stand, or that at home and the others go on trying.

        Raises:
            ConnectionError: the home shard can't be reached in time.
        """
        for shards in await by_node(self._connections):
            channels = [channel for channel, shard in self._channels.items() if shard in shards]
            self._signals.append(Signals(self._connections[shards[0]], channels, self._on_message, self._on_gap))
        opened = await asyncio.gather(*(signals.open() for signals in self._signals), return_exceptions=True)
        for signals, result in zip(self._signals, opened, strict=True):
            if isinstance(result, BaseException):
                if signals.hears(self._connections[0]) or not isinstance(result, RedflowError):
                    raise result
                log.warning("a shard is not heard yet: %s", result)

    async def close(self) -> None:
        """Stop listening."""
        await asyncio.gather(*(signals.close() for signals in self._signals))
