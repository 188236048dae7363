"""BaseTaskWorkflow: what a flow can do with its task and its children, the same on every engine."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, TypeVar

from r7kit.children import Child, RetryLike
from r7kit.durations import Seconds, timeout_s
from r7kit.exceptions import TaskNotFoundError
from r7kit.models import TaskModel
from r7kit.operations import (
    DeleteTask,
    GetTask,
    PatchTask,
    TaskChanges,
    TaskExists,
    Written,
    applied,
    changes_between,
    check_delete_ttl,
    check_patch,
)
from r7kit.paths import look_up, top_keys
from r7kit.runtime import FlowHandle, current_runtime
from r7kit.start import Starter
from redflow.types import JsonData

if TYPE_CHECKING:
    from r7kit.registry import FlowLike

T = TypeVar("T")


class BaseTaskWorkflow:
    """The base of every flow. A subclass under @taskflow has `async def handle(self, ...)`.

    `self.task` and `self.payload` are what was loaded, with this flow's own patches applied; they do not follow what
    others write. A subclass need not call `super().__init__()`.

    Attributes:
        start: `await Cls.start(*args, payload=None, ...)`; see `r7kit.start.Starter`.
    """

    start: ClassVar[Starter] = Starter()

    _task: TaskModel | None = None
    _payload: dict[str, JsonData] | None = None
    _marks: list[dict[str, JsonData]] | None = None
    """What the payload was when each open `state()` began, or was last written."""

    async def handle(self, *args: JsonData, **kwargs: JsonData) -> object:
        """What the flow does; to be overridden, with parameters and a result of its own.

        Raises:
            NotImplementedError: it was not.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle()")

    # -- the task ---------------------------------------------------------------------------------------------------

    @property
    def task_id(self) -> str:
        """The uuid of the task."""
        return current_runtime().info.task_id

    @property
    def task(self) -> TaskModel:
        """The task as it was loaded, with this flow's patches.

        Raises:
            RuntimeError: it has not been loaded.
        """
        if self._task is None:
            raise RuntimeError("the task is not loaded: await self.load_task() first")
        return self._task

    @property
    def payload(self) -> dict[str, JsonData]:
        """The task's payload. What is changed in it is written by `state()` only; else use `patch_task`.

        Raises:
            RuntimeError: the task has not been loaded and nothing has been patched.
        """
        if self._payload is None:
            raise RuntimeError("the task is not loaded: await self.load_task() first")
        return self._payload

    @payload.setter
    def payload(self, value: Mapping[str, JsonData]) -> None:
        self._keep_payload(dict(value))

    async def load_task(self, *, timeout: Seconds | None = None) -> TaskModel:
        """Read the task into `self.task` and `self.payload`; changes of the payload not yet written are dropped.

        Args:
            timeout: seconds or timedelta; None: the engine's patience.

        Raises:
            TaskNotFoundError: there is none, or it is deleted.
            TimeoutError: it took longer.
        """
        task = await self.get_task(timeout=timeout)
        if not task.exists:
            raise TaskNotFoundError.of(task.uuid, "it is deleted")
        self._task = task
        self._keep_payload(copy.deepcopy(task.payload))
        if self._marks:
            self._marks = [copy.deepcopy(task.payload) for _ in self._marks]
        return task

    async def ensure_task_loaded(self, *, timeout: Seconds | None = None) -> TaskModel:
        """`load_task()`, unless it has been loaded."""
        return self._task if self._task is not None else await self.load_task(timeout=timeout)

    async def get_task(self, *, timeout: Seconds | None = None) -> TaskModel:
        """The task as it is now, `deleted_at` included; `self.task` stays as it is.

        Raises:
            TaskNotFoundError: there is none (any more).
            TimeoutError: it took longer.
        """
        runtime = current_runtime()
        reply = await runtime.operate(GetTask(runtime.info.task_id), timeout_s=timeout_s(timeout))
        assert isinstance(reply, TaskModel)
        return reply

    async def exists(self, *, timeout: Seconds | None = None) -> bool:
        """Whether the task is there and not deleted."""
        runtime = current_runtime()
        return bool(await runtime.operate(TaskExists(runtime.info.task_id), timeout_s=timeout_s(timeout)))

    async def patch_task(self, patch: Mapping[str, JsonData], *, timeout: Seconds | None = None) -> None:
        """Change the task: one atomic step, written and logged once however often it is tried.

        Args:
            patch: `status`; `payload`, whose top-level keys are merged (a nested value is replaced whole); and any
                other name, which is an attribute of the task.
            timeout: seconds or timedelta; None: the engine's patience.

        Raises:
            TaskNotFoundError: there is no task, or it is deleted.
            TypeError, ValueError: the patch is empty or none; the message names the place.
            TimeoutError: it took longer; it may still be written.

        Example:
            >>> await self.patch_task({"status": "done", "payload": {"result": 84}})
        """
        await self._write(check_patch(patch), timeout_s(timeout))

    async def delete_task(self, ttl: int | None = None, *, timeout: Seconds | None = None) -> None:
        """Delete the task. It stays readable for a while, by `get_task()`; `exists()` is False at once.

        Args:
            ttl: for how many whole seconds; 0 removes it at once; None: the configured deleted_ttl.
            timeout: seconds or timedelta; None: the engine's patience.

        Raises:
            TaskNotFoundError: there is no task, or it is deleted already.
            ValueError: the ttl is none.
            TimeoutError: it took longer; it may still be deleted.
        """
        checked = check_delete_ttl(ttl)
        runtime = current_runtime()
        operation = DeleteTask(runtime.info.task_id, runtime.next_op(), checked)
        reply = await runtime.operate(operation, timeout_s=timeout_s(timeout))
        if self._task is not None and isinstance(reply, Written):
            at = datetime.fromisoformat(reply.at)
            self._task = self._task.model_copy(update={"deleted_at": at, "updated_at": at, "ver": reply.ver})

    @asynccontextmanager
    async def state(self, *, timeout: Seconds | None = None) -> AsyncIterator[dict[str, JsonData]]:
        """Change the payload in a block: `async with self.state() as payload: payload["x"] = 1`.

        Loads the task if needed. On a clean exit it writes what the block changed, key by key (set and removed), so
        that it never undoes what a child or another client wrote meanwhile; on an exception it writes nothing.

        Args:
            timeout: of each of the two operations.

        Raises:
            TaskNotFoundError: there is no task, or it is deleted.
            TypeError, ValueError: the payload holds no JSON any more; the message names the place.
        """
        limit = timeout_s(timeout)
        await self.ensure_task_loaded(timeout=timeout)
        marks = self._marks = self._marks if self._marks is not None else []
        depth = len(marks)
        marks.append(copy.deepcopy(self.payload))
        try:
            yield self.payload
            changes = changes_between(self._marks[depth], self.payload)
            if not changes.empty:
                await self._write(changes, limit)
        except BaseException:
            # What was not written is not shown as if it were.
            self._keep_payload(copy.deepcopy(self._marks[depth]))
            raise
        finally:
            del self._marks[depth:]

    async def param(self, path: str, default: object = ..., *, timeout: Seconds | None = None) -> JsonData:
        """A value of the payload by its path; without a loaded task only the top-level key it is in is read.

        Args:
            path: keys and list positions with dots between, such as "mathematic.input"; a top-level key that has dots
                itself is found too.
            default: for a path that leads nowhere; none given: KeyError.
            timeout: seconds or timedelta; None: the engine's patience.

        Raises:
            KeyError: the path leads nowhere, and there is no default.
            TaskNotFoundError: there is no task, or it is deleted.
        """
        return look_up(await self._payload_for([path], timeout), path, default)

    async def params(self, *paths: str, default: object = ..., timeout: Seconds | None = None) -> JsonData:
        """Several values of the payload: a dict by path; for a single path the value itself.

        Args:
            paths: see `param`; one at least.
            default: see `param`, for each of them.
            timeout: seconds or timedelta; None: the engine's patience.

        Raises:
            ValueError: no path.
            KeyError, TaskNotFoundError: see `param`.
        """
        if not paths:
            raise ValueError("params needs one path at least")
        payload = await self._payload_for(list(paths), timeout)
        values = {path: look_up(payload, path, default) for path in paths}
        return values if len(paths) > 1 else values[paths[0]]

    # -- children ---------------------------------------------------------------------------------------------------

    def child(
        self, wf: FlowLike, queue: str | None = None, retry: RetryLike | None = None, id_: str | None = None
    ) -> Child:
        """A child flow, to be `.run(*args)` or `.start(*args, payload=...)`.

        Args:
            wf: class, dotted path or type name.
            queue: to run it on; None: the class's, else `<name lower>-queue`.
            retry: RetryPolicy or mapping; None: one attempt.
            id_: the engine's id it shall have; None: one is made.

        Raises:
            TypeError, ValueError: no such flow, or another argument is none.

        Example:
            >>> result = await self.child("OtherFlow", queue="other").run()
        """
        return Child(wf, queue=queue, retry=retry, flow_id=id_)

    async def call_child(
        self,
        wf: FlowLike,
        *args: object,
        queue: str | None = None,
        retry: RetryLike | None = None,
        id_: str | None = None,
        timeout: Seconds | None = None,
    ) -> JsonData:
        """`child(wf, ...).run(*args)`: its result."""
        return await self.child(wf, queue, retry, id_).run(*args, timeout=timeout)

    async def start_child(
        self,
        wf: FlowLike,
        *args: object,
        payload: Mapping[str, JsonData] | None = None,
        status: str = "new",
        queue: str | None = None,
        retry: RetryLike | None = None,
        id_: str | None = None,
        timeout: Seconds | None = None,
    ) -> tuple[FlowHandle, str]:
        """`child(wf, ...).start(*args, payload=...)`: its handle and the uuid of its task."""
        return await self.child(wf, queue, retry, id_).start(*args, payload=payload, status=status, timeout=timeout)

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _write(self, changes: TaskChanges, limit: float | None) -> None:
        runtime = current_runtime()
        operation = PatchTask(runtime.info.task_id, runtime.next_op(), changes)
        reply = await runtime.operate(operation, timeout_s=limit)
        assert isinstance(reply, Written)
        for shown in [{} if self._payload is None else self._payload, *(self._marks or ())]:
            for key in changes.removed:
                shown.pop(key, None)
            shown.update(copy.deepcopy(changes.payload))
            if self._payload is None:
                self._payload = shown
        if self._task is not None:
            self._task = applied(self._task, changes, reply)

    def _keep_payload(self, payload: dict[str, JsonData]) -> None:
        """The dict that the user may hold stays the same one."""
        if self._payload is None:
            self._payload = payload
        else:
            self._payload.clear()
            self._payload.update(payload)

    async def _payload_for(self, paths: list[str], timeout: Seconds | None) -> Mapping[str, JsonData]:
        keys = top_keys(paths)
        if self._task is not None:
            return self.payload
        runtime = current_runtime()
        task = await runtime.operate(GetTask(runtime.info.task_id, keys), timeout_s=timeout_s(timeout))
        assert isinstance(task, TaskModel)
        if not task.exists:
            raise TaskNotFoundError.of(task.uuid, "it is deleted")
        return task.payload
