"""`redflow workers`: who lives and what they serve; drain and resume."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.asking import Cursor, Json, Limit, ask, told
from redflow.cli.options import Prefix, Url
from redflow.cli.texts import columns, moment, span
from redflow.client import RedflowClient
from redflow.types import WorkerInfo

WorkerId = Annotated[str, typer.Argument(metavar="ID", help="The worker, as it is listed.", show_default=False)]


def list_workers(
    limit: Limit = 50, cursor: Cursor = None, as_json: Json = False, url: Url = None, prefix: Prefix = None
) -> int:
    """List live workers: what they serve, how many runs they hold, and where they are.

    Exit codes: 0 listed, 2 no server.
    """

    async def question(client: RedflowClient) -> int:
        page = await told(client.workers.list(cursor=cursor, limit=limit))
        if as_json:
            output.json_line(dict(page))
            return exits.OK
        heads = ("ID", "APP", "RUNNING", "QUEUES", "WORKFLOWS", "HOST", "PID", "VERSION", "STARTED", "HEARD", "STATE")
        output.lines(columns(heads, [_row(info) for info in page["workers"]]))
        output.next_page(page.get("next_cursor"))
        return exits.OK

    return ask(url, prefix, question)


def _row(info: WorkerInfo) -> tuple[str, ...]:
    heard = info.get("heartbeat_at")
    return (
        info["id"],
        info["app"],
        f"{info['running']}/{info['concurrency']}",
        ", ".join(info["queues"]),
        ", ".join(info["workflows"]),
        info.get("host", "-"),
        str(info.get("pid", "-")),
        info.get("version", "-"),
        moment(info["started_at"]),
        "-" if heard is None else f"{span(max(0, int(time.time() * 1000) - heard))} ago",
        "claims" if "draining" not in info else "drained" if info["running"] == 0 else "draining",
    )


def drain(
    worker_id: WorkerId,
    stop: Annotated[
        bool, typer.Option("--stop", help="Its process ends with its last run, if `redflow worker` runs it.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Have a worker claim nothing more; what it runs goes on to its end.

    Exit codes: 0 it was told, 2 no server, or no live worker of that id.
    """

    async def question(client: RedflowClient) -> int:
        await told(client.workers.drain(worker_id, then="stop" if stop else "idle"))
        return _answer(worker_id, "drains", as_json)

    return ask(url, prefix, question)


def resume(worker_id: WorkerId, as_json: Json = False, url: Url = None, prefix: Prefix = None) -> int:
    """Have a drained worker claim again.

    Exit codes: 0 it was told, 2 no server, or no live worker of that id.
    """

    async def question(client: RedflowClient) -> int:
        await told(client.workers.resume(worker_id))
        return _answer(worker_id, "claims", as_json)

    return ask(url, prefix, question)


def _answer(worker_id: str, what: str, as_json: bool) -> int:
    if as_json:
        output.json_line({"id": worker_id, what: True})
    else:
        output.line(f"{worker_id}: {what}")
    return exits.OK
