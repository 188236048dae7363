"""StatefulWorkflow: a flow whose payload is its state."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.durations import Seconds, timeout_s
from r7kit.operations import changes_between, check_patch
from redflow.types import JsonData


class StatefulWorkflow(BaseTaskWorkflow):
    """A flow that loads its payload as state, changes it at will, and saves what changed.

    Example:
        >>> class Counter(StatefulWorkflow):
        ...     async def handle(self) -> int:
        ...         state = await self.load_state()
        ...         state["count"] = state.get("count", 0) + 1
        ...         await self.save_state()
        ...         return state["count"]
    """

    _saved: dict[str, JsonData] | None = None

    async def load_state(self, *, timeout: Seconds | None = None) -> dict[str, JsonData]:
        """Load the task; its payload, which is `self.payload` as well.

        Raises:
            TaskNotFoundError: there is no task, or it is deleted.
        """
        await self.load_task(timeout=timeout)
        self._saved = copy.deepcopy(self.payload)
        return self.payload

    async def save_state(self, *, timeout: Seconds | None = None) -> None:
        """Write what changed in the state since it was loaded or saved, key by key; nothing if nothing did.

        Raises:
            RuntimeError: it has not been loaded.
            TaskNotFoundError: there is no task, or it is deleted.
            TypeError, ValueError: the state holds no JSON any more; the message names the place.
        """
        if self._saved is None:
            raise RuntimeError("the state is not loaded: await self.load_state() first")
        changes = changes_between(self._saved, self.payload)
        if not changes.empty:
            await self._write(changes, timeout_s(timeout))
        self._saved = copy.deepcopy(self.payload)

    async def update_state(
        self, changes: Mapping[str, JsonData] | None = None, /, *, timeout: Seconds | None = None, **more: object
    ) -> dict[str, JsonData]:
        """Set keys of the state and write them at once; what else changed stays to be saved.

        Args:
            changes: keys and values.
            timeout: seconds or timedelta; None: the engine's patience.
            more: further ones.

        Returns:
            The whole state, loaded if it was not.

        Raises:
            ValueError: there is nothing to set.
            TaskNotFoundError: there is no task, or it is deleted.
        """
        merged = {**(changes or {}), **more}
        if not merged:
            raise ValueError("update_state needs a key to set")
        patch = check_patch({"payload": merged})
        if self._saved is None:
            await self.load_state(timeout=timeout)
        await self._write(patch, timeout_s(timeout))
        if self._saved is not None:
            self._saved.update(copy.deepcopy(patch.payload))
        return self.payload
