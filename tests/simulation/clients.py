"""Client processes: each gives orders by its seed and holds every answer against the model."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from redflow.domain.run import public_run_id, stored_run_id
from redflow.errors import CanceledError, ConnectionError, RedflowError, UnknownWorkflowError
from redflow.errors import TimeoutError as RedflowTimeoutError
from tests.model.state import TERMINAL
from tests.simulation.loops import Process
from tests.simulation.workload import output_of

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

T = TypeVar("T")


@dataclass(slots=True)
class Order:
    """A run that was asked for: what was given, and its id if the answer was heard."""

    workflow: str
    given: dict[str, Any]
    run: str | None = None


class SimulatedClient:
    """One client process.

    Args:
        simulation: it is part of.
        process: where it runs.
        orders: how many it gives.
        mix: workflows that it starts.
    """

    def __init__(self, simulation: Simulation, process: Process, orders: int, mix: tuple[str, ...]) -> None:
        self._sim = simulation
        self._rng = simulation.world.rng
        self._process = process
        self._orders = orders
        self._mix = mix
        self._given: list[Order] = []
        self._waits: set[asyncio.Task[None]] = set()
        self.done = False

    async def play(self) -> None:
        """Give all orders, and wait for the answers."""
        try:
            await self._play()
        except Exception as exc:
            self._sim.broken(f"{self._process.name} gets what no call raises: {exc!r} {traceback.format_exc()}")
        self.done = True

    async def _play(self) -> None:
        self._client = self._sim.new_client()
        while not await self._asked("list_workflows", lambda: self._client.list_workflows()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # nobody tells a client that a workflow was registered
        for _ in range(self._orders):
            await asyncio.sleep(self._rng.choice([0.0, 0.001, 0.02, 0.3, 1.0]) * self._rng.random())
            await self._rng.choice([self._start] * 5 + [self._cancel, self._look, self._emit, self._result])()
        await asyncio.gather(*self._waits)

    async def _asked(self, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """The answer of a call; None when nobody can know it."""
        try:
            answer = await call()
        except (ConnectionError, UnknownWorkflowError) as exc:
            self._sim.network.note(f"{self._process.name} {what}: {exc}")
            return None
        self._sim.network.note(f"{self._process.name} {what}: answered")
        return answer

    # -- orders -------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        rng = self._rng
        workflow, number = rng.choice(self._mix), rng.randrange(1 << 30)
        given: dict[str, Any] = {
            "n": number, "key": rng.randrange(2), "work": rng.choice([1, 5, 40, 300, 7_000]),
            "nap": rng.choice([1, 40, 700, 6_000]), "patience": rng.choice([50, 900, 20_000]),
        }  # fmt: skip
        options: dict[str, Any] = {}
        if rng.random() < 0.15:
            options["idempotency_key"] = f"i{rng.randrange(3)}"
        if rng.random() < 0.15:
            options["priority"] = rng.choice([-100, -1, 1, 100])
        if rng.random() < 0.1:
            options["run_timeout_ms"] = rng.choice([30, 900, 8_000])
        if rng.random() < 0.15:
            at_ms = self._sim.world.now_ms + rng.choice([1, 90, 1_500, 12_000])
            options["run_at"] = datetime.fromtimestamp(at_ms / 1000, UTC)
        order = Order(workflow, given)
        handle = await self._asked(f"starts {workflow}", lambda: self._client.emit_workflow(workflow, given, **options))
        if handle is None:
            return
        order.run = stored_run_id(handle.id)
        run = self._sim.model.runs.get(order.run or "")
        if run is None or run.workflow != workflow:
            self._sim.broken(f"{self._process.name} was told of run {order.run}, which is not there")
        elif "idempotency_key" not in options:
            self._given.append(order)
        else:
            order.given = json.loads(run["i"])  # type: ignore[arg-type]
            self._given.append(order)

    def _some_run(self) -> str | None:
        known = [order.run for order in self._given if order.run is not None] + list(self._sim.model.runs)[-6:]
        return self._rng.choice(known) if known else None

    async def _cancel(self) -> None:
        run = self._some_run()
        if run is None:
            return
        before = self._sim.model.runs[run].status
        done = await self._asked(f"cancels {run}", lambda: self._client.cancel_run(public_run_id(run)))
        if done and before in ("succeeded", "failed"):
            self._sim.broken(f"{self._process.name} was told that {run} is canceled, which had ended before: {before}")

    async def _look(self) -> None:
        run = self._some_run()
        if run is None:
            return
        record = self._sim.model.runs[run]
        first = self._sim.calls
        state = await self._asked(f"looks at {run}", lambda: self._client.get_run(public_run_id(run)))
        if state is None:
            return
        possible = self._sim.statuses(run, first)
        if state["status"] not in possible:
            self._sim.broken(
                f"{self._process.name} sees {run} {state['status']}, which was {sorted(possible)} meanwhile"
            )
        if state["status"] in TERMINAL and record.status != state["status"]:
            self._sim.broken(f"{self._process.name} saw {run} end {state['status']}; it is {record.status}")

    async def _emit(self) -> None:
        key, number = self._rng.randrange(2), self._rng.randrange(4)
        options: dict[str, Any] = {"event_id": f"go-{key}-{number}"} if self._rng.random() < 0.5 else {}
        if self._rng.random() < 0.3:
            await self._asked("tells news", lambda: self._client.emit_event("news", {"n": number}))
            return
        await self._asked(
            "emits", lambda: self._client.emit_event("go", {"k": number}, correlation_key=f"k{key}", **options)
        )

    async def _result(self) -> None:
        """Begin to wait for the end of a run, beside what follows."""
        run = self._some_run()
        if run is not None:
            wait = asyncio.get_running_loop().create_task(self._wait_for(run))
            self._waits.add(wait)

    async def _wait_for(self, run: str) -> None:
        try:
            output = await self._client.wait_for_result(public_run_id(run), timeout_ms=30_000)
        except (RedflowTimeoutError, ConnectionError):
            return
        except CanceledError:
            self._end_is(run, "canceled")
        except RedflowError as exc:
            if str(exc).startswith(("Run not found", "Run state")):
                self._sim.broken(f"{self._process.name} is told of {run}: {exc}")
            self._end_is(run, "failed")
        else:
            self._end_is(run, "succeeded", output)

    def _end_is(self, run: str, status: str, output: object = ...) -> None:
        record = self._sim.model.runs[run]
        self._sim.network.note(f"{self._process.name} hears that {run} {status}")
        if record.status != status:
            self._sim.broken(f"{self._process.name} hears that {run} {status}; it is {record.status}")
        elif output is not ... and json.loads(record["o"]) != output:  # type: ignore[arg-type]
            self._sim.broken(f"{self._process.name} hears that {run} gave {output}; it is {record['o']!r}")

    # -- the end ------------------------------------------------------------------------------------------------

    def check_outputs(self) -> None:
        """Every run that was accepted is there, and what succeeded gave what its input says."""
        for order in self._given:
            record = self._sim.model.runs.get(order.run or "")
            if record is None:
                self._sim.broken(f"run {order.run} was accepted and is not there")
                return
            expected = output_of(order.workflow, order.given)
            if record.status == "succeeded" and expected is not ...:
                output = record["o"]
                assert isinstance(output, bytes)
                if json.loads(output) != expected:
                    self._sim.broken(f"{order.workflow} {order.run} gave {output!r}, should give {expected}")
