"""Workers and queues: who serves what, and how long the lines are."""

from __future__ import annotations

import asyncio

from redflow.dashboard.site import Asked, Page, Site


async def workers(site: Site, asked: Asked) -> Page:
    """The live workers, and the queues."""
    at, line = asked.text("cursor"), asked.text("queues")
    found, queues = await asyncio.gather(
        site.client.workers.list(cursor=at, limit=100), site.client.queues.list(cursor=line, limit=100)
    )
    context: dict[str, object] = {
        "workers": found["workers"],
        "next": found.get("next_cursor"),
        "queues": queues["queues"],
        "next_queues": queues.get("next_cursor"),
        "waiting": sum(queue["waiting"] for queue in queues["queues"]),
    }
    return Page("Workers", "workers.html", context, "workers")
