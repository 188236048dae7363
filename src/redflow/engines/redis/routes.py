"""Shards of a Cluster share one connection for each node.

A route is the way of one shard: it finds out which node has the shard's slot, sends over that node's link, and finds
out anew when the link breaks or the node says that it isn't the one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError

from redflow.engines.redis.discovery import Address, ClusterFinder, NewConnection
from redflow.engines.redis.link import Argument, Link, LinkLost
from redflow.engines.redis.replies import Reply

Connect = Callable[[NewConnection], Awaitable[AbstractConnection]]
"""Opens and checks a connection that the argument makes."""


class Nodes:
    """The links to the nodes of a Cluster, each made when a shard needs it."""

    def __init__(self) -> None:
        self._links: dict[Address, Link] = {}

    def link(self, address: Address, connect: Callable[[], Awaitable[AbstractConnection]]) -> Link:
        """The link to a node."""
        link = self._links.get(address)
        if link is None or link.closed:
            link = self._links[address] = Link(connect)
        return link

    async def close(self) -> None:
        """Close all links."""
        await asyncio.gather(*(link.close() for link in self._links.values()))


class RoutedLink:
    """The link of a shard: that of the node which has it at the time. See `Link` for the methods.

    Args:
        finder: tells which node has the shard.
        nodes: the links, shared with the other shards.
    """

    def __init__(self, finder: ClusterFinder, nodes: Nodes) -> None:
        self._finder = finder
        self._nodes = nodes
        self.connect: Connect | None = None
        """Opens a connection to a node; given by the owner before the first call."""
        self.reply_timeout_s = 5.0
        self._node: Link | None = None
        self._finding: asyncio.Task[None] | None = None
        self._waiting: list[tuple[tuple[Argument, ...], asyncio.Future[Reply]]] = []
        self._closed = False
        self._wanted: Callable[[], bool] | None = None
        self.connections = 0
        """How many ways it has had."""

    def poll_when(self, wanted: Callable[[], bool]) -> None:
        """Have the node's link do so."""
        self._wanted = wanted

    def send(self, *args: Argument) -> asyncio.Future[Reply]:
        """Queue one command."""
        node = self._node
        if node is not None and node.in_use and self._finding is None:
            return node.send(*args)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        if self._closed:
            future.set_exception(LinkLost("the client is closed", sent=False))
            return future
        self._waiting.append((args, future))
        if self._finding is None:
            self._finding = loop.create_task(self._find())
        return future

    def send_now(self, *args: Argument) -> asyncio.Future[Reply]:
        """As `send`, but the command leaves before this returns, if the way is known."""
        node = self._node
        return node.send_now(*args) if node is not None and node.in_use and self._finding is None else self.send(*args)

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    @property
    def connection(self) -> AbstractConnection | None:
        """The connection of the moment, if there is one."""
        return None if self._node is None else self._node.connection

    async def reconnect(self, why: str, number: int) -> None:
        """Find out anew which node has the shard; the link to the former one stays, for other shards."""
        if number == self.connections:
            self._node = None
            self.connections += 1

    async def close(self) -> None:
        """Close it, and with it the links to all nodes."""
        self._closed = True
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        await self._nodes.close()

    async def _find(self) -> None:
        error: Exception = LinkLost("the client is closed", sent=False)
        node: Link | None = None
        try:
            node = self._link_to(await self._finder.owner())
        except AuthenticationError as exc:
            error = exc
        except (TimeoutError, RedisError, OSError) as exc:
            error = LinkLost(str(exc) or "it did not answer in time", sent=False)
        finally:
            self._finding, self._node = None, node
            waiting, self._waiting = self._waiting, []
            for args, future in waiting:
                if node is not None:
                    _pass_on(node.send(*args), future)
                elif not future.done():
                    future.set_exception(error)

    def _link_to(self, address: Address) -> Link:
        connect, finder = self.connect, self._finder
        assert connect is not None

        async def new() -> AbstractConnection:
            return finder.to_node(address)

        link = self._nodes.link(address, lambda: connect(new))
        if self._wanted is not None:
            link.poll_when(self._wanted)
        return link


def _pass_on(source: asyncio.Future[Reply], target: asyncio.Future[Reply]) -> None:
    def copy(done: asyncio.Future[Reply]) -> None:
        if done.cancelled():
            target.cancel()
        elif (error := done.exception()) is not None:
            if not target.done():
                target.set_exception(error)
        elif not target.done():
            target.set_result(done.result())

    source.add_done_callback(copy)
