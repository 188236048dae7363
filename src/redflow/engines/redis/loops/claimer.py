"""Takes ready runs whenever there is room for them.

A claim is made when there may be something to take: after a bell, after a settle that saw a ready run, after a
claim that was cut short, and on the slow check. Never while one is under way; a bell that rings meanwhile is
remembered.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from redflow.engines.redis.batch import PART
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.executor import Executor, monotonic
from redflow.engines.redis.loops.deadlines import Deadline
from redflow.engines.redis.runs import ClaimedRun, ClaimReply, RunScripts
from redflow.errors import RedflowError
from redflow.execution.threads import ThreadPool

log = logging.getLogger("redflow")

_CLAIM_CAP: Final = 100
"""Most runs of one claim; a quarter of the slots where that is less, so that Redis is claiming while others work."""
_LAST_CLAIM_S: Final = 2.0
_GATHER_S: Final = 0.002
"""How long freed slots may gather before a claim, so that a busy worker claims for several at once."""
_SHARE: Final = 4
"""A busy worker claims when a quarter of its slots are free. A tenth made claims so small that two workers on one
Redis did three quarters of the runs."""


class Claimer:
    """The loop that claims.

    Args:
        scripts: of the prefix.
        worker: id of this worker.
        queues: scoped names of the queues it serves.
        executor: takes what is claimed.
        threads: when all its places are stuck, nothing is claimed.
        clock, due, lease: told what each reply says of the time and of the next deadlines.
        concurrency: number of slots.
        lease_ms: length of a lease.
        check_s: the slow check, seconds.
        register: called when Redis doesn't know this worker (any more).
    """

    def __init__(
        self,
        *,
        scripts: RunScripts,
        worker: str,
        queues: list[str],
        executor: Executor,
        threads: ThreadPool,
        clock: ServerClock,
        due: Deadline,
        lease: Deadline,
        concurrency: int,
        lease_ms: int,
        check_s: float,
        register: Callable[[], Awaitable[None]],
    ) -> None:
        self._scripts = scripts
        self._worker = worker
        self._queues = queues
        self._executor = executor
        self._threads = threads
        self._clock = clock
        self._due = due
        self._lease = lease
        self._concurrency = concurrency
        self._lease_ms = lease_ms
        self._check_s = check_s
        self._register = register
        self._wake = asyncio.Event()
        self._check_due = False
        self._more = True
        self._marked_idle = False
        self._in_flight = False
        self._flight: asyncio.Task[None] | None = None
        self._passing: asyncio.Task[None] | None = None
        self._warned_stuck = False
        self._saw_more = False
        self._taken: list[ClaimedRun] = []
        """Claimed and about to be started."""
        self.drain = ""
        """What this worker, which shall claim nothing more, is to do in the end: idle or stop; "" while it claims."""
        share = concurrency // _SHARE
        self._least, self._most = max(1, share), min(_CLAIM_CAP, max(PART, share))

    # -- what it is told ----------------------------------------------------------------------------------------

    def ring(self) -> None:
        """A bell: some queue has a ready run."""
        self._more = True
        self._wake.set()
        if self.room() <= 0 and not self._in_flight:
            self._passing = asyncio.get_running_loop().create_task(self._pass_bell())

    def slots_leaving(self) -> None:
        """Outcomes are on their way: a claim that follows at their heels saves a wait for the reply.

        Redis gets them in this order, so it never sees more runs here than there are slots. Made where the last
        settle saw more ready runs, so that it costs nothing where there are none.
        """
        if self._saw_more and not self._in_flight and self.room() >= self._least:
            self._more = True
            self._wake.set()

    def slot_freed(self) -> None:
        """A run left its slot."""
        self._wake.set()

    def wants_idle_mark(self) -> bool:
        """Whether a settle shall mark this worker idle if it finds nothing ready."""
        return not (self._marked_idle or self._in_flight or self._more or self.drain)

    def settled(self, more: bool) -> None:
        """What a settle saw in the queues."""
        self._saw_more = more
        if more:
            self._more = True
            self._wake.set()
        elif not (self._in_flight or self._more or self.drain):
            self._marked_idle = True

    @property
    def drained(self) -> bool:
        """Whether it was told to claim nothing more, and nothing of its last claim is still to be started."""
        return bool(self.drain) and not self._in_flight and not self._taken

    def room(self) -> int:
        """Free slots, those included whose outcome was sent; none while every thread is stuck."""
        if self._threads.exhausted:
            if not self._warned_stuck:
                self._warned_stuck = True
                log.error(
                    "all %d threads hang in steps that were given up; this worker claims nothing more",
                    self._threads.size,
                )
            return 0
        return self._concurrency - len(self._executor.held) - len(self._taken) + len(self._executor.leaving)

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim for ever."""
        while True:
            due_for_check = await self._wait()
            room = self.room()
            if room <= 0 or not (self._more or due_for_check):
                continue
            if room < self._least and self._executor.held:
                self._start_taken()
                await asyncio.sleep(_GATHER_S)
                room = self.room()
            # Shielded: a claim whose reply nobody reads would leave its runs to their lease.
            self._flight = asyncio.get_running_loop().create_task(self._claim(min(room, self._most)))
            await asyncio.shield(self._flight)

    async def end(self) -> None:
        """After the loop was cancelled: wait for the claim that is under way."""
        if self._flight is not None and not self._flight.done():
            await asyncio.wait({self._flight}, timeout=_LAST_CLAIM_S)
        self._start_taken()

    async def _wait(self) -> bool:
        """Until something may be there to take; True when only the slow check is due."""
        if self._more and self.room() > 0:
            return False
        self._start_taken()
        self._wake.clear()
        self._check_due = False
        timer = asyncio.get_running_loop().call_later(self._check_s, self._time_for_check)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        return self._check_due

    def _time_for_check(self) -> None:
        self._check_due = True
        self._wake.set()

    async def _claim(self, want: int) -> None:
        if not self._queues:
            self._more = False
            return
        self._in_flight, self._more = True, False
        token = f"{self._worker}.{secrets.token_hex(4)}"
        sent_at, asked_at = monotonic(), asyncio.get_running_loop().time()
        try:
            pending = self._scripts.claim(self._worker, token, self._lease_ms, want, self._queues)
            self._start_taken()  # now that the next claim is on its way: Redis works on it meanwhile
            reply = await pending
            if reply is None:
                await self._register()
                self._more = True
                return
            self._due.set(reply.next_due, asked_at)
            self._lease.set(reply.next_lease, asked_at)
            self._take(reply, want, sent_at)
        except RedflowError as exc:
            self._scripts.connection.complaints.tell("claiming failed: %s", exc)
            self._more = True
            await asyncio.sleep(min(1.0, self._check_s))
        finally:
            self._in_flight = False

    def _take(self, reply: ClaimReply, want: int, sent_at: float) -> None:
        self._clock.observe(reply.now, sent_at)
        if reply.drain != self.drain:
            log.info("worker %s %s", self._worker, "claims nothing more" if reply.drain else "claims again")
            self.drain = reply.drain
        self._executor.progress += 1  # whoever is answered isn't asleep: the watchdog needn't ask Redis about it
        self._marked_idle = len(reply.runs) < want and not reply.more and not reply.drain
        for run in reply.runs:
            run.lease.good_until = sent_at + self._lease_ms / 1000
        self._taken = reply.runs
        if reply.more or (len(reply.runs) == want and self.room() > 0):
            self._more = True  # the claim was cut short by its own limit, not by the end of the queue

    def _start_taken(self) -> None:
        taken, self._taken = self._taken, []
        for run in taken:
            self._executor.start(run)

    async def _pass_bell(self) -> None:
        """Rung without a free slot: let another worker have it."""
        try:
            await self._scripts.pass_bell(self._worker, self._queues)
            self._marked_idle = False
        except RedflowError as exc:
            log.debug("a bell could not be passed on: %s", exc)
