"""The simulated network between processes and the real server: what redis-py's connections are in a simulation.

Each command travels, is applied to the server at one instant of virtual time, and its reply travels back; how long is
drawn from the seed. A connection keeps the order of what it carries, as TCP does. It may break before a command is
applied, or after it with the reply lost.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.simulation.loops import NodeLoop, Process, World
from tests.simulation.server import Outcome, Raw, SimulatedServer

_RECEIPTS: Final = {b"MULTI": b"OK"}
_TRACE: Final = 3_000
"""How many of the last events are kept for people to read."""


@dataclass(slots=True)
class Applied:
    """A call that the server has executed.

    Attributes:
        verb: name of the script, or of the plain command.
        base: of its keys.
        args: of the script; of a plain command all its words.
        outcome: what came of it.
        who: the process that sent it.
        chance: the number by which it asked sets for any of their members.
        lost: whether its reply will not arrive.
    """

    verb: str
    base: str
    args: list[bytes]
    outcome: Outcome
    who: str
    chance: int
    lost: bool = False


@dataclass
class Chances:
    """How often what goes wrong, per command.

    Attributes:
        cut: the connection breaks before the command is applied.
        lose: it breaks after that, the reply lost.
        slow: the command takes its time.
        slow_us: how long at most.
    """

    cut: float = 0.0
    lose: float = 0.0
    slow: float = 0.0
    slow_us: int = 0


@dataclass
class Counts:
    """What happened."""

    operations: int = 0
    cut: int = 0
    lost: int = 0
    slow: int = 0
    verbs: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Network:
    """All connections, and the order in which the server gets what they carry.

    Args:
        world: whose time and chance it uses.
        server: the real one.
        on_applied: told of each call right after the server has executed it.
        on_expired: told of keys whose time is over, before the next call.
    """

    def __init__(
        self,
        world: World,
        server: SimulatedServer,
        on_applied: Callable[[Applied], None],
        on_expired: Callable[[str], None],
    ) -> None:
        self.world = world
        self.server = server
        self.chances = Chances()
        self.down = False
        """Whether the server can't be reached at all; see `set_down`."""
        self.counts = Counts()
        self.listeners: dict[bytes, list[SimulatedConnection]] = defaultdict(list)
        self.digest = hashlib.blake2b(digest_size=16)
        self.trace: deque[str] = deque(maxlen=_TRACE)
        self.connections: list[SimulatedConnection] = []
        self._on_applied = on_applied
        self._on_expired = on_expired
        self._ends: dict[str, int] = {}

    def note(self, text: str) -> None:
        """Write something into the history."""
        line = f"{self.world.now_us / 1e6:12.6f} {text}"
        self.digest.update(line.encode("utf-8", "surrogateescape"))
        self.trace.append(line)

    def connection(self, **_options: object) -> SimulatedConnection:
        """What a redis-py pool makes connections with."""
        connection = SimulatedConnection(self)
        self.connections = [other for other in self.connections if other.stands] + [connection]
        return connection

    # -- how long things take, and what breaks ------------------------------------------------------------------

    def latency_us(self) -> int:
        """How long one way takes."""
        rng, chances = self.world.rng, self.chances
        if chances.slow and rng.random() < chances.slow:
            self.counts.slow += 1
            return rng.randrange(1_000, chances.slow_us)
        return rng.randrange(20, 300)

    def reset_some(self, process: Process) -> None:
        """Reset one connection of a process, or all; what is under way is lost."""
        standing = [
            connection for connection in self.connections if connection.stands and connection.process is process
        ]
        some = standing if self.world.rng.random() < 0.3 else standing[:1]
        for connection in some:
            self.note(f"{connection.name} is reset")
            connection.reset()

    def set_down(self, down: bool) -> None:
        """The server goes out of reach, with all connections, or comes back."""
        self.note(f"the server is {'out of reach' if down else 'back'}")
        self.down = down
        for connection in [its for its in self.connections if down and its.stands]:
            connection.reset()

    # -- the server's side --------------------------------------------------------------------------------------

    def arrive(self, connection: SimulatedConnection, command: list[bytes]) -> None:
        """A command has reached the server."""
        if connection.cut_off:
            return
        rng, chances = self.world.rng, self.chances
        if chances.cut and rng.random() < chances.cut:
            self.counts.cut += 1
            self.note(f"{connection.name} breaks before {_name(command)}")
            connection.reset()
            return
        lost = bool(chances.lose) and rng.random() < chances.lose
        for reply in self._apply(connection, command, lost):
            if not lost:
                connection.send_back(reply)
        if lost:
            self.counts.lost += 1
            self.note(f"{connection.name} breaks, the reply is lost")
            connection.reset()

    def _apply(self, connection: SimulatedConnection, command: list[bytes], lost: bool) -> list[Raw]:
        name = command[0].upper()
        if name == b"EVALSHA":
            return [self._verb(connection, command, lost)]
        if name == b"SUBSCRIBE":
            return [self._subscribe(connection, channel) for channel in command[1:]]
        if name == b"HELLO":
            return [self.server.hello]
        if name == b"PING":
            return [[b"pong", b""] if connection.channels else b"PONG"]
        if name == b"TIME":
            now = self.world.now_us
            return [[b"%d" % (self.world.now_ms // 1000), b"%d" % (self.world.now_ms % 1000 * 1000 + now % 1000)]]
        if name == b"INFO":  # what the real one says of its memory differs from one asking to the next
            return [b"# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"]
        if name == b"MULTI":
            connection.queued = []
            return [b"OK"]
        if name == b"EXEC":
            commands, connection.queued = connection.queued or [], None
            return [self._plain(connection, commands, lost)]
        if connection.queued is not None:
            connection.queued.append(command)
            return [b"QUEUED"]
        replies = self._plain(connection, [command], lost)
        return [replies[0] if isinstance(replies, list) else replies]

    def _verb(self, connection: SimulatedConnection, command: list[bytes], lost: bool) -> Raw:
        sha, count = command[1].decode(), int(command[2])
        assert count == 1, "scripts of the engine declare the base only"
        self.expire()
        chance = self.world.rng.randrange(1 << 20)
        outcome = self.server.run_verb(sha, command[3], command[4:], self.world.now_ms, chance)
        verb, base = self.server.verbs[sha], command[3].decode()
        return self._done(Applied(verb, base, command[4:], outcome, connection.process.name, chance, lost))

    def _plain(self, connection: SimulatedConnection, commands: list[list[bytes]], lost: bool) -> Raw:
        self.expire()
        outcome = self.server.run_plain(commands, self.world.now_ms, 0)
        words = [word for command in commands for word in command]
        return self._done(
            Applied(commands[0][0].decode().upper(), "", words, outcome, connection.process.name, 0, lost)
        )

    def _done(self, applied: Applied) -> Raw:
        self.counts.operations += 1
        self.counts.verbs[applied.verb] += 1
        reply = applied.outcome.reply
        # What INFO tells is of the real server, not of this world: no part of its history.
        shown = "..." if applied.verb == "INFO" else _shown([reply])
        self.note(f"{applied.who} {applied.verb} {_shown(applied.args)} -> {shown}")
        for change in applied.outcome.changes:
            if change.kind == "none":
                self._ends.pop(change.key, None)
        for word, first, *rest in applied.outcome.told:
            if word == b"said":
                self._say(first, rest[0])
            elif word == b"ttl":
                self._ends[first.decode("utf-8", "surrogateescape")] = int(rest[0])
            else:
                self._ends.pop(first.decode("utf-8", "surrogateescape"), None)
        self._on_applied(applied)
        return reply

    def expire(self) -> None:
        """Remove keys whose time is over."""
        now = self.world.now_ms
        over = [key for key, end in self._ends.items() if end <= now] if self._ends else []
        for key in over:
            del self._ends[key]
            self.server.run_plain([[b"DEL", key.encode("utf-8", "surrogateescape")]], now, 0)
            self.note(f"{key} expires")
            self._on_expired(key)

    # -- messages -----------------------------------------------------------------------------------------------

    def _subscribe(self, connection: SimulatedConnection, channel: bytes) -> Raw:
        if not self.listeners[channel]:
            self.server.run_plain([[b"SADD", b"sim:ears", channel]], self.world.now_ms, 0)
        self.listeners[channel].append(connection)
        connection.channels.append(channel)
        return [b"subscribe", channel, len(connection.channels)]

    def unsubscribe(self, connection: SimulatedConnection) -> None:
        """A connection is gone."""
        for channel in connection.channels:
            self.listeners[channel].remove(connection)
            if not self.listeners[channel]:
                self.server.run_plain([[b"SREM", b"sim:ears", channel]], self.world.now_ms, 0)
        connection.channels.clear()

    def _say(self, channel: bytes, message: bytes) -> None:
        for connection in self.listeners[channel]:
            connection.send_back([b"message", channel, message])


class _Transport:
    """What the product asks of a transport."""

    def __init__(self, connection: SimulatedConnection) -> None:
        self._connection = connection

    def is_closing(self) -> bool:
        return not self._connection.stands

    def get_write_buffer_size(self) -> int:
        return 0


class _Writer:
    """What the product asks of a stream."""

    def __init__(self, connection: SimulatedConnection) -> None:
        self._connection = connection
        self.transport = _Transport(connection)

    def writelines(self, data: Sequence[bytes]) -> None:
        self._connection.write(b"".join(data))


class SimulatedConnection:
    """A connection as the product uses redis-py's.

    Attributes:
        process: who has it.
        stands: whether it can be used, as its owner sees it.
        cut_off: whether what is under way will not reach the server any more.
        channels: what it listens to.
    """

    socket_connect_timeout = 5.0

    def __init__(self, network: Network) -> None:
        self._network = network
        loop = asyncio.get_running_loop()
        assert isinstance(loop, NodeLoop)
        self._loop = loop
        self.process: Process = loop.process
        self.name = f"{self.process.name}#{network.world.next_number()}"
        self.stands = False
        self.cut_off = False
        self.channels: list[bytes] = []
        self.queued: list[list[bytes]] | None = None
        self._writer: _Writer | None = None
        self._commands = hiredis.Reader()
        self._incoming: deque[Raw] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._there_at = self._back_at = 0

    async def connect(self) -> None:
        """Be connected after a moment."""
        network = self._network
        await asyncio.sleep(network.latency_us() / 1e6)
        if network.down or (network.chances.cut and network.world.rng.random() < network.chances.cut):
            raise RedisConnectionError("the simulated server refuses the connection")
        self.stands, self._writer = True, _Writer(self)
        self.process.on_death.append(self._owner_died)

    def write(self, data: bytes) -> None:
        """Send commands."""
        self._commands.feed(data)
        world = self._network.world
        while (command := self._commands.gets()) is not False:
            self._there_at = max(self._there_at + 1, world.now_us + self._network.latency_us())
            world.at(self._there_at, lambda command=command: self._network.arrive(self, command))  # type: ignore[misc]

    async def send_packed_command(self, data: bytes | Iterable[bytes], check_health: bool = True) -> None:
        """Send what is packed."""
        if not self.stands:
            raise RedisConnectionError("the simulated connection is broken")
        self.write(data if isinstance(data, bytes) else b"".join(data))

    async def send_command(self, *args: Any, **_options: object) -> None:
        """Send one command."""
        await self.send_packed_command(hiredis.pack_command(args))

    async def read_response(self, **_options: object) -> Raw:
        """The next thing that the server says."""
        while not self._incoming:
            if not self.stands:
                raise RedisConnectionError("the simulated connection was closed by the server")
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        reply = self._incoming.popleft()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def disconnect(self, nowait: bool = False, **_options: object) -> None:
        """Close it; what was sent still arrives."""
        self._gone()

    def send_back(self, reply: Raw) -> None:
        """The server says something: it takes a while."""
        world = self._network.world
        self._back_at = max(self._back_at + 1, world.now_us + self._network.latency_us())
        world.at(self._back_at, lambda: self._hear(reply))

    def _hear(self, reply: Raw) -> None:
        if self.stands:
            self._incoming.append(reply)
            self._wake()

    def reset(self) -> None:
        """It breaks for both sides; what is under way is lost."""
        self.cut_off = True
        self._gone()

    def _gone(self) -> None:
        if self.stands:
            self.stands = False
            self._network.unsubscribe(self)
            self._wake()

    def _owner_died(self) -> None:
        self._gone()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done() and self.process.alive:
            self._waiting.set_result(None)


def _name(command: list[bytes]) -> str:
    return command[0].decode()


def _shown(words: Sequence[Raw]) -> str:
    """Words of a command or a reply, for the history."""
    return " ".join(_show(word) for word in words)


def _show(word: Raw) -> str:
    if isinstance(word, bytes):
        return word.decode("utf-8", "surrogateescape") or "''"
    if isinstance(word, list):
        return f"[{_shown(word)}]"
    return "nil" if word is None else str(word)
