"""What the server counted: scripts, round trips, memory, and which commands came from whom."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import Monitor

from redflow.engines.redis import admission, crons, definitions, events, explaining, journal, listing, runs
from redflow.engines.redis.loops import registrar
from redflow.engines.redis.scripts import Script

_MODULES: Final = (admission, crons, definitions, events, explaining, journal, listing, registrar, runs)
_VERBS: Final = {
    value.sha: value.name for module in _MODULES for value in vars(module).values() if isinstance(value, Script)
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters of the server since its start.

    Attributes:
        scripts: EVALSHA and EVAL. Scripts don't call scripts, so these are all top-level commands.
        reads: how often the server found something to read on a connection; one for each round trip, since what is
            written together arrives together.
    """

    scripts: int
    reads: int

    def since(self, former: Counts) -> Counts:
        """The difference to an earlier look, without that look's own reads."""
        return Counts(self.scripts - former.scripts, self.reads - former.reads - 2)


async def counts(redis: Redis) -> Counts:
    """The server's counters now."""
    stats = await redis.info("stats")
    commands = await redis.info("commandstats")
    scripts = sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))
    return Counts(scripts, stats["total_reads_processed"])


def verb_of(command: bytes | str) -> str | None:
    """The verb that a logged command ran; None for what is no script."""
    words = _text(command).split(" ", 2)
    if words[0].upper() == "EVALSHA" and len(words) > 1:
        return _VERBS.get(words[1], "a script")
    return "a script" if words[0].upper() == "EVAL" else None


async def server_cpu_s(redis: Redis) -> float:
    """CPU time that the server has used, user and system, seconds."""
    facts = await redis.info("cpu")
    used: float = facts["used_cpu_user"] + facts["used_cpu_sys"]
    return used


async def used_memory(redis: Redis) -> int:
    """Bytes the server has allocated."""
    facts = await redis.info("memory")
    used: int = facts["used_memory"]
    return used


async def keys_of(redis: Redis, prefix: str) -> list[str]:
    """All keys under a prefix."""
    return [_text(key) async for key in redis.scan_iter(match=f"{prefix}:{{*", count=1000)]


def family(key: str) -> str:
    """The kind of a key, as the data model names it: run, idx:succeeded, expiry, ..."""
    parts = key.split("}:", 1)[1].split(":")
    return ":".join(parts[:2]) if parts[0] == "idx" else parts[0]


async def memory_by_family(redis: Redis, keys: list[str]) -> Counter[str]:
    """Bytes by kind of key, with the server's own overhead for each key."""
    total: Counter[str] = Counter()
    for start in range(0, len(keys), 500):
        chunk = keys[start : start + 500]
        async with redis.pipeline(transaction=False) as pipeline:
            for key in chunk:
                pipeline.memory_usage(key, samples=0)  # type: ignore[unused-awaitable]  # reason: a pipeline queues it
            for key, used in zip(chunk, await pipeline.execute(), strict=True):
                total[family(key)] += used or 0
    return total


async def memory_by_field(redis: Redis, records: list[str]) -> Counter[str]:
    """Bytes by field of some records that are compact hashes, the mean of all; of one that isn't, those of its texts.

    The fields that hold the text of a packed record are one, `0, 1, ...`, each step is `s:`, each trace `a:`.
    """
    total: Counter[str] = Counter()
    for record in records:
        for name, value in (await redis.hgetall(record)).items():
            text = _text(name)
            kind = "0, 1, ..." if text.isdigit() else text[:2] if text[1:2] == ":" else text
            total[kind] += _entry_size(name) + _entry_size(value)
    return Counter({kind: round(size / len(records)) for kind, size in total.items()})


def _entry_size(stored: bytes | str) -> int:
    """Bytes that a text takes in a listpack: a head that tells its kind and size, itself, and the way back."""
    value = stored.encode() if isinstance(stored, str) else stored
    if re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", value):
        number = int(value)
        if 0 <= number < 128:
            return 2
        bits = 1 + (number if number >= 0 else ~number).bit_length()
        return 1 + next(size for at_most, size in _INTEGERS if bits <= at_most)
    size = len(value) + (1 if len(value) < 64 else 2 if len(value) < 4096 else 5)
    return size + (1 if size < 128 else 2 if size < 16384 else 3)


_INTEGERS: Final = ((13, 2), (16, 3), (24, 4), (32, 5), (64, 9))
"""Bits of an integer at most, and the bytes it takes with its head."""


@dataclass(slots=True)
class Watched:
    """What MONITOR saw: top-level commands by name (a script by its verb), and how many commands scripts ran."""

    top_level: Counter[str] = field(default_factory=Counter)
    inside_scripts: int = 0


@asynccontextmanager
async def watching(redis: Redis) -> AsyncIterator[Watched]:
    """Watch every command of every connection but this one's; the answer is complete when the block has been left.

    MONITOR marks what a script runs with `lua` in place of an address, which INFO does not tell apart.
    """
    seen, token = Watched(), secrets.token_hex(8)
    async with redis.monitor() as monitor:
        await _listen_until(monitor, Watched(), await redis.echo(f"begin-{token}"))
        yield seen
        await _listen_until(monitor, seen, await redis.echo(f"end-{token}"))


async def _listen_until(monitor: Monitor, seen: Watched, mark: bytes | str) -> None:
    """Take in what was done before a mark was sent through the same server."""
    while True:
        heard = await monitor.next_command()
        words = heard["command"].split(" ", 2)
        if heard["client_type"] == "lua":
            seen.inside_scripts += 1
        elif words[0] == "ECHO" and words[1] == _text(mark):
            return
        else:
            name = _VERBS.get(words[1], "a script") if words[0] == "EVALSHA" else words[0]
            seen.top_level[name] += 1


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
