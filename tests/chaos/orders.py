"""What clients do in the chaos tests: each primitive once, told to the ledger as operations.

An operation is invoked and then ok, fail (it certainly did nothing) or info (its reply was lost: it happened or not).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redflow import CanceledError, RedflowClient, RedflowError, RunHandle
from redflow.domain.run import stored_run_id
from redflow.errors import ConnectionError, NotDurableError, QueueFullError, UnknownWorkflowError
from redflow.errors import TimeoutError as RedflowTimeoutError
from tests.chaos.ledger import Ledger

T = TypeVar("T")
Handle = RunHandle[Any]
_REFUSALS: Final = (QueueFullError, UnknownWorkflowError, ValueError)
PATIENCE_S: Final = 30.0


class Orders:
    """A client that tells the ledger of each of its operations.

    Args:
        client: of the prefix.
        ledger: of this process.
        rng: of this process.
        first: the first of its numbers; each order takes the next.
    """

    def __init__(self, client: RedflowClient, ledger: Ledger, rng: random.Random, first: int) -> None:
        self.client = client
        self.rng = rng
        self._ledger = ledger
        self._next = first
        self._ops = 0

    def number(self) -> int:
        """A number that no other order has."""
        self._next += 1
        return self._next

    async def _told(
        self, what: str, call: Callable[[], Awaitable[T]], told: Callable[[T], dict[str, Any]], **about: Any
    ) -> T | None:
        self._ops += 1
        op = self._ops
        self._ledger.note("invoke", op=op, what=what, **about)
        try:
            answer = await call()
        except _REFUSALS as exc:
            self._ledger.note("fail", op=op, what=what, error=type(exc).__name__, **about)
        except (ConnectionError, NotDurableError) as exc:
            self._ledger.note("info", op=op, what=what, error=str(exc), **about)
        else:
            self._ledger.note("ok", op=op, what=what, **about, **told(answer))
            return answer
        return None

    async def start(self, workflow: str, input: dict[str, Any], **options: Any) -> Handle | None:
        """Start a run; None if nobody knows whether it was accepted."""
        about = {"workflow": workflow, "input": input, "key": options.get("idempotency_key")}
        handle = await self._told(
            "start",
            lambda: self.client.emit_workflow(workflow, input, **options),
            lambda handle: {"run": stored_run_id(handle.id)},
            **about,
        )
        if handle is not None and self.rng.random() < 0.2:
            await self._told(
                "read",
                lambda: self.client.get_run(handle.id),
                lambda state: {"found": state is not None},
                run=stored_run_id(handle.id),
            )
        return handle

    async def emit(self, name: str, data: dict[str, Any], **options: Any) -> None:
        """Emit an event."""
        await self._told(
            "emit",
            lambda: self.client.emit_event_detailed(name, data, **options),
            lambda told: {
                "event": told["event_id"],
                "resumed": [stored_run_id(run) for run in told["resumed_run_ids"]],
                "runs": [stored_run_id(handle.id) for handle in told["handles"]],
            },
            name=name,
            data=data,
            given=options.get("event_id"),
            correlation=options.get("correlation_key"),
        )

    async def cancel(self, handle: Handle) -> None:
        """Cancel a run and all below it."""
        await self._told(
            "cancel", lambda: self.client.cancel_run(handle.id, reason="enough"), lambda done: {"done": done},
            run=stored_run_id(handle.id),
        )  # fmt: skip

    async def result(self, handle: Handle | None) -> None:
        """Wait for a run's end, whatever the network does, and tell what was said of it."""
        if handle is None:
            return
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                said: dict[str, Any] = {"status": "succeeded", "output": await handle.result(timeout_ms=2_000)}
            except (RedflowTimeoutError, ConnectionError):
                continue
            except CanceledError:
                said = {"status": "canceled"}
            except RedflowError as exc:
                said = {"status": "failed" if str(exc).startswith("Run failed") else str(exc)}
            self._ledger.note("result", run=stored_run_id(handle.id), **said)
            return

    async def known(self, workflow: str) -> None:
        """Wait until some worker has registered a workflow."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if workflow in await self.client.list_workflows():
                    return
            except ConnectionError:
                pass
            await asyncio.sleep(0.01)

    async def subscribed(self, event: str, workflows: tuple[str, ...]) -> None:
        """Wait until workflows subscribe to an event: only later ones are theirs."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                told = {row["event"]: row["subscribers"] for row in await self.client.list_event_definitions()}
                if set(workflows) <= {subscriber["workflow"] for subscriber in told.get(event, [])}:
                    return
            except ConnectionError:
                pass
            await asyncio.sleep(0.01)

    async def reaches(self, handle: Handle, statuses: tuple[str, ...]) -> bool:
        """Wait until a run has one of some statuses."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                state = await handle.get_state()
            except ConnectionError:
                continue
            if state is None or state["status"] in statuses:
                return state is not None
            await asyncio.sleep(0.01)
        return False


# --- the primitives -------------------------------------------------------------------------------------------------


def _runs(workflow: str) -> Callable[[Orders], Awaitable[None]]:
    async def play(orders: Orders) -> None:
        await orders.result(await orders.start(workflow, {"n": orders.number()}))

    return play


def _several(workflow: str, count: int, **more: Any) -> Callable[[Orders], Awaitable[None]]:
    async def play(orders: Orders) -> None:
        key = f"c{orders.rng.randrange(3)}"
        inputs = [{"n": orders.number(), "key": key, **more} for _ in range(count)]
        handles = [await orders.start(workflow, input) for input in inputs]
        for handle in handles:
            await orders.result(handle)

    return play


async def _append(orders: Orders) -> None:
    """Several on one list, at once; after some plays a new list begins."""
    n = orders.number()
    inputs = [{"n": number, "list": f"list-{n // 60}"} for number in (n, orders.number(), orders.number())]
    for handle in await asyncio.gather(*(orders.start("append", input) for input in inputs)):
        await orders.result(handle)


async def _event(orders: Orders) -> None:
    """The event comes before the wait, or after it: whichever the moment decides."""
    n = orders.number()
    handle = await orders.start("event", {"n": n})
    if handle is None:
        return
    if orders.rng.random() < 0.7:
        await orders.reaches(handle, ("scheduled", "succeeded", "failed"))
    # Emitted until it is certain: a run whose event was lost with its emitter would wait for ever.
    for k in range(5):
        await orders.emit("go", {"n": n, "k": 0}, correlation_key=f"k{n}", event_id=f"go-{n}")
        if k or orders.rng.random() < 0.8:
            break
    await orders.result(handle)


async def _event_timeout(orders: Orders) -> None:
    await orders.result(await orders.start("event", {"n": orders.number(), "timeout_ms": 60}))


async def _fanout(orders: Orders) -> None:
    n = orders.number()
    for _ in range(orders.rng.choice((1, 2))):  # the same event twice is one
        await orders.emit("news", {"n": n}, event_id=f"news-{n}")
    await orders.result(await orders.start("announce", {"n": orders.number()}))


async def _debounce(orders: Orders) -> None:
    key = f"d{orders.number()}"
    handle = None
    for _ in range(orders.rng.randrange(2, 5)):
        handle = await orders.start("debounced", {"n": orders.number(), "key": key})
        await asyncio.sleep(orders.rng.random() * 0.05)
    await orders.result(handle)


async def _keyed(orders: Orders) -> None:
    n = orders.number()
    starts = [orders.start("plain", {"n": n}, idempotency_key=f"i{n}") for _ in range(4)]
    for handle in await asyncio.gather(*starts):
        await orders.result(handle)


async def _tree(orders: Orders) -> None:
    handle = await orders.start("tree", {"n": orders.number()})
    if handle is None:
        return
    await orders.reaches(handle, ("scheduled", "succeeded", "failed", "canceled"))
    await asyncio.sleep(orders.rng.random() * 0.05)
    for _ in range(3):
        await orders.cancel(handle)
    await orders.result(handle)


async def _cancel(orders: Orders) -> None:
    """Cancel a run that is at work."""
    handle = await orders.start("gap", {"n": orders.number()})
    if handle is None:
        return
    await orders.reaches(handle, ("running", "succeeded"))
    await orders.cancel(handle)
    await orders.result(handle)


async def _ticks(orders: Orders) -> None:
    """Wait until cron has started two runs."""
    await orders.known("ticks")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            stats = await orders.client.get_stats()
        except ConnectionError:
            continue
        if stats["by_status"]["succeeded"] >= 2:
            return
        await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Primitive:
    """One thing that clients do.

    Attributes:
        play: does it once.
        workflows: what it needs.
        weight: how often it is done in a mix.
    """

    play: Callable[[Orders], Awaitable[None]]
    workflows: tuple[str, ...]
    weight: float = 1.0


PRIMITIVES: Final[dict[str, Primitive]] = {
    "plain": Primitive(_runs("plain"), ("plain",), 3),
    "retry": Primitive(_runs("retry"), ("retry",), 2),
    "sleep": Primitive(_runs("sleep"), ("sleep",), 2),
    "event": Primitive(_event, ("event",), 2),
    "timeout": Primitive(_event_timeout, ("event",)),
    "child": Primitive(_runs("parent"), ("parent", "child"), 2),
    "fan-out": Primitive(_fanout, ("announce", "sub-a", "sub-b"), 1),
    "mutex": Primitive(_several("mutex", 3), ("mutex",), 1),
    "lists": Primitive(_append, ("append",), 0.7),
    "throttle": Primitive(_several("throttled", 4), ("throttled",), 0.7),
    "rate-limit": Primitive(_several("rated", 3), ("rated",), 0.7),
    "debounce": Primitive(_debounce, ("debounced",), 1),
    "cron": Primitive(_ticks, ("ticks",), 0),
    "cancel-tree": Primitive(_tree, ("tree",), 0.7),
    "on-failure": Primitive(_runs("fails"), ("fails",), 1),
    "idempotency": Primitive(_keyed, ("plain",), 0.5),
    "concurrency": Primitive(_several("limited", 3), ("limited",), 0.7),
    "wide": Primitive(_runs("wide"), ("wide",), 6),
    "long": Primitive(_runs("long"), ("long",), 0.3),
    "cancel": Primitive(_cancel, ("gap",), 0.7),
    "gap": Primitive(_runs("gap"), ("gap",), 1),
    "poison": Primitive(_runs("poison"), ("poison",), 0.05),
}
"""By name."""
