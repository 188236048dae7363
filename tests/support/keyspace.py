"""Everything under a prefix, read in one instant, and what the data model says each key is.

The snapshot is one script, so it shows no half of a change even while workers are at it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from redis.asyncio.connection import AbstractConnection, ConnectionPool

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.packing import unpack_record
from redflow.engines.redis.replies import as_bytes, as_int, as_list

Kind = Literal["hash", "set", "zset", "list", "string"]
Value = dict[str, str] | dict[str, float] | set[str] | list[str] | str

_READ_EVERYTHING: Final = """
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  string = function(key) return { redis.call('GET', key) } end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', key).ok
  if read[kind] then found[#found + 1] = { key, kind, redis.call('PTTL', key), read[kind](key) } end
end
return found
"""


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the data model.

    Attributes:
        names: what the keys below the base look like; groups are what they are made of.
        kind: the type of their values.
        expires: whether they must have a TTL; the others must have none, or may (None).
    """

    names: re.Pattern[str]
    kind: Kind
    expires: bool | None = False


def _family(names: str, kind: Kind, *, expires: bool | None = False) -> Family:
    return Family(re.compile(names, re.DOTALL), kind, expires)


_STATUS: Final = "scheduled|queued|running|succeeded|failed|canceled"
FAMILIES: Final = (
    _family(r"run:([0-9a-f]{32})", "hash"),
    _family(r"big:([0-9a-f]{32})", "hash"),
    _family(r"waiters:([0-9a-f]{32})", "set", expires=True),
    _family(r"idem:(\d+):(.+)", "string", expires=True),
    _family(rf"idx:({_STATUS}):(.+)", "zset"),
    _family(r"ready:(.+)", "zset"),
    _family(r"suspects:(.+)", "zset"),
    _family(r"due", "zset"),
    _family(r"timeouts", "zset"),
    _family(r"leases", "zset"),
    _family(r"line:(\d+):(.+)", "zset"),
    _family(r"lined:(.+)", "set"),
    _family(r"lined", "set"),
    _family(r"stray:(\d+):(.+)", "zset"),
    _family(r"strays", "zset"),
    _family(r"parked:(.+)", "zset"),
    _family(r"expiry:(\d+)", "list"),
    _family(r"retentions", "set"),
    _family(r"workflows", "set"),
    _family(r"meta:(.+)", "hash"),
    _family(r"metas", "set"),
    _family(r"worker:(\w+)", "hash", expires=True),
    _family(r"knows:(\w+)", "set", expires=True),
    _family(r"workers", "zset"),
    _family(r"idle:(.+)", "set", expires=True),
    _family(r"mutex:(.+)", "string"),
    _family(r"mutexline:(.+)", "zset"),
    _family(r"grants", "zset"),
    _family(r"rate:(\d+):(.+)", "hash", expires=True),
    _family(r"throttle:(\d+):(.+)", "hash", expires=None),
    _family(r"throttleline:(\d+):(.+)", "zset"),
    _family(r"throttled", "zset"),
    _family(r"debounce:(\d+):(.+)", "string"),
    _family(r"handed:([0-9a-f]{32})", "string", expires=True),
    _family(r"cron:([0-9a-f]{32})", "hash"),
    _family(r"crons", "zset"),
    _family(r"kids:([0-9a-f]{32})", "set"),
    _family(r"reached:([0-9a-f]{32})", "set"),
    _family(r"awaiters:([0-9a-f]{32})", "set"),
    _family(r"cascade", "hash"),
    _family(r"event:(.+)", "hash"),
    _family(r"resumed:(.+)", "set"),
    _family(r"eidx:([a-z-]+):(.+)", "zset"),
    _family(r"event_names", "set"),
    _family(r"evkey:(\d+):(.+)", "string", expires=True),
    _family(r"latest:(\d+):(.+)", "string"),
    _family(r"waiting:(\d+):(.+)", "zset", expires=True),
    _family(r"outbox", "zset"),
    _family(r"subs:(.+)", "hash"),
    _family(r"subscribed", "set"),
    _family(r"contract:(.+)", "string"),
    _family(r"eexpiry:(\d+)", "list"),
    _family(r"eretentions", "set"),
    _family(r"eseq", "string"),
    _family(r"durable", "string", expires=True),
    _family(r"seq", "string"),
    _family(r"epoch", "string"),
    _family(r"outgoing", "zset"),
    _family(r"outgoing_data", "hash"),
    _family(r"carriers", "zset"),
    _family(r"got:(\d+):(.+)", "hash", expires=True),
    _family(r"lock:(.+)", "hash"),
    _family(r"lockline:(.+)", "zset"),
    _family(r"lockplaces:(.+)", "hash"),
    _family(r"locks", "zset"),
    _family(r"lockgrants", "zset"),
    _family(r"lockseq", "string"),
    _family(r"shards", "string"),
    _family(r"turn:(\w+)", "string", expires=True),
    _family(r"paused", "hash"),
    _family(r"queues", "zset"),
)
"""The table of redflow.engines.redis.keys; a test holds the two together."""


def family_of(name: str) -> Family | None:
    """The row of the data model that a key belongs to, by its name below the base."""
    return next((family for family in FAMILIES if family.names.fullmatch(name)), None)


@dataclass(frozen=True, slots=True)
class Entry:
    """One key: its type, its TTL in ms (None: it stays), and its value."""

    kind: str
    ttl_ms: int | None
    value: Value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys of a prefix.

    Attributes:
        entries: by the name below the base.
        outside: names of keys that carry the prefix but stand outside its base.
        sharded: whether it is one shard of several.
        packed: ids of runs whose records are packed; entries have them as their runs wrote them.
    """

    entries: dict[str, Entry]
    outside: list[str]
    packed: set[str] = field(default_factory=set)
    sharded: bool = False

    def hash(self, name: str) -> dict[str, str]:
        """A hash; empty if the key is absent or something else."""
        return {field: value for field, value in self._pairs(name) if isinstance(value, str)}

    def zset(self, name: str) -> dict[str, float]:
        """Members and scores of a sorted set, in order."""
        return {member: score for member, score in self._pairs(name) if not isinstance(score, str)}

    def members(self, name: str) -> list[str]:
        """A set or a list; empty if the key is absent or something else."""
        value = self.entries[name].value if name in self.entries else []
        return [] if isinstance(value, str | dict) else list(value)

    def names(self, start: str) -> list[str]:
        """What follows `start` in the names of the keys that begin with it."""
        return [name[len(start) :] for name in self.entries if name.startswith(start)]

    def values(self) -> dict[str, Value]:
        """All values, without types and TTLs."""
        return {name: entry.value for name, entry in self.entries.items()}

    def _pairs(self, name: str) -> list[tuple[str, str | float]]:
        value = self.entries[name].value if name in self.entries else {}
        return [*value.items()] if isinstance(value, dict) else []


async def read_snapshot(connection: Connection, prefix: str, shard: int = 0, shards: int = 1) -> Snapshot:
    """Everything under a prefix, or on one shard of it, at this instant."""
    base = Keys.of(prefix, shard, shards).base
    others = tuple(Keys.of(prefix, other, shards).base for other in range(shards))
    others += (Keys.of(prefix).shards,) if shards > 1 else ()
    plain = prefix.rstrip(":")
    pattern = f"{plain}:*" if plain else f"{base}*"
    found = Snapshot({}, [], sharded=shards > 1)
    for row in as_list(await connection.read("EVAL", _READ_EVERYTHING, 0, pattern)):
        key, kind, ttl, value = as_list(row)
        name, kind_name = _text(as_bytes(key)), _text(as_bytes(kind))
        if not name.startswith(base):
            if not name.startswith(others):
                found.outside.append(name)
            continue
        name = name[len(base) :]
        raw = [as_bytes(part) for part in as_list(value)]
        if name.startswith("run:") and kind_name == "hash":
            raw = _unpacked(raw, name[len("run:") :], found)
        parts = [_text(part) for part in raw]
        ttl_ms = None if as_int(ttl) < 0 else as_int(ttl)
        found.entries[name] = Entry(kind_name, ttl_ms, _value(kind_name, parts))
    return found


def _unpacked(flat: list[bytes], run_id: str, snapshot: Snapshot) -> list[bytes]:
    """The fields of a run's record as the run wrote them."""
    stored = dict(zip(flat[::2], flat[1::2], strict=True))
    whole = unpack_record(stored, run_id)
    if whole is not stored:
        snapshot.packed.add(run_id)
    return [part for item in whole.items() for part in item]


def _value(kind: str, parts: list[str]) -> Value:
    if kind == "hash":
        return dict(zip(parts[::2], parts[1::2], strict=True))
    if kind == "zset":
        return {member: float(score) for member, score in zip(parts[::2], parts[1::2], strict=True)}
    if kind == "set":
        return set(parts)
    return parts if kind == "list" else parts[0]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def connection_to(url: str) -> Connection:
    """A connection for tests, made of plain parts; the caller closes it."""
    pool = ConnectionPool.from_url(url, protocol=2)

    async def new_connection() -> AbstractConnection:
        return pool.connection_class(**pool.connection_kwargs)

    return Connection(new_connection, "the test's server")
