"""Flows and activities that the tests run."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
import socket
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel
from temporalio import activity as temporal_activity
from temporalio import workflow

import r7kit
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow
from r7kit.exceptions import TaskAlreadyExistsError, TaskNotFoundError
from r7kit.runtime import current_runtime
from r7kit.stateful_workflow import StatefulWorkflow
from r7kit.tasks import act
from redflow.types import JsonData


@taskflow(queue="producer-queue")
class MyFlow(BaseTaskWorkflow):
    async def handle(self) -> int:
        await self.load_task()
        x = self.payload["input"]
        await self.patch_task({"status": "processing"})
        await self.patch_task({"status": "done", "payload": {"result": x * 2}})
        await self.delete_task(ttl=60)
        return int(x * 2)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Order(BaseModel):
    sku: str
    at: datetime
    color: Color
    points: list[Point]


@taskflow()
class Typed(BaseTaskWorkflow):
    async def handle(self, order: Order, point: Point, when: datetime, color: Color) -> Order:
        assert isinstance(order, Order), type(order)
        assert isinstance(point, Point), type(point)
        assert isinstance(when, datetime), type(when)
        assert color is Color.BLUE
        return Order(sku=order.sku + "!", at=when + timedelta(days=1), color=color, points=[*order.points, point])


@taskflow()
class Echo(BaseTaskWorkflow):
    """Puts its argument through the payload too."""

    async def handle(self, value: JsonData) -> JsonData:
        await self.patch_task({"payload": {"value": value}, "note": value})
        task = await self.load_task()
        assert task.attributes["note"] == task.payload["value"]
        return [value, self.payload["value"], self.payload["given"]]


@taskflow()
class Failing(BaseTaskWorkflow):
    async def handle(self, size: int) -> None:
        raise KeyError("x" * size)


@taskflow()
class FailsOnce(BaseTaskWorkflow):
    async def handle(self) -> int:
        attempt = workflow.info().attempt
        await self.patch_task({"payload": {f"attempt-{attempt}": True}})
        if attempt == 1:
            raise RuntimeError("the first time it fails")
        return attempt


@taskflow()
class Misses(BaseTaskWorkflow):
    """Every named error arrives as itself."""

    async def handle(self) -> list[str]:
        seen: list[str] = []
        await self.delete_task(ttl=100)
        for work in (
            lambda: self.patch_task({"status": "late"}),
            lambda: self.delete_task(),
            lambda: self.load_task(),
            lambda: self.param("a"),
        ):
            try:
                await work()
            except TaskNotFoundError as error:
                seen.append(f"{type(error).__name__} {error.task_id == self.task_id}")
        assert not await self.exists()
        assert (await self.get_task()).deleted_at is not None
        return seen


@taskflow()
class Params(BaseTaskWorkflow):
    async def handle(self) -> JsonData:
        first = await self.param("a.b")
        several = await self.params("a.b", "items.1", "dotted.key", "nothing", default=0)
        try:
            await self.param("nothing.there")
        except KeyError as error:
            missing = str(error)
        await self.load_task()
        assert await self.params("a.b", "items.1", "dotted.key", "nothing", default=0) == several
        return [first, several, missing, await self.params("a.b")]


@taskflow()
class States(BaseTaskWorkflow):
    async def handle(self) -> JsonData:
        async with self.state() as payload:
            payload["set"] = 1
            self.payload["nested"]["deep"] = 2
            del payload["gone"]
        try:
            async with self.state():
                self.payload["never"] = True
                raise LookupError
        except LookupError:
            assert "never" not in self.payload
        async with self.state():
            await self.patch_task({"payload": {"patched": 3}})
            self.payload["after"] = 4
        async with self.state():
            pass
        assert self.task.payload["after"] == 4
        return self.payload


@taskflow()
class Counter(StatefulWorkflow):
    async def handle(self) -> JsonData:
        state = await self.load_state()
        state["count"] = state.get("count", 0) + 1
        await self.save_state()
        await self.save_state()
        await self.update_state({"more": 1}, extra=2)
        return self.payload


@taskflow()
class Talks(BaseTaskWorkflow):
    """Signals, queries, updates, workflow.sleep and a plain activity, all of Temporal itself."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.signal
    async def say(self, word: str) -> None:
        await self.patch_task({"payload": {word: True}})
        self.words.append(word)

    @workflow.query
    def said(self) -> list[str]:
        return [self.task_id, *self.words]

    @workflow.update
    async def ask(self, word: str) -> int:
        await self.patch_task({"payload": {"asked": word}})
        return len(self.words)

    async def handle(self) -> list[str]:
        await workflow.wait_condition(lambda: "end" in self.words)
        await workflow.sleep(0.01)
        shout = await workflow.execute_activity(shouted, "hi", start_to_close_timeout=timedelta(seconds=5))
        return [*self.words, shout]


@temporal_activity.defn
async def shouted(word: str) -> str:
    return word.upper()


