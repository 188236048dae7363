"""One seed: workers, clients and faults in one world, every call compared with the model, until all is quiet."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast
from unittest.mock import patch

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool

from redflow import RedflowClient, StartWorkerOptions, WorkerHandle, create_client, start_worker
from redflow.errors import RedflowError
from tests.model.state import TERMINAL
from tests.simulation.clients import SimulatedClient
from tests.simulation.judge import Judge, Violation
from tests.simulation.loops import T0_MS, Process, Stuck, World
from tests.simulation.model import SimulatedModel
from tests.simulation.network import Applied, Chances, Network
from tests.simulation.server import SimulatedServer
from tests.simulation.stand_ins import simulated
from tests.simulation.workload import APP, WORKFLOWS, Workload
from tests.support.scripts import LEASE_MS, RETENTION_MS

PREFIX: Final = "simulation"
_QUIET_US: Final = 600_000_000
"""How long after the last fault everything must be over, virtual µs: far more than all that anything waits for."""
_EARLY_US: Final = 3_000
"""How much too early a sleep may end: the server tells whole ms, and what tells a worker the time was under way."""
_CALLS: Final = 20_000
"""Far more calls than any seed needs."""
RETENTION_DAYS: Final = str((RETENTION_MS + 0.5) / 86_400_000)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed plays.

    Attributes:
        workers, clients: how many.
        orders: of each client.
        faults: how many processes are killed or frozen, and connections reset.
        chances: of what breaks in the network.
        mix: the workflows that clients start.
    """

    workers: int
    clients: int
    orders: int
    faults: int
    chances: Chances
    mix: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """What came of a seed.

    Attributes:
        digest: of the whole history: the same seed has the same.
        violation: what was wrong; '' if nothing was.
        trace: the last events before that.
    """

    seed: int
    digest: str
    operations: int
    virtual_s: float
    real_s: float
    runs: int
    violation: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    verbs: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)


def plan_of(seed: int, mix: Iterable[str] = ()) -> Plan:
    """What a seed plays: some seeds are calm, some are wild."""
    rng = random.Random(f"plan {seed}")
    wild = rng.choice([0.0, 0.3, 1.0, 1.0, 2.0])
    chances = Chances(0.003 * wild, 0.006 * wild, 0.01 * wild, rng.choice([50_000, 2_000_000, 7_000_000]))
    names = sorted(mix) or rng.sample(sorted(WORKFLOWS), rng.randint(2, 6))
    return Plan(
        rng.randint(1, 3), rng.randint(1, 2), rng.randint(4, 14), round(wild * rng.randint(0, 5)), chances, tuple(names)
    )


