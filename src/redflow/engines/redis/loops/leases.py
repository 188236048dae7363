"""Renews the leases of a worker from a thread of its own, with a connection and an event loop of its own.

So a handler that blocks the worker's event loop does not lose its run. There are limits: a loop that hasn't
answered for `loop_stall_limit_s`, or a step far past its time-out, lets go. A holder stops by its own monotonic
clock before its lease can have run out, whatever the network says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from redflow.engines.redis.executor import Executor, monotonic
from redflow.engines.redis.journal import INTERRUPTIONS
from redflow.engines.redis.runs import Lease, RunScripts
from redflow.engines.redis.shards import close_all
from redflow.engines.redis.site import by_shard, release
from redflow.errors import RedflowError

log = logging.getLogger("redflow")

_LOOP_BEAT_S: Final = 1.0


class LeaseKeeper:
    """The renewing thread.

    Args:
        twins: makes the scripts of each shard for the thread, over connections of its own; called in the thread.
        serves: whether workflows of this worker live on a shard: there it says that it is alive.
        worker: id of this worker.
        executor: what it holds; asked from the thread, told on the loop.
        lease_ms: length of a lease.
        alive_ms: how long the worker counts as alive after a heartbeat.
        loop_stall_limit_s: silence of the event loop after which the leases are let go.
        on_unregistered: called on the loop when Redis doesn't know this worker.
    """

    def __init__(
        self,
        *,
        twins: Callable[[], Sequence[RunScripts]],
        serves: Callable[[int], bool],
        worker: str,
        executor: Executor,
        lease_ms: int,
        alive_ms: int,
        loop_stall_limit_s: float,
        on_unregistered: Callable[[], None],
    ) -> None:
        self._twins = twins
        self._serves = serves
        self._worker = worker
        self._executor = executor
        self._lease_ms = lease_ms
        self._alive_ms = alive_ms
        self._loop_stall_limit_s = loop_stall_limit_s
        self._on_unregistered = on_unregistered
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._loop_beat = monotonic()
        self._beat_timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._epochs: dict[int, int] = {}
        self._stall_told = False
        self._let_go: set[str] = set()

    def start(self) -> None:
        """Start the thread."""
        self._beat()
        self._thread_loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, args=(self._thread_loop,), name="redflow-leases", daemon=True).start()

    async def stop(self) -> None:
        """End the thread."""
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self._thread_loop is not None:
            if not self._ended.done():
                self._thread_loop.call_soon_threadsafe(self._stop.set)
            await self._ended

    # -- on the event loop --------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Shows the thread that the loop still turns."""
        self._loop_beat = monotonic()
        self._stall_told = False
        self._beat_timer = self._loop.call_later(_LOOP_BEAT_S, self._beat)

    def _apply(self, leases: list[Lease], reasons: dict[int, str]) -> None:
        for index, reason in reasons.items():
            lease = leases[index]
            held = self._executor.held.get(lease.run_id)
            if held is not None and held.lease is lease:
                self._executor.interrupt(lease.run_id, INTERRUPTIONS.get(reason, "lost"))

    def _drop_expired(self) -> None:
        now = monotonic()
        for held in list(self._executor.held.values()):
            if held.lease.good_until <= now:
                held.attempt.interrupt("lost")

    # -- in the thread ------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._keep())
        except BaseException:
            log.exception("the lease thread of worker %s broke; its runs will be lost to others", self._worker)
        finally:
            loop.close()
            self._on_loop(_end, self._ended)

    async def _keep(self) -> None:
        scripts = self._twins()
        period_s = self._lease_ms / 2000
        failing = False
        try:
            while not self._stop.is_set():
                await self._pause(period_s)
                if self._stop.is_set():
                    break
                if self._loop_is_stuck():
                    continue
                self._let_go_of_overdue()
                try:
                    await self._renew(scripts)
                    failing = False
                except RedflowError as exc:
                    if not failing:
                        scripts[0].connection.complaints.tell("leases could not be renewed: %s", exc)
                    failing = True
                    self._on_loop(self._drop_expired)
        finally:
            await close_all([its.connection for its in scripts])

    async def _pause(self, seconds: float) -> None:
        """Sleep until the next renewal or a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _renew(self, scripts: Sequence[RunScripts]) -> None:
        leases = [lease for lease in self._executor.leases() if lease.run_id not in self._let_go]
        patience_s = max(0.05, self._lease_ms / 4000)
        held = by_shard(leases, len(scripts))
        shards = [shard for shard in range(len(scripts)) if shard in held or self._serves(shard)]
        # A shard that can't be reached doesn't keep the others from being told.
        done = await asyncio.gather(
            *(self._renew_at(shard, scripts[shard], held.get(shard, []), patience_s) for shard in shards),
            return_exceptions=True,
        )
        for result in done:
            if result is not None:
                raise result
        # An outage is no death: runs that were let go during it are handed back, unless somebody has them.
        if given_up := self._executor.given_up[:]:
            await release(scripts, given_up, patience_s=patience_s)
            del self._executor.given_up[: len(given_up)]

    async def _renew_at(self, shard: int, scripts: RunScripts, leases: list[Lease], patience_s: float) -> None:
        sent_at = monotonic()
        answer = await scripts.renew(self._worker, self._lease_ms, self._alive_ms, leases, patience_s=patience_s)
        if answer is None:
            self._on_loop(self._on_unregistered)
            return
        _now, epoch, reasons = answer
        if epoch < self._epochs.get(shard, 0):
            log.warning("Redis went back in time (a failover or a restored copy): all leases are given up")
            reasons = dict.fromkeys(range(len(leases)), "lost")
        self._epochs[shard] = epoch
        for index, lease in enumerate(leases):
            if reasons.get(index) != "lost":
                lease.good_until = sent_at + self._lease_ms / 1000
        if reasons:
            self._on_loop(self._apply, leases, reasons)

    def _loop_is_stuck(self) -> bool:
        silent_s = monotonic() - self._loop_beat
        if silent_s < self._loop_stall_limit_s:
            return False
        if not self._stall_told:
            self._stall_told = True
            stack = self._stack()
            log.error(
                "the event loop hasn't answered for %.0f s; its leases are let go. It is at:\n%s", silent_s, stack
            )
            self._on_loop(self._executor.interrupt_all, "lost")
        return True

    def _let_go_of_overdue(self) -> None:
        """A step past its time-out that the event loop can't end: its run's lease is not renewed any more."""
        now = monotonic()
        held_now = list(self._executor.held.items())
        self._let_go &= {run_id for run_id, _ in held_now}
        for run_id, held in held_now:
            step = held.attempt.overdue_step(now)
            if step is not None and run_id not in self._let_go:
                self._let_go.add(run_id)
                held.lease.good_until = 0.0
                log.error(
                    "step %r of run %s is past its time-out and blocks the loop; its lease is let go. It is at:\n%s",
                    step,
                    held.attempt.claim.run_id,
                    self._stack(),
                )
                self._on_loop(held.attempt.interrupt, "lost")

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return "".join(traceback.format_stack(frame)) if frame is not None else "(unknown)"

    def _on_loop(self, call: Callable[..., object], *args: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
