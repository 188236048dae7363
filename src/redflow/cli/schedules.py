"""`redflow schedules`: cron triggers with their next times; pause, resume, fire."""

from __future__ import annotations

from typing import Annotated

import typer

from redflow.cli import exits, output
from redflow.cli.asking import Cursor, Json, Limit, Reason, ask, told
from redflow.cli.options import Prefix, Url
from redflow.cli.texts import columns, moment
from redflow.client import RedflowClient
from redflow.types import ScheduleInfo

ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule, as it is listed.", show_default=False)]


def list_schedules(
    workflow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those of this workflow.", show_default=False)
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    upcoming: Annotated[int, typer.Option(min=0, max=100, help="How many of the next times, in JSON.")] = 3,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """List schedules with their next time and what became of their ticks.

    Exit codes: 0 listed, 2 no server.
    """

    async def question(client: RedflowClient) -> int:
        asked = client.schedules.list(
            workflow=workflow, cursor=cursor, limit=limit, upcoming=upcoming if as_json else 1
        )
        page = await told(asked)
        if as_json:
            output.json_line(dict(page))
            return exits.OK
        heads = ("ID", "WORKFLOW", "EXPRESSION", "TIMEZONE", "NEXT", "LAST", "SKIPPED", "MISSED")
        output.lines(columns(heads, [_row(info) for info in page["schedules"]]))
        output.next_page(page.get("next_cursor"))
        return exits.OK

    return ask(url, prefix, question)


def _row(info: ScheduleInfo) -> tuple[str, ...]:
    paused = info.get("paused")
    following = moment(info["upcoming"][0]) if info["upcoming"] else "never"
    if paused is not None:
        following = f"paused ({paused['reason']})" if "reason" in paused else "paused"
    return (
        info["id"],
        info["workflow"],
        info["expression"],
        info["timezone"],
        following,
        moment(info.get("last_run_at")),
        str(info["skipped"]),
        str(info["missed"]),
    )


def pause(
    schedule_id: ScheduleId, reason: Reason = "", as_json: Json = False, url: Url = None, prefix: Prefix = None
) -> int:
    """Let a schedule fire no more until it is resumed, also when its workflow is deployed again.

    Exit codes: 0 it is paused, 2 no server, or no such schedule.
    """

    async def question(client: RedflowClient) -> int:
        output.changed(
            "id", schedule_id, "paused", await told(client.schedules.pause(schedule_id, reason=reason)), as_json
        )
        return exits.OK

    return ask(url, prefix, question)


def resume(schedule_id: ScheduleId, as_json: Json = False, url: Url = None, prefix: Prefix = None) -> int:
    """Let a paused schedule fire again, from its next time on.

    Exit codes: 0 it is not paused, 2 no server, or no such schedule.
    """

    async def question(client: RedflowClient) -> int:
        output.changed("id", schedule_id, "resumed", await told(client.schedules.resume(schedule_id)), as_json)
        return exits.OK

    return ask(url, prefix, question)


def fire(schedule_id: ScheduleId, as_json: Json = False, url: Url = None, prefix: Prefix = None) -> int:
    """Start a run as the schedule's next tick would, now, and print its id.

    Exit codes: 0 started, 2 no server, or no such schedule.
    """

    async def question(client: RedflowClient) -> int:
        handle = await told(client.schedules.fire(schedule_id))
        if as_json:
            output.json_line({"id": handle.id, "schedule": schedule_id})
        else:
            output.line(handle.id)
        return exits.OK

    return ask(url, prefix, question)
