"""Runs: the list, its filters in the address, and what may be done with all that a filter finds."""

from __future__ import annotations

import time
from typing import Final, get_args

from redflow.dashboard.site import Asked, Page, Site
from redflow.domain.duration import resolve_delay_ms
from redflow.types import ALL_STATUSES, ListRunsParams, RunStatus, SearchRunsParams, SearchRunsResult

SIZES: Final = (25, 50, 100, 200)
SINCE: Final = ("15m", "1h", "24h", "7d", "30d")
_SCAN: Final = 1_000
"""Runs that one page looks at for a text, a queue or an error, which no index knows; the next page goes on there."""
_FILTERS: Final = ("status", "workflow", "queue", "parent", "q", "since", "until", "error", "sort", "size")


async def runs(site: Site, asked: Asked) -> Page:
    """The list of runs."""
    now = int(time.time() * 1000)
    params = filters_of(asked, now)
    wide = asked.text("cursor") is None
    found = await _find(site, params)
    metas = await site.client.list_workflows_meta()
    stats = await site.client.get_stats() if wide and not found["runs"] else None
    query = {name: asked.text(name) for name in _FILTERS if asked.text(name)}
    return Page(
        "Runs",
        "runs.html",
        {
            "found": found,
            "filters": query,
            "active": {name: value for name, value in query.items() if name not in ("sort", "size")},
            "statuses": ALL_STATUSES,
            "sizes": SIZES,
            "since": SINCE,
            "workflows": [meta["name"] for meta in metas],
            "queues": sorted({meta["queue"] for meta in metas}),
            "size": params.limit,
            "cursor": asked.text("cursor"),
            "nothing_at_all": stats is not None and not stats["total"],
        },
        "runs",
    )


def filters_of(asked: Asked, now: int) -> SearchRunsParams:
    """What the address asks for.

    Raises:
        ValueError: a filter makes no sense; the text names it.
    """
    status, size, sort = asked.text("status"), asked.text("size"), asked.text("sort")
    if status is not None and status not in ALL_STATUSES:
        raise ValueError(f"status must be one of {', '.join(ALL_STATUSES)}, got {status!r:.100}")
    if size is not None and not (size.isascii() and size.isdecimal() and 1 <= int(size[:9]) <= SIZES[-1]):
        raise ValueError(f"size must be a number from 1 to {SIZES[-1]}, got {size!r:.100}")
    return SearchRunsParams(
        status=_status(status),
        workflow=asked.text("workflow"),
        queue=asked.text("queue"),
        parent_run_id=asked.text("parent"),
        query=asked.text("q"),
        created_after=_ago(asked, "since", now),
        created_before=_ago(asked, "until", now),
        cursor=asked.text("cursor"),
        limit=SIZES[1] if size is None else int(size),
        sort="asc" if sort == "asc" else "desc",
        error=asked.text("error"),
        scan=_SCAN,
    )


def _status(text: str | None) -> RunStatus | None:
    return next((status for status in get_args(RunStatus) if status == text), None)


def _ago(asked: Asked, name: str, now: int) -> int | None:
    """A time in the address: a length of time before now (1h), or epoch ms."""
    text = asked.text(name)
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) >= 11:
        return int(text[:15])
    try:
        return now - resolve_delay_ms(text, now_ms=now, label=name)
    except ValueError as exc:
        raise ValueError(f"{name} must be a length of time such as 15m, 24h or 7d, got {text!r:.100}") from exc


async def _find(site: Site, params: SearchRunsParams) -> SearchRunsResult:
    looks = (
        params.queue,
        params.parent_run_id,
        params.query,
        params.created_after,
        params.created_before,
        params.error,
    )
    if any(value is not None for value in looks):
        return await site.client.search_runs(params)
    # One more than is shown tells whether there are more.
    asked = ListRunsParams(params.status, params.workflow, params.cursor, params.limit + 1, params.sort)
    listed = await site.client.list_runs(asked)
    found: SearchRunsResult = {"runs": listed[: params.limit], "scanned": len(listed)}
    if len(listed) > params.limit:
        found["next_cursor"] = listed[params.limit - 1]["id"]
    return found
