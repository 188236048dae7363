"""Mutexes of a prefix of several shards: a lock record at the shard of the key, asked by the runs of all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.replies import as_int, as_list, as_text
from redflow.engines.redis.runs import RunScripts
from redflow.engines.redis.scripts import verb
from redflow.types import TERMINAL_STATUSES

log = logging.getLogger("redflow")

REQUEST = verb("request_lock", args="now, run, key, queue, score")
RELEASE = verb("release_lock", args="now, run, key, number")
AUDIT = verb("audit_locks", args="now, limit")

_MOST_AUDITED: Final = 100


class Locks:
    """The locks of one prefix.

    Args:
        shards: the scripts of each shard.
    """

    def __init__(self, shards: Sequence[RunScripts]) -> None:
        self._shards = shards

    def at(self, key: str) -> RunScripts:
        """Where the lock of a key is."""
        return self._shards[shard_of_name(key, len(self._shards))]

    async def request(self, run_id: str, key: str, queue: str, score: int) -> tuple[bool, str]:
        """Ask for a run: (whether it is the owner from now on, the number of its place)."""
        scripts = self.at(key)
        args = (scripts.now, run_id, key, queue, score)
        granted, number = as_list(await scripts.connection.call(REQUEST, scripts.keys.base, args))
        return granted == 1, as_text(number)

    async def release(self, run_id: str, key: str, number: str) -> bool:
        """Give back what a run got under a number; False: it has that no more."""
        scripts = self.at(key)
        args = (scripts.now, run_id, key, number)
        return as_int(await scripts.connection.call(RELEASE, scripts.keys.base, args)) == 1

    async def audit(self, shard: int) -> None:
        """Look at the owners of locks on a shard; one that can't hold it any more gives it back.

        A run holds a lock from the request on, while it runs, until its record says that it doesn't.
        """
        scripts = self._shards[shard]
        flat = as_list(await scripts.connection.call(AUDIT, scripts.keys.base, (scripts.now, _MOST_AUDITED)))
        for key, owner, number in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            name, run_id = as_text(key), as_text(owner)
            its = self._shards[shard_of_run(run_id)]
            status, mutex = as_list(await its.connection.read("HMGET", its.keys.run(run_id), "s", "mk"))
            over = status is None or as_text(status) in TERMINAL_STATUSES
            held = not over and (status == b"running" or mutex == key)
            if not held and await self.release(run_id, name, as_text(number)):
                log.warning("the mutex %r was still held for run %s, which has left it", name, run_id)
