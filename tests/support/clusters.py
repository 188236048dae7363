"""Real Redis Clusters and Sentinels for the tests, made of the servers of `tests.support.servers`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from redflow.engines.redis.keys import Keys
from tests.support.servers import ServerKind, ServerOptions, ServerProcess, wait_until

SLOTS = 16_384
START_TIMEOUT_S = 30.0


def ask(server: ServerProcess, *command: str | int | bytes) -> Any:
    """One command to one server, as it is; bytes and lists come back."""
    with Redis(port=server.port, protocol=2, password=server.options.requirepass) as redis:
        return redis.execute_command(*command)


def info(server: ServerProcess, section: str) -> dict[str, str]:
    """A section of INFO."""
    with Redis(port=server.port, protocol=2, password=server.options.requirepass) as redis:
        return {str(name): str(value) for name, value in redis.info(section).items()}


def start_all(servers: list[ServerProcess]) -> None:
    """Start servers side by side; a second apart they would take a second each."""
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(ServerProcess.start, servers))


def discard(server: ServerProcess) -> None:
    """The end of a server: at once, since one that is asked to stop waits for its replicas."""
    with suppress(RuntimeError):  # not running
        server.kill()
    server.stop()


class RedisCluster:
    """Three masters with a third of the slots each, and replicas where a test wants one.

    Args:
        kind: of the servers.
        config: further lines of their configuration.
    """

    def __init__(self, kind: ServerKind, *, config: tuple[str, ...] = ()) -> None:
        self._kind = kind
        # No replica is promoted while nobody asks for it, however slow the machine is; `fails_over` asks for it.
        self._options = ServerOptions(
            appendonly=True,
            config=(
                "cluster-enabled yes",
                "cluster-node-timeout 15000",
                "repl-diskless-sync-delay 0",
                "repl-ping-replica-period 1",
                *config,
            ),
        )
        self.nodes = [ServerProcess(kind, self._options) for _ in range(3)]
        self._exit = ExitStack()

    def __enter__(self) -> RedisCluster:
        for node in self.nodes:
            self._exit.callback(discard, node)
        try:
            start_all(self.nodes)
            self._join(self.nodes[1:])
            for n, node in enumerate(self.nodes):
                first, last = SLOTS * n // 3, SLOTS * (n + 1) // 3 - 1
                ask(node, "CLUSTER", "ADDSLOTS", *range(first, last + 1))
            self.wait_ok()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    @property
    def url(self) -> str:
        """Names one node that stays: the others must be found."""
        return self.url_of(self.nodes[1])

    @staticmethod
    def url_of(*nodes: ServerProcess) -> str:
        """A URL that names some of the nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)

    def prefix_on(self, n: int, name: str) -> str:
        """A fresh prefix whose keys are among the slots that node `n` had in the beginning."""
        while True:
            prefix = f"{name}-{secrets.token_hex(4)}"
            if slot_of(prefix) * 3 // SLOTS == n:
                return prefix

    def owner(self, prefix: str) -> ServerProcess:
        """The node that has a prefix now, by what the majority of nodes that answer says."""
        told = [port for node in self.nodes if (port := _port_of_owner(node, slot_of(prefix))) is not None]
        port = max(set(told), key=told.count)
        return next(node for node in self.nodes if node.port == port)

    def replica_of(self, master: ServerProcess) -> ServerProcess:
        """The replica of a node, once that knows it: nodes tell each other of their roles in their own time."""
        name = ask(master, "CLUSTER", "MYID")

        def ports() -> list[int]:
            rows = [row.split() for row in ask(master, "CLUSTER", "NODES").splitlines()]
            return [int(row[1].partition(b"@")[0].rpartition(b":")[2]) for row in rows if row[3] == name]

        wait_until(lambda: bool(ports()), timeout_s=15, what=f"a replica of the node on port {master.port}")
        return next(node for node in self.nodes if node.port == ports()[0])

    def add_replica(self, master: ServerProcess) -> ServerProcess:
        """Another node, which follows a master; returns once it is in step."""
        replica = ServerProcess(self._kind, self._options)
        self._exit.callback(discard, replica)
        replica.start()
        self.nodes.append(replica)
        self._join([replica])
        name = ask(master, "CLUSTER", "MYID").decode()
        wait_until(
            lambda: f"{name} ".encode() in ask(replica, "CLUSTER", "NODES"),
            timeout_s=START_TIMEOUT_S,
            what="the new node to hear of its master",
        )
        ask(replica, "CLUSTER", "REPLICATE", name)
        in_step(replica)
        # The others must know it as a replica, or nobody would vote for it.
        wait_until(
            lambda: all(b"slave " + name.encode() in ask(node, "CLUSTER", "NODES") for node in self.nodes),
            timeout_s=START_TIMEOUT_S,
            what="all nodes to know the replica",
        )
        return replica

    def fails_over(self, after_ms: int) -> None:
        """From now on a master that is silent that long is replaced."""
        for node in self.nodes:
            ask(node, "CONFIG", "SET", "cluster-node-timeout", after_ms)

    def wait_ok(self) -> None:
        """Wait until every node says that all slots are served."""
        wait_until(
            lambda: all(b"cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in self.nodes),
            timeout_s=START_TIMEOUT_S,
            what="cluster_state:ok",
        )

    def _join(self, new: list[ServerProcess]) -> None:
        for node in new:
            ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(
            lambda: all(len(ask(node, "CLUSTER", "NODES").splitlines()) == len(self.nodes) for node in self.nodes),
            timeout_s=START_TIMEOUT_S,
            what="all nodes to know each other",
        )


def slot_of(prefix: str, shard: int = 0, shards: int = 1) -> int:
    """The slot of all keys of a prefix, or of one of its shards."""
    return int(key_slot(Keys.of(prefix, shard, shards).base.encode()))


def node_url(url: str, prefix: str) -> str:
    """URL of the node that has a prefix, by what the first node of a redis+cluster:// URL says."""
    host, _, port = url.removeprefix("redis+cluster://").partition(",")[0].partition(":")
    with Redis(host=host, port=int(port), protocol=2) as redis:
        rows = redis.execute_command("CLUSTER SLOTS")
    row = next(row for row in rows if row[0] <= slot_of(prefix) <= row[1])
    name, port = row[2][0], row[2][1]
    return f"redis://{name.decode() or host}:{port}"


def _port_of_owner(node: ServerProcess, slot: int) -> int | None:
    try:
        rows = ask(node, "CLUSTER", "SLOTS")
    except (RedisError, OSError):
        return None
    return next((int(row[2][1]) for row in rows if row[0] <= slot <= row[1]), None)


def move_slot(
    cluster: RedisCluster, prefix: str, target: ServerProcess, half_way: Callable[[], None] = lambda: None
) -> None:
    """Move the slot of a prefix to another node in the way of every Redis: key by key, while it is in use.

    Args:
        cluster: whose slot it is.
        prefix: whose slot it is.
        target: where it goes.
        half_way: called when some keys have gone.
    """
    slot, source = slot_of(prefix), cluster.owner(prefix)
    ids = {id(node): ask(node, "CLUSTER", "MYID").decode() for node in (source, target)}
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[id(source)])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[id(target)])
    moved = 0
    while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
        ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        if not moved:
            half_way()
        moved += len(keys)
    assert moved > 10, "there were no keys to speak of"
    for node in (target, source, *cluster.nodes):
        if b"slave" not in ask(node, "CLUSTER", "NODES").partition(b"myself,")[2].split()[0]:
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[id(target)])


