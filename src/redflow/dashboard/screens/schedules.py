"""Schedules: the cron triggers of all workflows, and what became of their ticks."""

from __future__ import annotations

from redflow.dashboard.site import Asked, Page, Site


async def schedules(site: Site, asked: Asked) -> Page:
    """All cron triggers."""
    found = await site.client.schedules.list(
        workflow=asked.text("workflow"), cursor=asked.text("cursor"), limit=100, upcoming=3
    )
    context: dict[str, object] = {"schedules": found["schedules"], "next": found.get("next_cursor")}
    return Page("Schedules", "schedules.html", context, "schedules")
