"""Events: what was emitted, who got it, and a form that emits one."""

from __future__ import annotations

from typing import get_args

from redflow.dashboard.site import Asked, Missing, Page, Site
from redflow.types import EventFanoutStatus, ListEventsParams

_SIZE = 50


async def events(site: Site, asked: Asked) -> Page:
    """The list of events, and the form."""
    fanout = asked.text("fanout")
    statuses = get_args(EventFanoutStatus)
    if fanout is not None and fanout not in statuses:
        raise ValueError(f"fanout must be one of {', '.join(statuses)}, got {fanout!r:.100}")
    params = ListEventsParams(
        name=asked.text("name"),
        cursor=asked.text("cursor"),
        fanout_status=next((status for status in statuses if status == fanout), None),
        limit=_SIZE + 1,
    )
    found = await site.client.list_events(params)
    definitions = await site.client.list_event_definitions()
    query = {name: asked.text(name) for name in ("name", "fanout") if asked.text(name)}
    return Page(
        "Events",
        "events.html",
        {
            "events": found[:_SIZE],
            "next": found[_SIZE - 1]["id"] if len(found) > _SIZE else None,
            "definitions": definitions,
            "filters": query,
            "statuses": statuses,
            "cursor": asked.text("cursor"),
        },
        "events",
    )


async def event(site: Site, asked: Asked) -> Page:
    """One event: its data, deliveries, and the runs it woke."""
    event_id = asked.exact("id")
    record = await site.client.get_event(event_id)
    if record is None:
        raise Missing(f"There is no event {event_id}; perhaps its retention is over.")
    return Page(f"Event {record['name']}", "event.html", {"event": record}, "events")
