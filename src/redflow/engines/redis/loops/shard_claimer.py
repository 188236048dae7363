"""Claims on one shard of several, whose claimers share the slots of their worker.

Each claimer works as on a prefix of one shard. They differ in what room means: what others have asked for is taken.
Freed slots are offered to them in turn, so that no shard waits behind another's long queue.
"""

from __future__ import annotations

from collections.abc import Callable

from redflow.engines.redis.loops.claimer import Claimer


class ShardClaimer(Claimer):
    """The loop that claims on one shard."""

    _serves: Callable[[], bool]
    _peers: list[ShardClaimer]
    _asked_for = 0

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

    async def _wait(self) -> bool:
        due_for_check = await super()._wait()
        if due_for_check and self.room() <= 0:
            self._more = True  # others have asked for all the room: looks as soon as there is some
        return due_for_check

    async def _claim(self, want: int) -> None:
        if not self._serves():
            self._more = False
            return
        want = min(want, self.room())
        if want <= 0:
            self._more = True
            return
        self._asked_for = want
        try:
            await super()._claim(want)
        finally:
            self._asked_for = 0
            for peer in self._peers:
                if peer is not self and peer._more:
                    peer.slot_freed()
