"""Claims on one shard of several, whose claimers share the slots of their worker.

Each claimer works as on a prefix of one shard. They differ in what room means: what others have asked for is taken.
Who has waited longest for a free slot gets it, so that no shard waits behind another's long queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redflow.engines.redis.loops.claimer import Claimer
from redflow.engines.redis.loops.reaper import DEATHS_TO_POISON
from redflow.engines.redis.runs import ClaimReply, Lease
from redflow.engines.redis.scripts import verb
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

BAR_SUSPECTS = verb("bar_suspects", args="worker, barred")


class ShardClaimer(Claimer):
    """The loop that claims on one shard."""

    _serves: Callable[[], bool]
    _peers: list[ShardClaimer]
    _asked_for = 0
    _waits_since = 0
    """When it last had its turn, in turns."""
    _out_of_reach = False
    _suspect = ""
    """The last run that it took which was one death away from poison."""
    _barred = False
    _declining: asyncio.Task[None] | None = None

    def join(self, peers: list[ShardClaimer], serves: Callable[[], bool]) -> None:
        """Share the slots with others.

        Args:
            peers: the claimers of all shards; this one is added.
            serves: whether workflows of this worker live on this shard.
        """
        peers.append(self)
        self._peers, self._serves = peers, serves

    def room(self) -> int:
        """Free slots that no other claimer has asked for."""
        return super().room() - sum(peer._asked_for for peer in self._peers if peer is not self)

    @property
    def drained(self) -> bool:
        """As on one shard; one of which nothing is claimed, or that is out of reach, is not waited for."""
        if not self._serves() or (self._out_of_reach and not self._in_flight):
            return not self._taken
        return super().drained

    def slots_leaving(self) -> None:
        """Outcomes of runs of any shard are on their way: whoever's turn it is may have their slots."""
        super().slots_leaving()
        if self._more:
            self._wake.set()

    async def _wait(self) -> bool:
        due_for_check = await super()._wait()
        if due_for_check and self.room() <= 0:
            self._more = True  # others have asked for all the room: looks as soon as there is some
        return due_for_check

    async def _claim(self, want: int) -> None:
        if not self._serves():
            self._more = False
            return
        if self._out_of_reach and not await self._is_back():
            return
        ahead = [peer for peer in self._peers if peer._waits_since < self._waits_since and peer._wants_room()]
        want = min(want, self.room() - len(ahead))
        if want <= 0:
            self._more = True
            for peer in ahead:
                peer.slot_freed()
            return
        self._waits_since = 1 + max(peer._waits_since for peer in self._peers)
        self._asked_for, self._out_of_reach = want, True
        try:
            if self._declining is not None:
                await self._declining
                self._declining = None
            if self._barred and not self._holds_suspect_elsewhere():
                await self._bar(False)
            await super()._claim(want)
        except RedflowError as exc:
            self._scripts.connection.complaints.tell("claiming failed: %s", exc)
            self._more = True
        finally:
            self._asked_for = 0
            for peer in self._peers:
                if peer is not self and peer._more:
                    peer.slot_freed()

    def _wants_room(self) -> bool:
        """Whether it would claim at once if there were room."""
        return self._more and not self._asked_for and not self._out_of_reach and self._serves()

    def _take(self, reply: ClaimReply, want: int, sent_at: float) -> None:
        self._out_of_reach = False
        suspects = [run for run in reply.runs if int(run.record.get(b"x", b"0")) >= DEATHS_TO_POISON - 1]
        if suspects and self._holds_suspect_elsewhere():
            # One at a time in a worker, of all shards: this one has not begun, and goes to another worker.
            reply.runs = [run for run in reply.runs if run not in suspects]
            reply.more = True
            declining = self._decline([run.lease for run in suspects])
            self._declining = asyncio.get_running_loop().create_task(declining)
        elif suspects:
            self._suspect = suspects[0].lease.run_id
        super()._take(reply, want, sent_at)
        self._start_taken()  # others count what is held

    async def _decline(self, leases: list[Lease]) -> None:
        try:
            await self._bar(True)
            await self._scripts.release(leases)
        except RedflowError as exc:
            log.warning("runs that are not to run here are left to the end of their leases: %s", exc)

    def _holds_suspect_elsewhere(self) -> bool:
        """Whether a run of another shard that is one death away from poison is held here."""
        return any(peer is not self and peer._suspect in self._executor.held for peer in self._peers)

    async def _bar(self, barred: bool) -> None:
        args = (self._worker, "1" if barred else "")
        await self._scripts.connection.call(BAR_SUSPECTS, self._scripts.keys.base, args)
        self._barred = barred

    async def _is_back(self) -> bool:
        """Ask before room is kept for an answer: a shard that is gone must not hold slots of the others."""
        try:
            await self._scripts.connection.read("TIME")
        except RedflowError as exc:
            self._scripts.connection.complaints.tell("shard %d is out of reach: %s", self._scripts.keys.shard, exc)
            self._more = True
            await asyncio.sleep(min(1.0, self._check_s))
            return False
        return True
