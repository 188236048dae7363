"""RunHandle: a run to look at and to wait for."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from redflow.types import JsonData, RunState

OutputT = TypeVar("OutputT", covariant=True)


class RunReader(Protocol):
    """What a handle needs of its client."""

    async def get_run(self, run_id: str) -> RunState | None:
        """One run."""
        ...

    async def wait_for_result(self, run_id: str, *, timeout_ms: float = 30_000) -> JsonData:
        """The output of a run."""
        ...


class RunHandle(Generic[OutputT]):
    """A run that was started. Two handles are equal if they mean the same run of the same client.

    Example:
        >>> handle = await send_invoice.run({"order": 17})
        >>> await handle.result(timeout_ms=5_000)
    """

    __slots__ = ("_client", "_id")

    def __init__(self, run_id: str, client: RunReader) -> None:
        self._id = run_id
        self._client = client

    @property
    def id(self) -> str:
        """The run's id, `run_<uuid>`."""
        return self._id

    async def get_state(self) -> RunState | None:
        """The run as it is now; None if there is no such run (any more)."""
        return await self._client.get_run(self._id)

    async def result(self, *, timeout_ms: float = 30_000) -> OutputT:
        """Wait for the run to end and return its output.

        Args:
            timeout_ms: the longest to wait, ms; 0 only looks.

        Raises:
            RedflowError: the run failed; its `error` attribute is the stored error. Or there is no such run.
            CanceledError: the run was canceled.
            TimeoutError: it has not ended in time; the run goes on.
        """
        output: OutputT = await self._client.wait_for_result(self._id, timeout_ms=timeout_ms)
        return output

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunHandle) and self._id == other._id and self._client is other._client

    def __hash__(self) -> int:
        return hash((self._id, id(self._client)))

    def __repr__(self) -> str:
        return f"<RunHandle {self._id}>"
