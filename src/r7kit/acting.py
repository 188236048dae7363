"""Calling activities in a flow."""

from __future__ import annotations

from r7kit.durations import Seconds, timeout_s
from r7kit.runtime import current_runtime
from redflow.domain.names import check_name
from redflow.types import JsonData


async def act(name: str, *args: object, timeout: Seconds | None = None, queue: str | None = None) -> JsonData:
    """Call an activity by its name in a running flow.

    Args:
        name: of a function under @activity, or of any activity that the engine knows.
        args: of the function.
        timeout: seconds or timedelta for one try; None: the engine's default.
        queue: of a worker that has the activity; None: the flow's own.

    Returns:
        What it returned, as JSON.

    Raises:
        RuntimeError: no flow is running here.
        TimeoutError: it took longer.
        Exception: it failed; ValueError, TypeError and r7kit's own errors arrive as themselves, others as the engine's.

    Example:
        >>> receipt = await act("charge", 100, timeout=30)
    """
    check_name(name, what="activity name")
    if queue is not None:
        check_name(queue, what="queue")
    return await current_runtime().call_activity(name, args, timeout_s=timeout_s(timeout), queue=queue)
