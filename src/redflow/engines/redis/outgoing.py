"""Brings what one shard decided to the shards that it concerns.

Scripts write entries into `outgoing`, `<kind> <source> <target> <rest>` (see `post_entry.lua`). Whoever takes some has
them for a while, delivers them, and acknowledges them; an entry that is not acknowledged is taken again, and receiving
it twice changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redflow.domain.run import public_run_id
from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.batch import BATCH_CAP
from redflow.engines.redis.link import Argument
from redflow.engines.redis.locks import Locks
from redflow.engines.redis.replies import Reply, as_bytes, as_int, as_list, as_pairs, time_or_none
from redflow.engines.redis.runs import CREATE, RunScripts
from redflow.engines.redis.scripts import verb
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

TAKE = verb("take_outgoing", args="now, worker, limit, lease_ms, count", item="entry, outcome")
RECEIVE = verb("receive_entries", args="now, retention", item="kind, source, target, rest, told, place, payload")

LEASE_MS: Final = 2_000
"""How long whoever takes entries has them for itself."""
_WITH_AN_OBJECT: Final = (b"wake", b"resume", b"start")


@dataclass(slots=True)
class Entry:
    """What is to reach another shard.

    Attributes:
        text: as it is stored; acknowledged by it.
        told: what the shard told of its object; empty when that is gone.
    """

    text: bytes
    kind: bytes
    source: bytes
    target: bytes
    rest: bytes
    told: Sequence[bytes]

    @classmethod
    def of(cls, reply: Reply) -> Entry:
        """An entry as `take_outgoing` answers it."""
        text, *told = map(as_bytes, as_list(reply))
        kind, source, target, rest = text.split(b" ", 3)
        return cls(text, kind, source, target, rest, told)


class Outgoing:
    """The entries of all shards of a prefix.

    Args:
        shards: the scripts of each shard.
    """

    def __init__(self, shards: Sequence[RunScripts]) -> None:
        self._shards = shards
        self.locks = Locks(shards)

    async def deliver(self, shard: int, worker: str = "") -> float | None:
        """Deliver all that is due of a shard; how long until the next is, seconds, if there are others.

        Args:
            shard: which one.
            worker: who is to be rung when there are more; "" for a client.

        Raises:
            RedflowError: the shard itself can't be reached; of the others that is logged, and tried again.
        """
        acks: list[tuple[bytes, bytes]] = []
        while True:
            entries, left_s, audit = await self._take(shard, worker, acks)
            if audit:
                await self.locks.audit(shard)
            if not entries:
                return left_s
            acks = await self._bring(shard, entries)

    async def forget(self, shard: int, worker: str) -> None:
        """A worker is rung no more."""
        scripts = self._shards[shard]
        try:
            await scripts.connection.read("ZREM", f"{scripts.keys.base}carriers", worker, patience_s=0.5)
        except RedflowError as exc:
            log.debug("shard %d will ring worker %s for some seconds more: %s", shard, worker, exc)

    async def try_to_deliver(self, shard: int) -> None:
        """The same for somebody who won't wait for what can't be delivered: workers carry on."""
        try:
            await self.deliver(shard)
        except RedflowError as exc:
            log.debug("the entries of shard %d are left to workers: %s", shard, exc)

    async def carry_cancels_on(self, shard: int) -> None:
        """Cancel the children of this shard's canceled runs, whatever shard they are on."""
        await self._shards[shard].carry_cancels_on()
        await self.try_to_deliver(shard)

    async def _take(
        self, shard: int, worker: str, acks: Sequence[tuple[bytes, bytes]]
    ) -> tuple[Sequence[Entry], float | None, bool]:
        scripts = self._shards[shard]
        args: list[Argument] = [scripts.now, worker, BATCH_CAP, LEASE_MS, len(acks)]
        for ack in acks:
            args += ack
        now, next_due, audit, *entries = as_list(await scripts.connection.call(TAKE, scripts.keys.base, args))
        due = time_or_none(next_due)
        left_s = None if due is None else max(0.0, (due - as_int(now)) / 1000)
        return [Entry.of(entry) for entry in entries], left_s, audit == 1

    async def _bring(self, shard: int, entries: Sequence[Entry]) -> list[tuple[bytes, bytes]]:
        """Deliver some entries; those that were received, each with what came of it."""
        acks: list[tuple[bytes, bytes]] = []
        runs: defaultdict[int, list[Entry]] = defaultdict(list)
        starts: defaultdict[int, list[Entry]] = defaultdict(list)
        releases: list[Entry] = []
        count = len(self._shards)
        for entry in entries:
            if entry.kind in _WITH_AN_OBJECT and not entry.told:
                acks.append((entry.text, b""))
            elif entry.kind == b"start":
                starts[shard_of_name(entry.told[0].decode(), count)].append(entry)
            elif entry.kind == b"release":
                releases.append(entry)
            else:
                runs[shard_of_run(entry.target.decode())].append(entry)
        brought = await asyncio.gather(
            *(self._receive(shard, target, some) for target, some in runs.items()),
            *(self._start(target, some) for target, some in starts.items()),
            *(self._release(entry) for entry in releases),
            return_exceptions=True,
        )
        for received in brought:
            if isinstance(received, RedflowError):
                log.warning("entries of shard %d could not be delivered, they are tried again: %s", shard, received)
            elif isinstance(received, BaseException):
                raise received
            else:
                acks += received
        return acks

    async def _receive(self, source: int, shard: int, entries: Sequence[Entry]) -> list[tuple[bytes, bytes]]:
        scripts = self._shards[shard]
        args: list[Argument] = [scripts.now, scripts.retention_ms]
        for entry in entries:
            told = (*entry.told, b"", b"", b"")
            # An end of a child tells status and payload, an event its number, place and data.
            place, payload = (b"", told[1]) if entry.kind == b"wake" else (told[1], told[2])
            args += (entry.kind, entry.source, entry.target, entry.rest, told[0], place, payload)
        outcomes = as_list(await scripts.connection.call(RECEIVE, scripts.keys.base, args))
        if b"cascade" in outcomes:
            await self.carry_cancels_on(shard)
        for entry, outcome in zip(entries, outcomes, strict=True):
            if entry.kind == b"grant" and outcome == b"refused":  # a run that has ended, or has left the line
                number, key = entry.rest.decode().split(" ", 1)
                await self.locks.release(entry.target.decode(), key, number)
        return [(entry.text, as_bytes(outcome)) for entry, outcome in zip(entries, outcomes, strict=True)]

    async def _start(self, shard: int, entries: Sequence[Entry]) -> list[tuple[bytes, bytes]]:
        """Start runs of subscribers."""
        scripts, args = self._shards[shard], list[Argument]()
        for entry in entries:
            workflow, data, parent, run_id = entry.told
            args += (run_id, workflow, "", "", data, "", "", "", "", "", parent)
        started = as_pairs(await scripts.connection.call(CREATE, scripts.keys.base, [scripts.now, "", *args]))
        outcomes = [
            b"failed" if code == "unknown_workflow" else public_run_id(run_id).encode() for code, run_id in started
        ]
        return [(entry.text, outcome) for entry, outcome in zip(entries, outcomes, strict=True)]

    async def _release(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        number, key = entry.rest.decode().split(" ", 1)
        await self.locks.release(entry.source.decode(), key, number)
        return [(entry.text, b"")]
