"""The handle of a started child, with the same face as a client's."""

from __future__ import annotations

from collections.abc import Generator

from temporalio.workflow import ChildWorkflowHandle

from redflow.types import JsonData


class ChildHandle:
    """A child flow that was started by a flow. `await handle.result()` or `await handle` waits for its end.

    Attributes:
        temporal: Temporal's own handle.
    """

    def __init__(self, handle: ChildWorkflowHandle[JsonData, JsonData]) -> None:
        self.temporal = handle

    @property
    def id(self) -> str:
        """The workflow id."""
        return self.temporal.id

    async def result(self) -> JsonData:
        """Wait for the end; the child's result, or Temporal's ChildWorkflowError if it failed."""
        return await self.temporal

    async def signal(self, signal: str, *args: object) -> None:
        """Send a signal.

        Args:
            signal: its name.
            args: of its handler.
        """
        await self.temporal.signal(signal, args=list(args))

    def __await__(self) -> Generator[JsonData, None, JsonData]:
        return self.temporal.__await__()
