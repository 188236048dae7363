"""`redflow runs list`, `show`, `explain`, `failures`: look at runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Annotated, TypeVar

import typer

from redflow.cli import exits, output
from redflow.cli.asking import (
    After,
    Before,
    Cursor,
    Json,
    Limit,
    WithError,
    WithParent,
    WithQueue,
    WithStatus,
    WithText,
    WithWorkflow,
    ask,
    filters,
    time_of,
    told,
)
from redflow.cli.exits import Refused
from redflow.cli.options import Prefix, Url
from redflow.cli.texts import columns, cut, json_text, moment, pairs, safe, span
from redflow.client import RedflowClient
from redflow.errors import PayloadDecodeError, SerializedError
from redflow.types import AttemptTrace, ListedRun, RunExplanation, RunState, SearchRunsParams, StepState

T = TypeVar("T")

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run, as `redflow run` printed it.", show_default=False)]


def list_runs(
    status: WithStatus = None,
    workflow: WithWorkflow = None,
    queue: WithQueue = None,
    error: WithError = None,
    parent: WithParent = None,
    query: WithText = None,
    after: After = None,
    before: Before = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Oldest first.")] = False,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """List runs, newest first.

    Exit codes: 0 listed, 2 no server or a filter that makes no sense.
    """
    params = filters(
        status=status,
        workflow=workflow,
        queue=queue,
        error=error,
        parent=parent,
        query=query,
        after=after,
        before=before,
    )
    params = replace(params, cursor=cursor, limit=limit, sort="asc" if oldest_first else "desc")
    return ask(url, prefix, lambda client: _list(client, params, as_json))


async def _list(client: RedflowClient, params: SearchRunsParams, as_json: bool) -> int:
    found = await told(client.search_runs(params))
    if as_json:
        output.json_line(dict(found))
        return exits.OK
    rows = [_row(run) for run in found["runs"]]
    output.lines(columns(("ID", "STATUS", "WORKFLOW", "QUEUE", "ATTEMPT", "CREATED", "TOOK", "ERROR"), rows))
    output.next_page(found.get("next_cursor"))
    return exits.OK


def _row(run: ListedRun) -> Sequence[str]:
    started, finished = run.get("started_at"), run.get("finished_at")
    return (
        run["id"],
        run["status"],
        run["workflow"],
        run["queue"],
        f"{run['attempt']}/{run['max_attempts']}",
        moment(run["created_at"]),
        span(None if started is None or finished is None else finished - started),
        _brief(run.get("error"), 60),
    )


def _brief(error: SerializedError | None, width: int) -> str:
    return "" if error is None else cut(f"{error.get('name')}: {error.get('message')}", width)


def show(run_id: RunId, as_json: Json = False, url: Url = None, prefix: Prefix = None) -> int:
    """Show all of a run: its state, what it waits for, steps, attempts, input and output or error.

    Exit codes: 0 shown, 2 no server, or no run of that id.
    """
    return ask(url, prefix, lambda client: _show(client, run_id, as_json))


async def _show(client: RedflowClient, run_id: str, as_json: bool) -> int:
    run, (steps, remark), (attempts, other), explanation = await told(
        asyncio.gather(
            client.operate.inspect_run(run_id),
            _readable(client.get_run_steps(run_id)),
            _readable(client.get_run_attempts(run_id)),
            client.explain_run(run_id),
        )
    )
    if run is None or explanation is None:
        raise Refused(f"there is no run {run_id}")
    for reason in dict.fromkeys(filter(None, (run.get("input_error"), run.get("output_error"), remark, other))):
        output.notice(f"not all of it can be shown: {reason}", err=True)
    if as_json:
        output.json_line({"run": run, "steps": steps, "attempts": attempts, "explanation": explanation})
        return exits.OK
    output.lines([*_state(run, explanation), *_steps(steps), *_attempts(attempts), *_payloads(run)])
    return exits.OK


async def _readable(part: Awaitable[list[T]]) -> tuple[list[T], str]:
    """Steps or attempts; none, and why, if something in them can't be decrypted here."""
    try:
        return await part, ""
    except PayloadDecodeError as exc:
        return [], str(exc)


