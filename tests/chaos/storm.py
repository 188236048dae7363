"""A storm: workers and clients at work on everything at once, while a nemesis harms them; then quiet, and judgement.

The seed decides what clients order and what the nemesis does to whom, and when. How processes interleave is up to the
machine: the same seed meets the same storm, not the same microsecond.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.history import History
from tests.chaos.program import Config
from tests.chaos.scene import Member, Scene

FAULTS: Final = ("kill", "stop", "reset", "lose", "slow", "half-open", "term", "client-kill", "redis-kill")
"""What a nemesis can do."""
NUMBERS: Final = 1_000_000
"""Each client has so many numbers of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in a storm.

    Attributes:
        seed: of everybody's chance.
        mix: primitive -> weight.
        faults: fault -> weight; none: no harm.
        every_s: mean time between two faults.
        workers, clients: how many processes.
        plays: how many primitives each client plays, `at_a_time` of them at once.
        concurrency: runs at a time in each worker.
        workflows: those that workers know; () for all but cron.
        longest_s: after this the clients are ended.
        quiet_s: how long the runs have to end after that.
    """

    seed: int
    mix: dict[str, float]
    faults: dict[str, float] = field(default_factory=dict)
    every_s: float = 0.3
    workers: int = 4
    clients: int = 2
    plays: int = 60
    at_a_time: int = 10
    concurrency: int = 10
    workflows: tuple[str, ...] = ()
    longest_s: float = 120.0
    quiet_s: float = 30.0


class Storm:
    """Plays a plan in a scene."""

    def __init__(self, scene: Scene, plan: Plan) -> None:
        self._scene = scene
        self._plan = plan
        self._rng = random.Random(plan.seed)
        self._workers: list[Member] = []
        self._clients: list[Member] = []
        self._started = 0
        self._over = asyncio.Event()
        self.quiet = True

    async def play(self) -> History:
        """Until all is over; the history."""
        plan = self._plan
        others = await self._scene.others()
        for _ in range(plan.workers):
            await self._start_worker()
        for _ in range(plan.clients):
            await self._start_client(plan.plays)
        nemesis = asyncio.create_task(self._harm_on())
        keeper = asyncio.create_task(self._keep_workers())
        deadline = time.monotonic() + plan.longest_s
        while any(client.process.alive for client in self._clients) and time.monotonic() < deadline:
            alive = [client.process.ended for client in self._clients if client.process.alive]
            await asyncio.wait(alive, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        self._over.set()
        await nemesis
        for client in self._clients:
            client.process.kill()
        for member in self._workers:
            member.proxy.heal()
        self.quiet = await self._scene.quiet(plan.quiet_s)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        return await self._scene.finish(others_before=others)

    # -- processes ----------------------------------------------------------------------------------------------

    async def _start_worker(self) -> None:
        config = Config("worker", "", "", "", list(self._plan.workflows), concurrency=self._plan.concurrency)
        self._workers.append(await self._scene.start(config))

    async def _start_client(self, plays: int) -> None:
        self._started += 1
        config = Config(
            "client", "", "", "", list(self._plan.workflows), seed=self._rng.randrange(2**30),
            first=self._started * NUMBERS, mix=self._plan.mix, plays=plays, at_a_time=self._plan.at_a_time,
        )  # fmt: skip
        self._clients.append(await self._scene.start(config))

    async def _keep_workers(self) -> None:
        """A worker that died, by whomever, is replaced: also in the quiet after the storm."""
        while True:
            gone = [worker for worker in self._workers if not worker.process.alive]
            for worker in gone:
                self._workers.remove(worker)
                self._scene.ledger.note("died", pid=worker.process.pid, lasts=0)
                await self._start_worker()
            await asyncio.sleep(0.02)

    # -- harm ---------------------------------------------------------------------------------------------------

    async def _harm_on(self) -> None:
        plan = self._plan
        if not plan.faults:
            return
        while not self._over.is_set():
            pause = self._rng.expovariate(1 / plan.every_s)
            [fault] = self._rng.choices(list(plan.faults), list(plan.faults.values()))
            try:
                await asyncio.wait_for(self._over.wait(), min(pause, 5 * plan.every_s))
            except TimeoutError:
                await self._harm(fault)

    async def _harm(self, fault: str) -> None:
        scene, rng, lease_s = self._scene, self._rng, self._scene.lease_ms / 1000
        at_work = [worker for worker in self._workers if worker.process.alive and not worker.process.stopped]
        ordering = [client for client in self._clients if client.process.alive]
        if not at_work or not ordering:
            return
        worker, anybody = rng.choice(at_work), rng.choice(at_work + ordering)
        if fault == "kill":
            scene.kill(worker)
        elif fault == "stop":
            scene.freeze(worker, lease_s * rng.uniform(1.5, 3))
        elif fault == "term":
            scene.ledger.note("fault", fault="term", pid=worker.process.pid)
            worker.process.send(signal.SIGTERM)
        elif fault == "reset":
            scene.reset(anybody)
        elif fault == "lose":
            scene.ledger.note("fault", fault="lose", pid=anybody.process.pid)
            anybody.proxy.lose_next_reply()
        elif fault == "client-kill":
            client = rng.choice(ordering)
            scene.kill(client, fault)
            await self._start_client(max(1, self._plan.plays // 4))
        elif fault == "redis-kill":
            await self._restart_server(rng.uniform(0, 0.3))
        else:
            self._disturb(anybody, fault, lease_s * rng.uniform(0.5, 2))

    def _disturb(self, member: Member, fault: str, seconds: float) -> None:
        self._scene.ledger.note("fault", fault=fault, pid=member.process.pid, lasts=seconds * 1000)
        if fault == "slow":
            member.proxy.delay_s, member.proxy.chunk = 0.05, 32
            self._scene.later(seconds, member.proxy.heal)
        else:
            member.proxy.half_open()
            self._scene.later(seconds, member.proxy.heal)

    async def _restart_server(self, down_s: float) -> None:
        began = time.monotonic()
        server = self._scene.server
        server.kill()
        await asyncio.sleep(down_s)
        await asyncio.to_thread(server.start)
        lasted_ms = (time.monotonic() - began) * 1000
        self._scene.ledger.note("fault", fault="redis-kill", pid=0, ms=lasted_ms, lasts=2_000)
