"""Health: what the doctor says about the server."""

from __future__ import annotations

from redflow.dashboard.site import Asked, Page, Site


async def health(site: Site, asked: Asked) -> Page:
    """The doctor's report."""
    stats = await site.client.get_stats()
    report = await site.client.doctor()
    context: dict[str, object] = {"report": report, "stats": stats, "shards": site.client.shards}
    return Page("Health", "health.html", context, "health")
