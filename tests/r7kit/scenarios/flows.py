"""The flows of the scenarios: the same classes for both engines."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from r7kit.acting import act
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow
from r7kit.exceptions import TaskNotFoundError
from r7kit.stateful_workflow import StatefulWorkflow
from r7kit.workflow_utils import sleep


@taskflow(queue="scenarios")
class Doubles(BaseTaskWorkflow):
    async def handle(self) -> int:
        await self.load_task()
        x = int(self.payload["input"])
        await self.patch_task({"status": "processing"})
        await self.patch_task({"status": "done", "payload": {"result": x * 2}, "owner": {"name": "ada"}})
        await self.delete_task(ttl=60)
        return x * 2


@taskflow(queue="scenarios")
class Produces(BaseTaskWorkflow):
    async def handle(self, queue: str) -> int:
        await self.load_task()
        x = int(self.payload["mathematic"]["input"])
        await self.patch_task({"status": "sent"})
        result = int(await self.child("Processes", queue=queue).run())
        await self.patch_task({"status": "done", "payload": {"mathematic": {"input": x, "result": result}}})
        return result


@taskflow(queue="scenarios")
class Processes(BaseTaskWorkflow):
    async def handle(self) -> int:
        await self.ensure_task_loaded()
        async with self.state():
            self.payload["seen"] = self.task_id == self.task.uuid
        return int(self.payload["mathematic"]["input"]) * 10


@taskflow(queue="scenarios")
class HasChildWithTask(BaseTaskWorkflow):
    async def handle(self, queue: str) -> dict[str, Any]:
        handle, child_task = await self.child("Doubles", queue=queue).start(payload={"input": 4})
        shared, same_task = await self.child("Adds", queue=queue).start("by child", 1)
        await shared.result()
        return {"result": await handle.result(), "own": child_task != self.task_id, "shared": same_task == self.task_id}


@taskflow(queue="scenarios")
class Adds(BaseTaskWorkflow):
    async def handle(self, key: str, value: Any) -> None:
        await self.patch_task({"payload": {key: value}})


@taskflow(queue="scenarios")
class EditsState(BaseTaskWorkflow):
    async def handle(self) -> list[str]:
        async with self.state():
            self.payload["new"] = {"deep": [1, 2.0, None]}
            del self.payload["gone"]
            self.payload["list"].append(3)
        try:
            async with self.state():
                self.payload["never"] = 1
                raise LookupError("not this time")
        except LookupError:
            pass
        async with self.state():
            pass  # nothing changed, nothing is written
        return sorted(self.payload)


@taskflow(queue="scenarios")
class KeepsWhatOthersWrite(BaseTaskWorkflow):
    async def handle(self, queue: str) -> None:
        async with self.state():
            self.payload["mine"] = 1
            await self.child("Adds", queue=queue).run("theirs", 2)


@taskflow(queue="scenarios")
class Fails(BaseTaskWorkflow):
    async def handle(self) -> None:
        await self.patch_task({"status": "failing"})
        raise LookupError("no such thing: 7")


@taskflow(queue="scenarios")
class FailsTwice(BaseTaskWorkflow):
    async def handle(self, key: str) -> int:
        tries = int(await act("count", key))
        await self.patch_task({"payload": {"tries": tries}})
        if tries < 3:
            raise LookupError(f"try {tries}")
        return tries


@taskflow(queue="scenarios")
class UsesDeletedTask(BaseTaskWorkflow):
    async def handle(self) -> list[str]:
        seen = [f"exists {await self.exists()}"]
        await self.delete_task(ttl=30)
        seen.append(f"exists {await self.exists()}")
        for what in (self.load_task, self.delete_task, self._patch):
            try:
                await what()
            except TaskNotFoundError as error:
                seen.append(f"{what.__name__}: {type(error).__name__} {error.task_id == self.task_id}")
        task = await self.get_task()
        seen.append(f"get_task: {task.deleted_at is not None} {task.payload}")
        return seen

    async def _patch(self) -> None:
        await self.patch_task({"status": "revived"})


@taskflow(queue="scenarios")
class RemovesTask(BaseTaskWorkflow):
    async def handle(self) -> str:
        await self.delete_task(ttl=0)
        try:
            await self.get_task()
        except TaskNotFoundError:
            return "gone"
        return "still there"


@taskflow(queue="scenarios")
class FailsForWantOfTask(BaseTaskWorkflow):
    async def handle(self) -> None:
        await self.delete_task()
        await self.load_task()


@taskflow(queue="scenarios")
class Echoes(BaseTaskWorkflow):
    async def handle(self, value: Any) -> Any:
        await self.load_task()
        await self.patch_task({"payload": {"again": self.payload["value"], "argument": value}})
        return {"argument": value, "activity": await act("echo", value)}


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Line:
    article: str
    count: int


class Order(BaseModel):
    lines: list[Line]
    at: datetime
    colour: Colour


@taskflow(queue="scenarios")
class TakesTypes(BaseTaskWorkflow):
    async def handle(self, order: Order, line: Line, when: datetime, note: str | None = None) -> Order:
        assert isinstance(order, Order)
        assert isinstance(line, Line)
        assert when.tzinfo is not None
        await self.patch_task({"payload": {"line": line, "when": when, "note": note}})
        return Order(lines=[*order.lines, line], at=when, colour=order.colour)


@activity
async def echo(value: Any) -> Any:
    return value


@activity
def plain_line(line: Line) -> int:
    return line.count * 2


_counts: dict[str, int] = {}


@activity
async def count(key: str) -> int:
    """How often it was called with this key, in this process."""
    _counts[key] = _counts.get(key, 0) + 1
    return _counts[key]


@activity
async def refuses() -> None:
    raise ValueError("not this way")


@activity(name="breaks")
async def _breaks(key: str) -> None:
    raise OSError(f"the disk is full, try {await count(key)}")


@taskflow(queue="scenarios")
class Acts(BaseTaskWorkflow):
    async def handle(self, key: str) -> dict[str, Any]:
        seen: dict[str, Any] = {"plain": await act("plain_line", {"article": "x", "count": 21})}
        try:
            await act("refuses")
        except ValueError as error:
            seen["refused"] = str(error)
        try:
            await act("breaks", key)
        except Exception as error:
            seen["broken"] = "breaks" in str(error) or "disk is full" in str(error.__cause__ or error)
        await sleep(0.2)
        seen["tries"] = await act("count", key)
        return seen


@activity
async def takes_long(key: str) -> None:
    await count(key)
    await asyncio.sleep(60)


@taskflow(queue="scenarios")
class ActsTooLong(BaseTaskWorkflow):
    async def handle(self, key: str) -> dict[str, Any]:
        try:
            await act("takes_long", key, timeout=0.5)
        except TimeoutError:
            tries = int(await act("count", key)) - 1
            await sleep(0.2)  # on redflow the handler runs again after this; the activity must not
            return {"timed out": 1 <= tries <= 3, "again": int(await act("count", key)) - tries - 2}
        return {}


@taskflow(queue="scenarios")
class ActsElsewhere(BaseTaskWorkflow):
    async def handle(self, queue: str) -> list[Any]:
        seen: list[Any] = [await act("plain_line", Line("ink", 4), queue=queue)]
        try:
            await act("refuses", queue=queue)
        except ValueError as error:
            seen.append(str(error))
        return seen


@taskflow(queue="scenarios")
class StartsOneThatFails(BaseTaskWorkflow):
    async def handle(self, queue: str) -> list[bool]:
        handle, task = await self.child("Fails", queue=queue).start(payload={"for": "it"})
        try:
            await handle.result()
        except Exception as error:
            await sleep(0.2)
            return [task == handle.id, "Fails" in str(error) or "Child Workflow" in str(error)]
        return []


@taskflow(queue="scenarios")
class Sleeps(BaseTaskWorkflow):
    async def handle(self, seconds: float) -> int:
        for number in range(3):
            await self.patch_task({"payload": {"n": number}})
            await sleep(seconds)
        return 3


@taskflow(queue="scenarios")
class SurvivesItsChild(BaseTaskWorkflow):
    async def handle(self, queue: str) -> bool:
        try:
            await self.child("Fails", queue=queue).run()
        except Exception as error:
            await self.patch_task({"status": "survived"})
            # On redflow the handler runs again after this sleep; the child must not.
            await sleep(0.2)
            return "Fails" in str(error) or "Fails" in str(getattr(error, "workflow_type", ""))
        return False


@taskflow(queue="scenarios")
class FailsWithItsChild(BaseTaskWorkflow):
    async def handle(self, queue: str) -> None:
        await self.child("Fails", queue=queue).run()


@taskflow(queue="scenarios")
class LosesPatience(BaseTaskWorkflow):
    async def handle(self, queue: str) -> str:
        try:
            await self.child("Sleeps", queue=queue).run(30, timeout=0.5)
        except TimeoutError:
            return "child took too long"
        return "?"


@taskflow(queue="scenarios")
class ManyChildren(BaseTaskWorkflow):
    async def handle(self, queue: str) -> int:
        children = [self.child("Adds", queue=queue).run(f"k{number}", number) for number in range(8)]
        await asyncio.gather(*children)
        return len((await self.load_task()).payload)


@taskflow(queue="scenarios")
class Parameters(StatefulWorkflow):
    async def handle(self) -> dict[str, Any]:
        return {
            "one": await self.param("a.b"),
            "default": await self.param("a.c", default=None),
            "many": await self.params("a.b", "d", default="?"),
            "id": self.task_id == (await self.get_task()).uuid,
        }


@activity
async def starts_a_flow(queue: str) -> int:
    handle, _ = await Doubles.start(payload={"input": 4}, queue=queue)
    result = await handle.result()
    assert isinstance(result, int)
    return result


@taskflow(queue="scenarios")
class StartsInActivity(BaseTaskWorkflow):
    async def handle(self, queue: str) -> int:
        return int(await act("starts_a_flow", queue, timeout=20))