def _state(run: RunState, explanation: RunExplanation) -> Sequence[str]:
    values: dict[str, object] = {
        "id": run["id"],
        "workflow": run["workflow"],
        "queue": run["queue"],
        "status": run["status"],
        "why": explanation["reason"],
        "attempt": f"{run['attempt']} of {run['max_attempts']}",
        "created": moment(run["created_at"]),
        "started": moment(run["started_at"]) if "started_at" in run else None,
        "finished": moment(run["finished_at"]) if "finished_at" in run else None,
        "parent": run.get("parent_run_id"),
        "rerun of": run.get("rerun_of"),
        "priority": run.get("priority"),
        "cancel reason": run.get("cancel_reason"),
    }
    return pairs(values)


def _steps(steps: Sequence[StepState]) -> Sequence[str]:
    if not steps:
        return ()
    rows = [
        (
            str(step["seq"]),
            step["name"],
            step["status"],
            str(step["attempt"]),
            span(step["finished_at"] - step["started_at"] if "finished_at" in step else None),
            _brief(step["error"], 80) if "error" in step else cut(json_text(step.get("output")), 80),
        )
        for step in steps
    ]
    return ("", *columns(("STEP", "NAME", "STATUS", "ATTEMPT", "TOOK", "OUTPUT OR ERROR"), rows))


def _attempts(attempts: Sequence[AttemptTrace]) -> Sequence[str]:
    if not attempts:
        return ()
    rows = [
        (
            str(trace["attempt"]),
            trace["status"],
            moment(trace["started_at"]),
            span(trace["finished_at"] - trace["started_at"]),
            _brief(trace.get("error"), 80),
        )
        for trace in attempts
    ]
    return ("", *columns(("ATTEMPT", "STATUS", "STARTED", "TOOK", "ERROR"), rows))


def _payloads(run: RunState) -> Sequence[str]:
    told = [] if "input_error" in run else ["", "input", json_text(run["input"], indent=2)]
    if "output" in run and "output_error" not in run:
        told += ["output", json_text(run["output"], indent=2)]
    if "error" in run:
        told += ["error", json_text({key: value for key, value in run["error"].items() if key != "stack"}, indent=2)]
        told += [safe(line) for line in str(run["error"].get("stack", "")).splitlines()]
    return told


def explain(
    run_id: RunId,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: reason, status, waits_for ...")
    ] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Say in one sentence why a run is where it is: what it waits for, until when, and who is in its way.

    Exit codes: 0 explained, 2 no server, or no run of that id.
    """
    return ask(url, prefix, lambda client: _explain(client, run_id, as_json))


async def _explain(client: RedflowClient, run_id: str, as_json: bool) -> int:
    explanation = await told(client.explain_run(run_id))
    if explanation is None:
        raise Refused(f"there is no run {run_id}")
    if as_json:
        output.json_line(dict(explanation))
    else:
        output.line(safe(f"{explanation['workflow']}, {explanation['status']}: {explanation['reason']}"))
    return exits.OK


def failures(
    after: After = None,
    scan: Annotated[int, typer.Option(min=1, max=10_000, help="How many failed runs are looked at.")] = 2_000,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Group the newest failed runs by workflow and type of error, the largest group first.

    Exit codes: 0 grouped, 2 no server.
    """
    since = time_of(after, "--after")
    return ask(url, prefix, lambda client: _failures(client, since, scan, as_json))


async def _failures(client: RedflowClient, since: int | None, scan: int, as_json: bool) -> int:
    found = await told(client.operate.failure_groups(created_after=since, scan=scan))
    if as_json:
        output.json_line(dict(found))
        return exits.OK
    rows = [
        (
            str(group["count"]),
            group["workflow"],
            group["error"],
            moment(group["last_at"]),
            group["last_run_id"],
            cut(group["message"], 60),
        )
        for group in found["groups"]
    ]
    output.lines(columns(("RUNS", "WORKFLOW", "ERROR", "LAST", "LAST RUN", "MESSAGE"), rows))
    if found["truncated"]:
        output.notice(f"the newest {found['scanned']} failed runs; there are more: --scan", err=True)
    return exits.OK
