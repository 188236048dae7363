"""`redflow events`: list, show and emit events."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

from redflow.cli import exits, output
from redflow.cli.asking import Cursor, InputFile, InputText, Json, Limit, ask, read_input, told
from redflow.cli.exits import Refused
from redflow.cli.options import Prefix, Url
from redflow.cli.texts import columns, json_text, moment, pairs
from redflow.client import RedflowClient
from redflow.types import EventFanoutStatus, EventRecord, JsonData, ListEventsParams


class Fanout(StrEnum):
    """Where the delivery of an event stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    NONE = "no-subscribers"


_FANOUTS: Final[dict[Fanout, EventFanoutStatus]] = {
    Fanout.PENDING: "pending",
    Fanout.COMPLETED: "completed",
    Fanout.PARTIAL: "partial",
    Fanout.FAILED: "failed",
    Fanout.NONE: "no-subscribers",
}


def list_events(
    name: Annotated[str | None, typer.Option(help="Only events of this name.", show_default=False)] = None,
    status: Annotated[
        Fanout | None, typer.Option(help="Only events whose delivery stands there.", show_default=False)
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """List events, newest first. The cursor is the id of the last event of the page before.

    Exit codes: 0 listed, 2 no server.
    """
    wanted = None if status is None else _FANOUTS[status]
    params = ListEventsParams(name=name, fanout_status=wanted, limit=limit, cursor=cursor)
    return ask(url, prefix, lambda client: _list(client, params, as_json))


async def _list(client: RedflowClient, params: ListEventsParams, as_json: bool) -> int:
    events = await told(client.list_events(params))
    if as_json:
        page: dict[str, JsonData] = {"events": events}
        if len(events) == params.limit:
            page["next_cursor"] = events[-1]["id"]
        output.json_line(page)
        return exits.OK
    rows = [
        (
            event["id"],
            event["name"],
            event.get("correlation_key", "-"),
            event["fanout_status"],
            f"{event['delivery_count']}/{event['subscriber_count']}",
            str(event["resumed_run_count"]),
            moment(event["ts"]),
        )
        for event in events
    ]
    output.lines(columns(("ID", "NAME", "KEY", "STATUS", "DELIVERED", "RESUMED", "AT"), rows))
    if len(events) == params.limit:
        output.next_page(events[-1]["id"])
    return exits.OK


def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event.", show_default=False)],
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Show an event: its data, its deliveries with the runs they started, and the runs that it woke.

    Exit codes: 0 shown, 2 no server, or no event of that id.
    """
    return ask(url, prefix, lambda client: _show(client, event_id, as_json))


async def _show(client: RedflowClient, event_id: str, as_json: bool) -> int:
    event = await told(client.get_event(event_id))
    if event is None:
        raise Refused(f"there is no event {event_id}")
    if as_json:
        output.json_line(dict(event))
    else:
        output.lines(_described(event))
    return exits.OK


def _described(event: EventRecord) -> list[str]:
    head: dict[str, object] = {
        "id": event["id"],
        "name": event["name"],
        "key": event.get("correlation_key"),
        "status": event["fanout_status"],
        "at": moment(event["ts"]),
        "parent": event.get("parent_run_id"),
    }
    shown = pairs(head)
    if event["deliveries"]:
        rows = [
            (delivery["workflow"], delivery["queue"], delivery["status"], delivery.get("run_id", "-"))
            for delivery in event["deliveries"]
        ]
        shown += ["", *columns(("WORKFLOW", "QUEUE", "STATUS", "RUN"), rows)]
    if event["resumed_run_ids"]:
        shown += ["", "RESUMED RUNS", *event["resumed_run_ids"]]
    return [*shown, "", "data", json_text(event["data"], indent=2)]


def emit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name.", show_default=False)],
    input: InputText = None,
    input_file: InputFile = None,
    key: Annotated[str | None, typer.Option(help="Wakes the runs that wait for this key.", show_default=False)] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="An id of your own; the same one twice is one event.", show_default=False)
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same event, for 7 days.", show_default=False)
    ] = None,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Emit an event; its data is --input, {} without. Prints its id, the runs it started and those it woke.

    Exit codes: 0 emitted, 2 refused.
    """
    given = read_input(input, input_file)
    data = given[0] if given else {}
    return ask(url, prefix, lambda client: _emit(client, name, data, (key, event_id, idempotency_key), as_json))


async def _emit(
    client: RedflowClient,
    name: str,
    data: JsonData,
    keys: tuple[str | None, str | None, str | None],
    as_json: bool,
) -> int:
    key, event_id, idempotency_key = keys
    emitted = await told(
        client.emit_event_detailed(name, data, correlation_key=key, event_id=event_id, idempotency_key=idempotency_key)
    )
    started = [handle.id for handle in emitted["handles"]]
    if as_json:
        output.json_line(
            {"event_id": emitted["event_id"], "run_ids": started, "resumed_run_ids": emitted["resumed_run_ids"]}
        )
        return exits.OK
    output.lines(pairs({"event": emitted["event_id"]}))
    output.lines(pairs({f"started {n}": run for n, run in enumerate(started, 1)}))
    output.lines(pairs({f"resumed {n}": run for n, run in enumerate(emitted["resumed_run_ids"], 1)}))
    return exits.OK
