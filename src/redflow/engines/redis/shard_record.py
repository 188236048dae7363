"""How many shards a prefix has is written down at its first use; who was told another number is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import Reply, as_int
from redflow.engines.redis.scripts import verb
from redflow.errors import ShardMismatchError

RECORD_SHARDS = verb("record_shards", args="shards")

Ask = Callable[..., Awaitable[Reply]]
"""Sends one command and returns the reply."""


class ShardRecord:
    """What this client was told, held against what is written down.

    Args:
        prefix: of all keys.
        shards: what this client was told.
        ask: sends a command to where the record is; None: it is where every connection leads.
    """

    def __init__(self, prefix: str, shards: int, ask: Ask | None = None) -> None:
        self._prefix = prefix
        self._shards = shards
        self._keys = Keys.of(prefix)
        self._ask = ask
        self.checked = False
        """Whether the record says the same; of a prefix of one shard, which has none, it is looked at again."""

    @property
    def key(self) -> str:
        """Where it is."""
        return self._keys.shards

    async def check(self, connection: AbstractConnection) -> None:
        """Look when a connection has been made, before anything else is asked over it.

        Raises:
            ShardMismatchError: the prefix has another number of shards.
        """

        async def over_it(*command: str | int) -> Reply:
            await connection.send_command(*command, check_health=False)
            reply: Reply = await connection.read_response(disable_decoding=True)
            return reply

        if not self.checked:
            await self.look(over_it)

    async def look(self, ask: Ask) -> None:
        """Look, and write the number down if nobody has.

        Raises:
            ShardMismatchError: the prefix has another number of shards.
        """
        ask = self._ask or ask
        if self._shards == 1:
            try:
                recorded = await ask("GET", self.key)
            except ResponseError:  # the slot is being moved, say: whatever is asked next will be told so, too
                return
            found = 1 if recorded is None else as_int(recorded)
        else:
            found = as_int(await ask("EVAL", RECORD_SHARDS.source, 1, self._keys.base, self._shards))
            self.checked = found == self._shards
        if found != self._shards:
            raise ShardMismatchError(
                f"prefix {self._prefix!r} has {found} shard{'s' if found > 1 else ''}, this client was told "
                f"{self._shards}: use the same number everywhere (create_client(shards=...) or REDFLOW_SHARDS), or "
                f"another prefix"
            )

    async def remove(self, ask: Ask) -> int:
        """Forget the number; how many keys that removed."""
        self.checked = False
        return as_int(await (self._ask or ask)("UNLINK", self.key))
