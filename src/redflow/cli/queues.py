"""`redflow queues` and `redflow workflows`: lists, pause and resume."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.asking import Cursor, Json, Limit, Reason, ask, told
from redflow.cli.options import Prefix, Url
from redflow.cli.texts import columns, span
from redflow.client import RedflowClient
from redflow.types import Pause

Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help="The queue as it is listed: app:queue.", show_default=False)
]
Workflow = Annotated[str, typer.Argument(metavar="NAME", help="The workflow.", show_default=False)]


def list_queues(
    limit: Limit = 50, cursor: Cursor = None, as_json: Json = False, url: Url = None, prefix: Prefix = None
) -> int:
    """List queues: how many runs wait, since when, who serves them, and whether they are paused.

    Exit codes: 0 listed, 2 no server.
    """

    async def question(client: RedflowClient) -> int:
        page = await told(client.queues.list(cursor=cursor, limit=limit))
        if as_json:
            output.json_line(dict(page))
            return exits.OK
        rows = [
            (
                queue["queue"],
                str(queue["waiting"]),
                str(queue["set_aside"]),
                span(queue.get("oldest_waiting_ms")),
                str(queue["workers"]),
                str(queue["slots"]),
                _pause(queue.get("paused")),
                ", ".join(queue["workflows"]),
            )
            for queue in page["queues"]
        ]
        heads = ("QUEUE", "WAITING", "SET ASIDE", "OLDEST", "WORKERS", "SLOTS", "PAUSED", "WORKFLOWS")
        output.lines(columns(heads, rows))
        output.next_page(page.get("next_cursor"))
        return exits.OK

    return ask(url, prefix, question)


def pause_queue(
    queue: Queue, reason: Reason = "", as_json: Json = False, url: Url = None, prefix: Prefix = None
) -> int:
    """Let no run of a queue start until it is resumed; what runs goes on.

    Exit codes: 0 it is paused, 2 no server, or no such queue.
    """

    async def question(client: RedflowClient) -> int:
        output.changed("name", queue, "paused", await told(client.queues.pause(queue, reason=reason)), as_json)
        return exits.OK

    return ask(url, prefix, question)


def resume_queue(queue: Queue, as_json: Json = False, url: Url = None, prefix: Prefix = None) -> int:
    """Let the runs of a paused queue start again.

    Exit codes: 0 it is not paused, 2 no server, or no such queue.
    """

    async def question(client: RedflowClient) -> int:
        output.changed("name", queue, "resumed", await told(client.queues.resume(queue)), as_json)
        return exits.OK

    return ask(url, prefix, question)


def list_workflows(
    limit: Limit = 50, cursor: Cursor = None, as_json: Json = False, url: Url = None, prefix: Prefix = None
) -> int:
    """List registered workflows with their runs by status.

    Exit codes: 0 listed, 2 no server.
    """

    async def question(client: RedflowClient) -> int:
        page = await told(client.workflows.list(cursor=cursor, limit=limit))
        if as_json:
            output.json_line(dict(page))
            return exits.OK
        rows = [
            (
                info["name"],
                info["queue"],
                *(str(count) for count in info["by_status"].values()),
                "-" if info["max_concurrency"] is None else str(info["max_concurrency"]),
                _pause(info.get("paused")),
            )
            for info in page["workflows"]
        ]
        statuses = ("SCHEDULED", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED")
        output.lines(columns(("NAME", "QUEUE", *statuses, "LIMIT", "PAUSED"), rows))
        output.next_page(page.get("next_cursor"))
        return exits.OK

    return ask(url, prefix, question)


def pause_workflow(
    name: Workflow, reason: Reason = "", as_json: Json = False, url: Url = None, prefix: Prefix = None
) -> int:
    """Let no run of a workflow start until it is resumed; what runs goes on.

    Exit codes: 0 it is paused, 2 no server, or no such workflow.
    """

    async def question(client: RedflowClient) -> int:
        output.changed("name", name, "paused", await told(client.workflows.pause(name, reason=reason)), as_json)
        return exits.OK

    return ask(url, prefix, question)


def resume_workflow(name: Workflow, as_json: Json = False, url: Url = None, prefix: Prefix = None) -> int:
    """Let the runs of a paused workflow start again.

    Exit codes: 0 it is not paused, 2 no server, or no such workflow.
    """

    async def question(client: RedflowClient) -> int:
        output.changed("name", name, "resumed", await told(client.workflows.resume(name)), as_json)
        return exits.OK

    return ask(url, prefix, question)


def _pause(pause: Pause | None) -> str:
    if pause is None:
        return "-"
    since = span(max(0, int(time.time() * 1000) - pause["since"]))
    return f"{since} ({pause['reason']})" if "reason" in pause else since