def offset_of(server: ServerProcess) -> int:
    """How far a server is in the stream of changes."""
    facts = info(server, "replication")
    return int(facts["slave_repl_offset"] if facts["role"] == "slave" else facts["master_repl_offset"])


def in_step(replica: ServerProcess) -> None:
    """Wait until a replica has all that its master has."""
    wait_until(
        lambda: info(replica, "replication").get("master_link_status") == "up",
        timeout_s=START_TIMEOUT_S,
        what="the replica to be in step",
    )


class SentinelGroup:
    """A master, a replica of it, and three Sentinels that watch them.

    Args:
        kind: of the servers.
        down_after_ms: silence of the master after which it is replaced.
    """

    SERVICE = "main"

    def __init__(self, kind: ServerKind, *, down_after_ms: int = 500) -> None:
        options = ServerOptions(
            appendonly=True,
            users=("replicator on >s3cret -@all +psync +replconf +ping",),
            config=(
                "masteruser replicator",
                "masterauth s3cret",
                "repl-diskless-sync-delay 0",
                "repl-ping-replica-period 1",
            ),
        )
        self._kind = kind
        self._down_after_ms = down_after_ms
        self.servers = [ServerProcess(kind, options) for _ in range(2)]
        self.sentinels: list[ServerProcess] = []
        self._exit = ExitStack()

    def __enter__(self) -> SentinelGroup:
        for server in self.servers:
            self._exit.callback(discard, server)
        try:
            start_all(self.servers)
            master, replica = self.servers
            ask(replica, "REPLICAOF", "127.0.0.1", master.port)
            in_step(replica)
            config = (
                f"sentinel monitor {self.SERVICE} 127.0.0.1 {master.port} 2",
                f"sentinel down-after-milliseconds {self.SERVICE} {self._down_after_ms}",
                f"sentinel failover-timeout {self.SERVICE} 2000",
            )
            self.sentinels = [ServerProcess(self._kind, ServerOptions(sentinel=True, config=config)) for _ in range(3)]
            for sentinel in self.sentinels:
                self._exit.callback(discard, sentinel)
            start_all(self.sentinels)
            self.wait_watched()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    @property
    def url(self) -> str:
        """Names all Sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}"

    @property
    def master(self) -> ServerProcess:
        """The server that the Sentinels name."""
        _host, port = ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    @property
    def replica(self) -> ServerProcess:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def rejoin(self, former: ServerProcess) -> None:
        """Make the old master the replica of the new one; the Sentinels would take ten seconds and more to do that."""
        ask(former, "REPLICAOF", "127.0.0.1", self.master.port)
        in_step(former)
        self.wait_watched()

    def cut_replication(self) -> None:
        """From now on the replica hears nothing of the master, while the Sentinels see both."""
        master = self.master
        ask(master, "ACL", "SETUSER", "replicator", "off")
        ask(master, "CLIENT", "KILL", "TYPE", "replica")

    def wait_watched(self) -> None:
        """Wait until each Sentinel knows the replica and the two others, so that they can agree on a failover."""

        def known(sentinel: ServerProcess) -> bool:
            fields = ask(sentinel, "SENTINEL", "MASTER", self.SERVICE)
            facts = dict(zip(fields[::2], fields[1::2], strict=True))
            return (facts[b"num-slaves"], facts[b"num-other-sentinels"], facts[b"flags"]) == (b"1", b"2", b"master")

        wait_until(
            lambda: all(known(sentinel) for sentinel in self.sentinels),
            timeout_s=START_TIMEOUT_S,
            what="the Sentinels to know each other",
        )

    def wait_for_master(self, server: ServerProcess) -> None:
        """Wait until all Sentinels name this server."""

        def named(sentinel: ServerProcess) -> bool:
            _host, port = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)
            return int(port) == server.port

        wait_until(
            lambda: all(named(sentinel) for sentinel in self.sentinels),
            timeout_s=START_TIMEOUT_S,
            what="the new master",
        )
