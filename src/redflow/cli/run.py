"""`redflow run`: start a run, and wait for its result if asked to."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.asking import read_input
from redflow.cli.exits import Refused, refusals
from redflow.cli.options import Prefix, Url, open_client
from redflow.client import RedflowClient
from redflow.errors import CanceledError, RedflowError, TimeoutError
from redflow.handle import RunHandle
from redflow.types import JsonData


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The workflow, as it is registered by its worker.", show_default=False)
    ],
    input: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The input. Default: {}")] = None,
    input_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file with the input as JSON; - is the standard input.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the output.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --wait: seconds to wait at most. Default: no limit")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same run, for 7 days, unless that failed.")
    ] = None,
    run_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Not before this time: 2030-01-31T08:00 (local) or ...Z (UTC).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: id, status, output or error.")
    ] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Start a run of the workflow NAME and print its id; with --wait also its output.

    Exit codes: 0 started or succeeded, 1 the run failed, 2 not started (no server, no such workflow, bad input),
    3 the run was canceled, 4 it has not ended in time and goes on.
    """
    if timeout is not None and not wait:
        raise Refused("--timeout says how long to --wait")
    given = read_input(input, input_file)
    value = given[0] if given else {}
    at = _read_time(run_at)
    timeout_s = None if not wait else math.inf if timeout is None else timeout
    return asyncio.run(_run(open_client(url, prefix), name, value, idempotency_key, at, timeout_s, as_json))


async def _run(
    client: RedflowClient,
    name: str,
    value: JsonData,
    key: str | None,
    at: datetime | None,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    try:
        with refusals():
            handle = await client.emit_workflow(name, value, idempotency_key=key, run_at=at)
        if timeout_s is not None:
            return await _wait(handle, timeout_s, as_json)
        if as_json:
            output.json_line({"id": handle.id})
        else:
            output.line(handle.id)
        return exits.OK
    finally:
        await client.close()


async def _wait(handle: RunHandle[JsonData], timeout_s: float, as_json: bool) -> int:
    if not as_json:
        output.line(handle.id)
    try:
        value = await handle.result(timeout_ms=timeout_s * 1000)
    except CanceledError as exc:
        return _canceled(handle.id, exc, as_json)
    except TimeoutError:
        return await _lasts(handle, timeout_s, as_json)
    except RedflowError as exc:
        if exc.error is None:  # not the run's error, but one of ours on the way to it
            with refusals():
                raise
        return _failed(handle.id, dict(exc.error), as_json)
    if as_json:
        output.json_line({"id": handle.id, "status": "succeeded", "output": value})
    else:
        output.run_output(value)
    return exits.OK


def _failed(run_id: str, error: dict[str, JsonData], as_json: bool) -> int:
    if as_json:
        output.json_line({"id": run_id, "status": "failed", "error": error})
    else:
        output.run_failed(run_id, error)
    return exits.RUN_FAILED


def _canceled(run_id: str, exc: CanceledError, as_json: bool) -> int:
    if as_json:
        output.json_line({"id": run_id, "status": "canceled", "reason": str(exc)})
    else:
        output.run_canceled(run_id, str(exc))
    return exits.RUN_CANCELED


async def _lasts(handle: RunHandle[JsonData], timeout_s: float, as_json: bool) -> int:
    if as_json:
        with refusals():
            state = await handle.get_state()
        output.json_line({"id": handle.id, "status": None if state is None else state["status"]})
    else:
        output.run_lasts(handle.id, timeout_s)
    return exits.RUN_LASTS


def _read_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as exc:
        raise Refused(f"--run-at must be a time such as 2030-01-31T08:00 or 2030-01-31T08:00Z, got {text!r}") from exc
