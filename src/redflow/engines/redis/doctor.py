"""Asks a server about itself, and tries which of the commands that redflow needs this user may use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from redflow.domain.doctor import ServerFacts
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import Reply, as_int, as_list, as_text
from redflow.engines.redis.scripts import verb
from redflow.errors import ConnectionError, RedflowError, ServerTooOldError

TRY_COMMANDS = verb("try_commands", item="command")

_SETTINGS: Final = ("appendonly", "appendfsync", "save", "maxmemory-policy", "min-replicas-to-write")
_ANSWER_S: Final = 5.0

TRIED: Final = (
    *("DEL K", "UNLINK K", "EXISTS K", "OBJECT ENCODING K", "MEMORY USAGE K", "TIME", "PUBLISH K ping"),
    *(
        "SET K 1 EX 60",
        "GET K",
        "INCR K",
        "EXPIRE K 60",
        "PEXPIRE K 60000",
        "PERSIST K",
        "PEXPIREAT K 1",
        "DEL K",
        "TTL K",
        "PTTL K",
    ),
    *("HSET K f 1", "HGET K f", "HGETALL K", "HMGET K f", "HEXISTS K f", "HKEYS K", "HINCRBY K f 1", "HSETNX K g 1"),
    *("HRANDFIELD K", "HDEL K f", "DEL K", "RPUSH K a", "LINDEX K 0", "LPOP K"),
    *("SADD K a", "SCARD K", "SISMEMBER K a", "SMEMBERS K", "SUNION K", "SRANDMEMBER K", "SREM K b", "SPOP K", "DEL K"),
    *(
        "ZADD K 1 a",
        "ZCARD K",
        "ZCOUNT K 0 1",
        "ZRANGE K 0 0",
        "ZRANGEBYSCORE K 0 1",
        "ZRANK K a",
        "ZSCORE K a",
        "ZRANDMEMBER K",
    ),
    *("ZREM K b", "ZREMRANGEBYSCORE K 5 6", "ZREMRANGEBYRANK K 5 6", "ZPOPMIN K", "DEL K"),
)
"""Each command of the scripts once, on a key of the doctor's own that is gone when the script ends."""


async def examine(connection: Connection, keys: Keys) -> ServerFacts:
    """What there is to know about the server.

    Raises:
        ConnectionError, ServerTooOldError: it can't be used at all.
    """
    hello, (time_ms, here_ms, trip_ms) = await _hello(connection), await _clocks(connection)
    info = await _info(connection)
    told = hello.get("server", "")
    server = "valkey" if told == "valkey" or "valkey_version" in (info or {}) else "redis"
    return ServerFacts(
        address=connection.address,
        info=info,
        config=await _config(connection),
        version=hello.get("version", ""),
        server=server,
        time_ms=time_ms,
        here_ms=here_ms,
        trip_ms=trip_ms,
        denied=await _denied(connection, keys),
    )


async def _hello(connection: Connection) -> dict[str, str]:
    try:
        flat = await connection.read("HELLO")
    except (ConnectionError, ServerTooOldError):
        raise
    except RedflowError:
        return {}
    pairs = as_list(flat)
    return {as_text(n): v.decode() for n, v in zip(pairs[::2], pairs[1::2], strict=True) if isinstance(v, bytes)}


async def _clocks(connection: Connection) -> tuple[int | None, int, float]:
    """The server's time, ours at the middle of the call, and how long that took, ms."""
    before = time.time()
    try:
        seconds, micros = as_list(await connection.read("TIME"))
    except (ConnectionError, ServerTooOldError):
        raise
    except RedflowError:
        return None, 0, 0.0
    after = time.time()
    return as_int(seconds) * 1000 + as_int(micros) // 1000, int((before + after) * 500), (after - before) * 1000


async def _info(connection: Connection) -> dict[str, str] | None:
    try:
        text = as_text(await connection.read("INFO"))
    except ConnectionError:
        raise
    except RedflowError:
        return None
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value.strip() for name, value in lines}


async def _config(connection: Connection) -> dict[str, str] | None:
    settings: dict[str, str] = {}
    try:
        for name in _SETTINGS:
            settings.update(_pairs(await connection.read("CONFIG", "GET", name)))
    except ConnectionError:
        raise
    except RedflowError:
        return None
    return settings


def _pairs(reply: Reply) -> list[tuple[str, str]]:
    flat = as_list(reply)
    return [(as_text(name), as_text(value)) for name, value in zip(flat[::2], flat[1::2], strict=True)]


async def _denied(connection: Connection, keys: Keys) -> dict[str, str]:
    denied: dict[str, str] = {}
    try:
        for name, said in _pairs(await connection.call(TRY_COMMANDS, keys.base, TRIED)):
            denied.setdefault(name, said)
    except ConnectionError:
        raise
    except RedflowError as exc:
        denied["EVALSHA and EVAL"] = str(exc)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "MULTI and EXEC": lambda: connection.transaction([("TIME",)]),
        "HGETALL": lambda: connection.read("HGETALL", keys.run("0")),
        "SCAN": lambda: connection.read("SCAN", "0", "COUNT", "1"),
    }
    for what, call in calls.items():
        try:
            await call()
        except ConnectionError:
            raise
        except RedflowError as exc:
            denied.setdefault(what, str(exc))
    said = await _subscribe(connection, f"{keys.base}doctor")
    return denied if not said else denied | {"SUBSCRIBE": said}


async def _subscribe(connection: Connection, channel: str) -> str:
    """What the server says against listening on a channel; empty if nothing."""
    own = await connection.connect()
    try:
        async with asyncio.timeout(_ANSWER_S):
            await own.send_packed_command(own.pack_command("SUBSCRIBE", channel), check_health=False)
            await own.read_response(disable_decoding=True)
    except (RedisError, TimeoutError) as exc:
        return str(exc) or type(exc).__name__
    finally:
        await own.disconnect(nowait=True)
    return ""
