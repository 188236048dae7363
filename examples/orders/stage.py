"""One run of the demo: server, workers, client and the kill."""

from __future__ import annotations

import asyncio
import csv
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

from examples.orders.effects import EffectsFile, Event
from examples.orders.evidence import Difference, Evidence, ExpectedOrder, Outcome, expected_bodies
from examples.orders.judge import Verdict, judge
from examples.orders.screen import Board, Screen
from examples.orders.shop import BUSY_BANK_CARD, Books
from examples.orders.worker import WorkerCommand
from examples.orders.workflows import COOLING_OFF_MS, handle_order
from redflow import RedflowClient, RedflowError, RunHandle, create_client
from redflow.engines.redis.embedded import EmbeddedServer, EmbeddedServerError
from redflow.errors import TimeoutError as ResultTimeout

ORDERS_CSV: Final = Path(__file__).with_name("orders.csv")
_PER_SECOND: Final = 100
_SENT_TWICE: Final = 25
"""After so many orders an earlier one is sent again, as by an impatient customer."""
_LONGEST_S: Final = 60.0
_LOOK_S: Final = 0.005


class DemoError(Exception):
    """The demo could not run; the text says why."""


@dataclass(frozen=True, slots=True)
class KillPlan:
    """When the worker dies.

    Attributes:
        bodies: after so many step bodies have ended,
        delay_ms: and so many milliseconds more.
    """

    bodies: int
    delay_ms: float

    @classmethod
    def from_seed(cls, seed: int, orders: Sequence[ExpectedOrder]) -> KillPlan:
        """The same for the same seed and orders."""
        chance = random.Random(seed)
        return cls(int(chance.uniform(0.3, 0.7) * expected_bodies(orders)), chance.uniform(0, 20))


