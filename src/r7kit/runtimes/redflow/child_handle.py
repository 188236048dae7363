"""The handle that a flow has of a child it started: waiting for the child's end is durable."""

from __future__ import annotations

import builtins
from collections.abc import Generator
from typing import Final

from r7kit.conversion import convert
from r7kit.runtime import ChildCall
from r7kit.runtimes.redflow.outcomes import named_cause
from redflow import WorkflowHandlerContext
from redflow.client import RedflowClient
from redflow.errors import CanceledError, RedflowError, TimeoutError, error_from_json
from redflow.types import JsonData

_LOOK_MS: Final = 1000
"""How long a look waits for the end, holding the flow's slot; a child that ends within it costs no sleep."""

_FIRST_SLEEP_MS: Final = 500
_LONGEST_SLEEP_MS: Final = 60_000


class ChildRunHandle:
    """A started child. `await handle.result()` or `await handle` waits for its end.

    A wait is a row of looks with durable sleeps between them: the flow holds no slot while its child works on, and is
    at most a minute late.

    Attributes:
        run_id: redflow's id of the run.
    """

    def __init__(
        self,
        flow_id: str,
        run_id: str,
        step: str,
        call: ChildCall,
        ctx: WorkflowHandlerContext[JsonData],
        client: RedflowClient,
        timeout_s: float | None,
    ) -> None:
        self.run_id = run_id
        self._flow_id = flow_id
        self._step = step
        self._call = call
        self._ctx = ctx
        self._client = client
        self._timeout_s = timeout_s
        self._looks = 0

    @property
    def id(self) -> str:
        """The id it was given, or the run's."""
        return self._flow_id

    async def result(self) -> JsonData:
        """Wait for the end; the child's result.

        Raises:
            RedflowError: it failed; the text names it.
            CanceledError: it was canceled.
        """
        sleep_ms, waited_ms = _FIRST_SLEEP_MS, 0
        while True:
            self._looks += 1
            seen = await self._ctx.step.run(f"{self._step}:look-{self._looks}", self._look)
            if "output" in seen:
                return convert(seen["output"], self._call.result_type)
            if "error" in seen:
                stored = error_from_json(seen["error"])
                if isinstance(stored, CanceledError):
                    raise CanceledError(f"child {self._call.flow_name} was canceled")
                failure = RedflowError(f"child {self._call.flow_name} failed: {stored}")
                failure.error = stored.error
                raise failure from named_cause(stored)
            if self._timeout_s is not None and waited_ms > self._timeout_s * 1000:
                raise builtins.TimeoutError(f"child {self._call.flow_name} did not end in time")
            await self._ctx.step.wait_for(f"{self._step}:wait-{self._looks}", sleep_ms)
            waited_ms += sleep_ms + _LOOK_MS
            sleep_ms = min(2 * sleep_ms, _LONGEST_SLEEP_MS)

    def __await__(self) -> Generator[JsonData, None, JsonData]:
        return self.result().__await__()

    async def _look(self) -> dict[str, JsonData]:
        try:
            return {"output": await self._client.wait_for_result(self.run_id, timeout_ms=_LOOK_MS)}
        except TimeoutError:
            return {}
        except CanceledError as error:
            return {"error": {"name": "CanceledError", "message": str(error), "kind": "canceled"}}
        except RedflowError as error:
            if error.error is None:
                raise  # not the child's failure
            return {"error": dict(error.error)}
