"""Waiting until a write is on a replica or on the disk: the commands, and what their answers mean.

WAIT and WAITAOF stop their connection until they are answered, and count what that connection wrote. So durable calls
have a connection of their own, and each is three commands in one write: the script, a marker, and the wait. The marker
is a write in any case, since a script that is sent again, or that finds an earlier run, writes nothing, and a
connection that has written nothing is told at once that all is well. A replica has all or nothing of what came before
the marker, so what it confirms is everything that the script saw.
"""

from __future__ import annotations

from typing import Final

from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import Reply
from redflow.errors import DurabilityUnsupportedError
from redflow.types import Durability

WAIT_MS: Final = 1_000
"""How long a wait lasts where nothing else is said, ms."""

_MARKER_TTL_S: Final = 60


def marker_command(base: str) -> tuple[Argument, ...]:
    """The write that precedes each wait."""
    return "SET", Keys(base).durable, "1", "EX", _MARKER_TTL_S


def wait_command(durability: Durability, timeout_ms: int) -> tuple[Argument, ...]:
    """The command that waits. A time-out of 0 would be none, so it is at least 1 ms."""
    if durability is Durability.FSYNCED:
        return "WAITAOF", 1, 0, max(1, timeout_ms)
    return "WAIT", 1, max(1, timeout_ms)


def is_confirmed(durability: Durability, reply: Reply) -> bool:
    """Whether the answer of the wait says that the write is as durable as was asked."""
    count = reply[0] if durability is Durability.FSYNCED and isinstance(reply, list) and reply else reply
    return isinstance(count, int) and count >= 1


def unsupported(durability: Durability, address: str, said: str) -> DurabilityUnsupportedError:
    """What to raise where the server refuses the wait itself."""
    lacks = f"it says: {said}"
    if "unknown command" in said.lower():
        lacks = "WAITAOF needs Redis >= 7.2 or Valkey"
    elif "appendonly" in said.lower():
        lacks = "appendonly is off, so nothing is written to its disk"
    elif "replica" in said.lower():
        lacks = "it is a replica"
    return DurabilityUnsupportedError(f"{address} can't do Durability.{durability.name}: {lacks}. Nothing was written.")