def read_orders(limit: int | None = None) -> tuple[list[dict[str, str]], list[ExpectedOrder]]:
    """The orders of orders.csv.

    Args:
        limit: only the first so many.

    Returns:
        What the client sends, and what must become of it.
    """
    outcomes: dict[str, Outcome] = {outcome: outcome for outcome in get_args(Outcome)}
    inputs: list[dict[str, str]] = []
    expected: list[ExpectedOrder] = []
    with ORDERS_CSV.open(newline="", encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[:limit]:
            outcome, cents = outcomes[row.pop("expected")], int(row.pop("expected_cents") or 0)
            expected.append(ExpectedOrder(row["order_id"], outcome, cents, row["card"] == BUSY_BANK_CARD))
            inputs.append(row)
    return inputs, expected


@dataclass
class Demo:
    """One run of it, from the seed to the verdict.

    Attributes:
        seed: what the kill follows from.
        inputs: the orders as the client sends them.
        orders: what must become of them.
        directory: for the effects file, the books, the logs and the server.
        board: what is shown.
        screen: where.
    """

    seed: int
    inputs: list[dict[str, str]]
    orders: list[ExpectedOrder]
    directory: Path
    board: Board
    screen: Screen
    events: list[Event] = field(default_factory=list)
    effects: EffectsFile = field(init=False)
    plan: KillPlan = field(init=False)
    deadline: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.effects = EffectsFile(self.directory / "effects.jsonl")
        self.plan = KillPlan.from_seed(self.seed, self.orders)
        self._reached = asyncio.Event()

    async def run(self) -> Verdict:
        """Run it.

        Raises:
            DemoError: it could not run.
        """
        self.deadline = time.monotonic() + _LONGEST_S
        try:
            async with EmbeddedServer(self.directory / "server") as server:
                client = create_client(url=server.url, app="orders")
                try:
                    exit_code = await self._with_client(server.url, client)
                finally:
                    await client.close()
        except (EmbeddedServerError, RedflowError) as exc:
            raise DemoError(str(exc)) from exc
        finally:
            self._read()
            self.effects.close()
        return self._judge(exit_code)

    async def _with_client(self, url: str, client: RedflowClient) -> int:
        """Play while the board is kept up to date; whatever breaks ends it all. Returns the last exit code."""
        try:
            async with asyncio.TaskGroup() as group:
                watchers = [group.create_task(self._follow()), group.create_task(self._paint(client))]
                exit_code = await self._play(url, client, group)
                for watcher in watchers:
                    watcher.cancel()
        except BaseExceptionGroup as broken:
            raise _first_of(broken) from broken
        return exit_code

    async def _play(self, url: str, client: RedflowClient, group: asyncio.TaskGroup) -> int:
        """The orders and the kill; returns the exit code of the worker that was left."""
        self.screen.note("Valkey runs")
        worker = await self._start_worker(url, "first worker")
        try:
            await self._unless_it_dies(worker, asyncio.create_task(self._registered(client)), "register")
            orders = group.create_task(self._send_orders(client))
            moment = asyncio.create_task(self._moment_of_the_kill())
            await self._unless_it_dies(worker, moment, f"get through {self.plan.bodies} step bodies")
            worker = await self._replace(worker, url)
            await self._unless_it_dies(worker, orders, "finish")
        except BaseException:
            await worker.kill(self._holders())
            raise
        exit_code = await worker.stop()
        self.screen.note(f"second worker stopped, exit code {exit_code}")
        return exit_code

    # -- workers ------------------------------------------------------------------------------------------------

    async def _start_worker(self, url: str, name: str) -> WorkerCommand:
        worker = await WorkerCommand.start(url=url, directory=self.directory, name=name.replace(" ", "-"))
        self.screen.note(f"{name} started")
        return worker

    async def _registered(self, client: RedflowClient) -> None:
        """Wait until a worker has made its workflow known, so that orders can be sent by its name."""
        while True:
            if handle_order.name in await client.list_workflows():
                return
            await asyncio.sleep(0.05)

    async def _unless_it_dies(self, worker: WorkerCommand, work: asyncio.Task[None], what: str) -> None:
        """Await some work, as long as the worker lives and there is time."""
        end = asyncio.create_task(worker.ended())
        try:
            left_s = max(0.0, self.deadline - time.monotonic())
            await asyncio.wait({work, end}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                raise DemoError(f"the worker ended by itself:\n{worker.log_tail()}")
            if not work.done():
                raise DemoError(f"no time left to {what}; the worker said:\n{worker.log_tail()}")
            await work
        finally:
            end.cancel()
            work.cancel()

    async def _moment_of_the_kill(self) -> None:
        await self._reached.wait()
        await asyncio.sleep(self.plan.delay_ms / 1000)

    async def _replace(self, worker: WorkerCommand, url: str) -> WorkerCommand:
        holders = self._holders()
        self.screen.note(
            f"SIGKILL for the worker, process {', '.join(map(str, holders))}; "
            "what it was at comes back when its leases run out, after 5 s"
        )
        await worker.kill(holders)
        for pid in holders:
            self.effects.write("kill", detail=str(pid))
        return await self._start_worker(url, "second worker")

    def _holders(self) -> list[int]:
        """The processes that wrote effects: those that hold the runs."""
        self._read()
        return sorted({event.pid for event in self.events} - {os.getpid()})

    # -- the client ---------------------------------------------------------------------------------------------

    async def _send_orders(self, client: RedflowClient) -> None:
        """Send all orders, one hundred a second, some of them twice, and wait until each has ended."""
        async with asyncio.TaskGroup() as group:
            for number, row in enumerate(self.inputs):
                handle = await self._send(client, row)
                group.create_task(self._wait_for(handle, row["order_id"]))
                earlier = number // 2 - 1
                # The key of an order that was refused is free again, and would rightly start a new run.
                if number % _SENT_TWICE == _SENT_TWICE - 1 and self.orders[earlier].outcome == "fulfilled":
                    await self._send(client, self.inputs[earlier])
                await asyncio.sleep(1 / _PER_SECOND)

    async def _send(self, client: RedflowClient, row: dict[str, str]) -> RunHandle[dict[str, str | int]]:
        handle = await client.emit_workflow(handle_order.name, row, idempotency_key=row["order_id"])
        self.effects.write("emitted", run=handle.id, order=row["order_id"])
        return handle

    async def _wait_for(self, handle: RunHandle[dict[str, str | int]], order: str) -> None:
        try:
            output = await handle.result(timeout_ms=self._result_ms())
            told = f"succeeded {output['paid_cents']}"
        except ResultTimeout:
            return  # nobody was told: the judge calls that order lost
        except RedflowError as exc:
            told = f"failed {exc.error['kind']}" if exc.error else f"{exc.kind}: {exc}"
        self.effects.write("told", run=handle.id, order=order, detail=told)

    def _result_ms(self) -> float:
        """Results are given up a little before everything is, so that the judge can name the lost orders."""
        return max(0.0, self.deadline - 2.0 - time.monotonic()) * 1000

    # -- what is seen -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for event in self.effects.read_new():
            self.events.append(event)
            self.board.take(event)
        if self.board.ended >= self.plan.bodies:
            self._reached.set()

    async def _follow(self) -> None:
        while True:
            self._read()
            await asyncio.sleep(_LOOK_S)

    async def _paint(self, client: RedflowClient) -> None:
        """Only here the server is asked: for the picture, never for the verdict."""
        while True:
            stats = await client.get_stats()
            self.board.statuses = {str(status): count for status, count in stats["by_status"].items()}
            for _ in range(3):
                self.screen.refresh()
                await asyncio.sleep(0.1)

    def _judge(self, exit_code: int) -> Verdict:
        bank, outbox = Books(self.directory / "bank.jsonl"), Books(self.directory / "outbox.jsonl")
        verdict = judge(
            Evidence(
                orders=self.orders,
                events=self.events,
                bank=bank.read(),
                outbox=outbox.read(),
                cooling_off_ms=COOLING_OFF_MS,
                unreadable=self.effects.unreadable + bank.unreadable + outbox.unreadable,
            )
        )
        return replace(verdict, differences=(*verdict.differences, *self._worker_trouble(exit_code)))

    def _worker_trouble(self, exit_code: int) -> Iterator[Difference]:
        """What the workers themselves say went wrong."""
        if exit_code != 0:
            yield Difference("worker", "", f"the second worker ended with exit code {exit_code} on SIGTERM")
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            bad = [line for line in lines if any(word in line for word in ("Traceback", " ERROR ", " CRITICAL "))]
            if bad:
                yield Difference("worker", "", f"{log.name} has {len(bad)} errors, the first one: {bad[0]}")


def _first_of(broken: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: the first one in a group that is no group itself."""
    first = broken.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
