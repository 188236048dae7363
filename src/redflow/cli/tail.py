"""`redflow runs tail`: follow a run to its end, a line for whatever happens."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Final

import typer

from redflow.cli import exits, output
from redflow.cli.asking import ask, told
from redflow.cli.exits import Refused
from redflow.cli.options import Prefix, Url
from redflow.cli.runs import RunId
from redflow.cli.texts import cut, json_text, moment, safe
from redflow.client import RedflowClient
from redflow.errors import RedflowError
from redflow.types import JsonData, RunState, StepState

_LOOK_S: Final = 0.25
_ENDS: Final = {"succeeded": exits.OK, "failed": exits.RUN_FAILED, "canceled": exits.RUN_CANCELED}


def tail(
    run_id: RunId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to follow at most. Default: no limit")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Follow a run until it has ended: a line for each change of its status and for each step that begins or ends.

    Exit codes: 0 it succeeded, 1 it failed, 2 no server, or no run of that id, 3 it was canceled, 4 it has not ended in
    time and goes on, 130 Ctrl-C.
    """
    return ask(url, prefix, lambda client: _Tail(client, run_id, as_json).follow(timeout))


class _Tail:
    """What was printed of a run so far."""

    def __init__(self, client: RedflowClient, run_id: str, as_json: bool) -> None:
        self._client = client
        self._run_id = run_id
        self._as_json = as_json
        self._seen: set[tuple[object, ...]] = set()

    async def follow(self, timeout_s: float | None) -> int:
        """Print what happens until the end; the exit code."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        ending = asyncio.create_task(self._end())
        try:
            while True:
                run, steps = await told(
                    asyncio.gather(self._client.get_run(self._run_id), self._client.get_run_steps(self._run_id))
                )
                if run is None:
                    raise Refused(f"there is no run {self._run_id}")
                self._tell(run, steps)
                if run["status"] in _ENDS:
                    return _ENDS[run["status"]]
                if deadline is not None and time.monotonic() >= deadline:
                    if not self._as_json:
                        output.run_lasts(self._run_id, timeout_s or 0)
                    return exits.RUN_LASTS
                await asyncio.wait({ending}, timeout=_LOOK_S)
                if ending.done():  # it ended by another way: look again, but don't turn in circles
                    await asyncio.sleep(0.01)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _end(self) -> None:
        """Returns when the run has ended, however."""
        try:
            await self._client.wait_for_result(self._run_id, timeout_ms=float("inf"))
        except RedflowError:
            return

    def _tell(self, run: RunState, steps: list[StepState]) -> None:
        events: list[tuple[int, dict[str, JsonData]]] = []
        for step in steps:
            about = {"step": step["name"], "attempt": step["attempt"]}
            events.append((step["started_at"], {**about, "status": "running"}))
            if "finished_at" in step:
                more = {key: value for key, value in step.items() if key in ("output", "error", "child_run_id")}
                events.append((step["finished_at"], {**about, "status": step["status"], **more}))
        self._print(sorted(events, key=lambda event: event[0]))
        at = run.get("finished_at", run.get("available_at", run.get("started_at", run["created_at"])))
        state: dict[str, JsonData] = {"status": run["status"], "attempt": run["attempt"]}
        state |= {key: value for key, value in run.items() if key in ("output", "error", "cancel_reason")}
        self._print([(at, state)])

    def _print(self, events: list[tuple[int, dict[str, JsonData]]]) -> None:
        for at, event in events:
            mark = (event.get("step"), event["attempt"], event["status"], at if "step" in event else None)
            if mark in self._seen:
                continue
            self._seen.add(mark)
            if self._as_json:
                output.json_line({"at": at, **event})
            else:
                output.line(_line(at, event))


def _line(at: int, event: dict[str, JsonData]) -> str:
    what = f"step {event['step']}" if "step" in event else "run"
    more = ""
    error = event.get("error")
    if isinstance(error, dict):
        more = "  " + cut(f"{error.get('name')}: {error.get('message')}", 100)
    elif "output" in event:
        more = f"  {cut(json_text(event['output']), 100)}"
    elif event.get("cancel_reason"):
        more = f"  {cut(str(event['cancel_reason']), 100)}"
    return f"{moment(at)}  {safe(what)}  {event['status']} (attempt {event['attempt']}){more}"