class Simulation:
    """One world and what happens in it.

    Args:
        server: the real server; everything on it is removed.
        seed: of all chance.
        plan: what is played.
    """

    def __init__(self, server: SimulatedServer, seed: int, plan: Plan) -> None:
        self.world = World(seed)
        self.model = SimulatedModel(T0_MS)
        self.judge = Judge(PREFIX, self.model, lambda: self.world.now_ms)
        self.plan = plan
        self.seed = seed
        self.workers: dict[str, WorkerHandle] = {}
        self.clients: list[SimulatedClient] = []
        self.faults: dict[str, int] = {}
        self.violation: Violation | None = None
        self._server = server
        self.network = Network(self.world, server, self._applied, self.judge.expired)
        self._load = Workload(self, plan.mix)
        self._made = 0
        self._faulting = True
        self.calls = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._statuses: dict[str, tuple[int, str]] = {}
        self._ended: dict[tuple[str, str], int] = {}
        self._history: list[tuple[int, str, str]] = []

    # -- what is told -------------------------------------------------------------------------------------------

    def _applied(self, call: Applied) -> None:
        self.calls += 1
        if self.calls > _CALLS:
            self.broken(f"more than {_CALLS} calls: somebody asks without end")
        self._guard(lambda: self.judge.applied(call))
        for run_id, run in self.model.runs.items():
            if run.status != self._statuses.get(run_id, (0, ""))[1]:
                self._statuses[run_id] = (self.calls, run.status)
                self._history.append((self.calls, run_id, run.status))

    def statuses(self, run: str, since: int) -> set[str]:
        """Which statuses a run has had since a call."""
        seen = [(call, status) for call, run_id, status in self._history if run_id == run]
        before = [status for call, status in seen if call <= since]
        return {status for call, status in seen if call > since} | set(before[-1:])

    def _guard(self, look: Callable[[], None]) -> None:
        """A violation ends the simulation, wherever it is noticed: product code may swallow exceptions."""
        if self.violation is None:
            try:
                look()
            except Violation as exc:
                self.violation = exc
            except Exception:
                self.violation = Violation(f"the model has no answer: {traceback.format_exc()}")

    def broken(self, text: str) -> None:
        """A promise is broken."""
        if self.violation is None:
            self.violation = Violation(text)

    def body_began(self, run: str, step: str) -> None:
        """A step's function is called: its holder must hold, and no committed step begins again."""
        process = self.world.current
        assert process is not None
        self.network.note(f"{process.name} begins {run} {step}")
        record, worker = self.model.runs.get(run), self.workers.get(process.name)
        written = None if record is None else record[f"s:{step}"]
        if isinstance(written, bytes) and written.split()[1].startswith(b"S"):
            self.broken(f"{process.name} begins step {step!r} of {run}, which is committed")
        began = self._ended.get((run, "one"))
        if record is not None and record.workflow == "sleep" and step == "two" and began is not None:
            nap_ms = json.loads(record["i"])["nap"]  # type: ignore[arg-type]
            if self.world.now_us - began < nap_ms * 1000 - _EARLY_US:
                self.broken(f"{run} slept less than {nap_ms} ms")
        held = worker._executor.held.get(run) if worker is not None else None
        if held is not None and (record is None or held.lease.fence != record.number("n")):
            self.broken(f"{process.name} begins step {step!r} of {run}, which somebody else has claimed")

    def body_ended(self, run: str, step: str) -> None:
        """A step's function has returned."""
        assert self.world.current is not None
        self.network.note(f"{self.world.current.name} ends {run} {step}")
        self._ended.setdefault((run, step), self.world.now_us)

    # -- processes ----------------------------------------------------------------------------------------------

    def redis(self) -> Redis:
        """A redis-py client whose connections are simulated."""
        connection_class = cast(Any, self.network.connection)  # reason: a pool calls it and looks at nothing else
        return Redis(connection_pool=ConnectionPool(connection_class=connection_class))

    def new_client(self) -> RedflowClient:
        """A client for the process that asks."""
        return create_client(app=APP, redis=self.redis(), prefix=PREFIX)

    def _new_process(self, kind: str) -> Process:
        self._made += 1
        skew_ms = self.world.rng.choice([0, 0, -3_600_000, 40, 3_600_000])
        return self.world.new_process(f"{kind}{self._made}", skew_ms)

    def start_worker(self) -> None:
        """Start a worker process."""
        process = self._new_process("worker")
        rng = self.world.rng
        options = StartWorkerOptions(
            app=APP,
            redis=self.redis(),
            prefix=PREFIX,
            registry=self._load.registry(),
            lease_ms=LEASE_MS,
            concurrency=rng.choice([1, 3, 8]),
        )

        async def work() -> None:
            while process.name not in self.workers:
                try:
                    self.workers[process.name] = await start_worker(options)
                except RedflowError as exc:
                    self.network.note(f"{process.name} could not start: {exc}")

        self._tasks.append(process.main.create_task(work()))

    def start_client(self) -> None:
        """Start a client process that gives its orders."""
        process = self._new_process("client")
        client = SimulatedClient(self, process, self.plan.orders, self.plan.mix)
        self.clients.append(client)
        self._tasks.append(process.main.create_task(client.play()))

    # -- faults -------------------------------------------------------------------------------------------------

    def _count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def _workers(self) -> list[Process]:
        return [process for process in self.world.processes if process.turns and process.name.startswith("worker")]

    def do_harm(self) -> None:
        """One fault, drawn."""
        rng = self.world.rng
        victims = self._workers()
        if not self._faulting or not victims:
            return
        victim = rng.choice(victims)
        fault = rng.choice(["kill", "kill", "freeze", "freeze briefly", "reset", "reset", "stop", "outage"])
        self._count(fault)
        self.network.note(f"{fault} {victim.name}")
        if fault == "kill":
            victim.kill()
            self.world.later(rng.randrange(1, 3_000_000), self.start_worker)
        elif fault == "stop":
            self._stop_in_order(victim)
        elif fault == "outage":
            self.network.set_down(True)
            self.world.later(rng.randrange(10_000, 3 * LEASE_MS * 1000), lambda: self.network.set_down(False))
        elif fault == "reset":
            self.network.reset_some(victim)
        else:
            victim.frozen = True
            least, most = (LEASE_MS, 4 * LEASE_MS) if fault == "freeze" else (10, LEASE_MS // 2)
            self.world.later(rng.randrange(least * 1000, most * 1000), lambda: self._thaw(victim))

    def _stop_in_order(self, victim: Process) -> None:
        worker = self.workers.get(victim.name)
        if worker is not None:
            stopping = worker.stop(drain=self.world.rng.random() < 0.5)
            self._tasks.append(victim.main.create_task(stopping))
        self.world.later(self.world.rng.randrange(1, 2_000_000), self.start_worker)

    def _thaw(self, victim: Process) -> None:
        if victim.frozen:
            victim.frozen = False
            self.network.note(f"thaw {victim.name}")

    # -- the course of things -----------------------------------------------------------------------------------

    def play(self) -> None:
        """Play it all.

        Raises:
            Violation: something is wrong.
        """
        plan, world = self.plan, self.world
        self._server.empty()
        for _ in range(plan.workers):
            world.later(world.rng.randrange(1, 50_000), self.start_worker)
        for _ in range(plan.clients):
            world.later(world.rng.randrange(1, 50_000), self.start_client)
        span_us = world.rng.choice([500_000, 3_000_000, 20_000_000])
        for _ in range(plan.faults):
            world.later(world.rng.randrange(100_000, 100_000 + span_us), self.do_harm)
        world.later(100_000, lambda: setattr(self.network, "chances", plan.chances))
        self._until(
            lambda: world.now_us > 100_000 + span_us and all(client.done for client in self.clients), "the orders"
        )
        self.heal()
        self._until(self._is_quiet, "the end of all runs")
        self.judge.compare_all("all is over")
        for client in self.clients:
            client.check_outputs()
        if self.violation is not None:
            raise self.violation

    def heal(self) -> None:
        """No more faults: what was frozen goes on, and there is a worker."""
        self._faulting = False
        self.network.chances, self.network.down = Chances(), False
        self.network.note("all is healed")
        for process in self.world.processes:
            process.frozen = False
        self.start_worker()

    def _is_quiet(self) -> bool:
        model = self.model
        return all(run.status in TERMINAL for run in model.runs.values()) and not model.cascade

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        latest = self.world.now_us + _QUIET_US
        try:
            self.world.run(lambda: self.violation is not None or condition(), latest)
        except Stuck as exc:
            unfinished = {k: (r.workflow, r.status) for k, r in self.model.runs.items() if r.status not in TERMINAL}
            raise Violation(f"waiting for {what}: {exc}; unfinished: {unfinished}") from exc
        if self.violation is not None:
            raise self.violation


def run_seed(server: SimulatedServer, seed: int, mix: Iterable[str] = ()) -> Report:
    """Play one seed and tell what came of it."""
    began = time.perf_counter()
    simulation = Simulation(server, seed, plan_of(seed, mix))
    violation = ""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None  # what is dropped in the middle of things complains when it is collected
    gc.disable()  # so that all of this world is young at its end, and quickly found
    try:
        with simulated(simulation.world), patch.dict(os.environ, REDFLOW_RUN_RETENTION_DAYS=RETENTION_DAYS):
            try:
                simulation.play()
            except Violation as exc:
                violation = str(exc)
            report = _report(simulation, violation, began)
            simulation.world.end()
            simulation.violation = None  # its traceback holds all of this world
            del simulation
            gc.collect(0)
    finally:
        gc.enable()
        sys.unraisablehook = hook
    return report


def _report(simulation: Simulation, violation: str, began: float) -> Report:
    network, world = simulation.network, simulation.world
    if violation:
        network.note(f"violation: {violation}")
    counts = network.counts
    faults = simulation.faults | {"cut": counts.cut, "lost": counts.lost, "slow": counts.slow}
    return Report(
        seed=simulation.seed,
        digest=network.digest.hexdigest(),
        operations=counts.operations,
        virtual_s=world.now_us / 1e6,
        real_s=time.perf_counter() - began,
        runs=len(simulation.model.runs),
        violation=violation,
        faults=faults,
        verbs=dict(counts.verbs),
        trace=list(network.trace) if violation else [],
    )