@activity
def blocking(a: int, b: int = 2) -> int:
    return a * b


@activity(name="named-one")
async def one_with_a_name(value: JsonData) -> JsonData:
    return {"got": value}


@activity
async def broken() -> None:
    raise ValueError("no use")


@taskflow()
class Acts(BaseTaskWorkflow):
    async def handle(self) -> JsonData:
        try:
            await act("broken")
        except ValueError as error:
            text = str(error)
        return [await act("blocking", 4, timeout=5), await act("named-one", [1]), text]


@taskflow()
class Child(BaseTaskWorkflow):
    async def handle(self, key: str = "child", fail: bool = False) -> str:
        await self.patch_task({"payload": {key: self.task_id}})
        if fail:
            raise RuntimeError("the child breaks")
        return self.task_id


@taskflow()
class Sleeps(BaseTaskWorkflow):
    async def handle(self, seconds: float) -> str:
        await r7kit.sleep(seconds)
        await self.patch_task({"status": "awake"})
        return "awake"


@taskflow()
class Parent(BaseTaskWorkflow):
    async def handle(self) -> JsonData:
        queue = current_runtime().info.queue
        shared = await self.child(Child, queue=queue).run("ran")
        by_name = await self.child("Child", queue=queue).run("named")
        called = await self.call_child("tests.r7kit.temporal.flows.Child", "called", queue=queue)
        assert shared == by_name == called == self.task_id
        handle, same = await self.child(Child, queue=queue).start("started")
        assert same == self.task_id
        assert await handle.result() == same
        other, own = await self.child(Child, queue=queue).start("own", payload={"given": 1})
        assert own != self.task_id
        assert await other.result() == own
        try:
            await self.child(Child, queue=queue, id_=other.id).start(payload={})
        except TaskAlreadyExistsError as error:
            taken = other.id in str(error)
        try:
            await self.child(Child, queue=queue).run("failed", True)
        except Exception as error:
            cause = str(error.__cause__)
        try:
            await self.child(Sleeps, queue=queue).run(60, timeout=1)
        except TimeoutError:
            late = True
        return [own, taken, cause, late, sorted((await self.load_task()).payload)]


@taskflow()
class Waits(BaseTaskWorkflow):
    """Stands still between two patches until it is told to go on."""

    def __init__(self) -> None:
        self.told = False

    @workflow.signal
    def go(self) -> None:
        self.told = True

    async def handle(self, patches: int) -> int:
        for number in range(patches):
            await self.patch_task({"payload": {f"before-{number}": number}})
        await workflow.wait_condition(lambda: self.told)
        for number in range(patches):
            await self.patch_task({"payload": {f"after-{number}": number}})
        return patches


@taskflow()
class Timed(BaseTaskWorkflow):
    async def handle(self) -> str:
        try:
            await self.patch_task({"status": "never"}, timeout=0.3)
        except TimeoutError as error:
            return str(error)
        return "in time"


@taskflow()
class Clock(BaseTaskWorkflow):
    async def handle(self) -> float:
        before = workflow.now()
        await r7kit.sleep(timedelta(days=30))
        await self.patch_task({"status": "awake"})
        return (workflow.now() - before) / timedelta(days=1)


@taskflow()
class Gathers(BaseTaskWorkflow):
    async def handle(self, count: int) -> int:
        await asyncio.gather(*(self.patch_task({"payload": {f"k{n}": n}}) for n in range(count)))
        return len((await self.load_task()).payload)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@activity
async def slow() -> int:
    await asyncio.sleep(1)
    return temporal_activity.info().attempt


@taskflow()
class Drains(BaseTaskWorkflow):
    async def handle(self) -> JsonData:
        await self.patch_task({"payload": {"begun": True}})
        return await act("slow", timeout=30)


@taskflow()
class Late(BaseTaskWorkflow):
    async def handle(self) -> str:
        try:
            await self.child(Sleeps, queue=current_runtime().info.queue).run(10 * 86_400.0, timeout=timedelta(days=9))
        except TimeoutError as error:
            return type(error).__name__
        return "in time"


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@taskflow()
class Impossible(BaseTaskWorkflow):
    async def handle(self, how: str) -> object:
        large = "x" * 3_000_000
        match how:
            case "result":
                return large
            case "patch":
                await self.patch_task({"payload": {"large": large}})
            case "child":
                await self.child(Child, queue=current_runtime().info.queue).run(large)
            case "activity":
                await act("named-one", large)
            case "object":
                return object()
            case "exit":
                raise SystemExit(3)
            case "base":
                raise BaseException("base")
            case "unreadable":
                raise Unreadable
        return None


@activity
def hangs() -> None:
    """Waits for ever, in a way that nobody can interrupt."""
    logging.getLogger("r7kit.tests").warning("it hangs")
    one, other = socket.socketpair()
    one.recv(1)
    other.close()


@taskflow()
class Hangs(BaseTaskWorkflow):
    async def handle(self) -> None:
        await act("hangs")
