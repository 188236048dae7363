"""Overview: is anything wrong, and where. Each figure links to what it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from redflow.dashboard import charts
from redflow.dashboard.site import Asked, Page, Site
from redflow.dashboard.text import duration, iso
from redflow.errors import NotSupportedError, RedflowError
from redflow.types import ALL_STATUSES, ListRunsParams, RunBucket, RunStatus

T = TypeVar("T")

SPANS: Final = {
    "1h": (3_600_000, (60, 30, 12, 6)),
    "24h": (86_400_000, (48, 24, 12, 6)),
    "7d": (604_800_000, (56, 28, 14, 7)),
}
"""Lengths of the history that can be asked for: ms, and into how many parts each may be cut."""

_MOST_COUNTS: Final = 6_000
"""Ranges that are counted for one page: one for each part, workflow and status."""

_NAMES: Final = {"1h": "hour", "24h": "24 hours", "7d": "7 days"}
_QUEUES: Final = 20
_SCAN: Final = 1_000


async def overview(site: Site, asked: Asked) -> Page:
    """The state of everything on one page."""
    client = site.client
    span = asked.text("span") if asked.text("span") in SPANS else "1h"
    assert span is not None
    length, choices = SPANS[span]
    parts = parts_of(choices, len(await client.list_workflows()))
    grain = length // parts
    # On whole parts of the clock: a bar keeps its runs, and the page its look until the next part begins.
    end = (int(time.time() * 1000) // grain + 1) * grain
    stats = await client.get_stats()
    if not stats["total"]:
        metas = await client.list_workflows_meta()
        return Page("Overview", "welcome.html", {"workflows": [meta["name"] for meta in metas]}, "overview")
    history, groups, queues, workers, oldest = await asyncio.gather(
        _part(client.operate.history(end - length, end, buckets=parts)),
        _part(client.operate.failure_groups(created_after=end - length, scan=_SCAN)),
        _part(client.queues.list(limit=_QUEUES)),
        _part(client.workers.list(limit=200)),
        _part(client.list_runs(ListRunsParams(status="queued", limit=1, sort="asc"))),
    )
    buckets = history if isinstance(history, list) else []
    return Page(
        "Overview",
        "overview.html",
        {
            "stats": stats,
            "statuses": ALL_STATUSES,
            "shares": charts.shares([(status, stats["by_status"][status]) for status in ALL_STATUSES]),
            "span": span,
            "spans": _NAMES,
            "length": length,
            "start": end - length,
            "end": end,
            "history": history,
            "columns": charts.stacked([_column(bucket) for bucket in buckets], [_label(bucket) for bucket in buckets]),
            "created": sum(sum(bucket["by_status"].values()) for bucket in buckets),
            "failed": sum(bucket["by_status"].get("failed", 0) for bucket in buckets),
            "highest": max((sum(bucket["by_status"].values()) for bucket in buckets), default=0),
            "grain": grain,
            "groups": groups,
            "queues": queues,
            "workers": workers,
            "oldest": oldest,
        },
        "overview",
    )


def parts_of(choices: Sequence[int], workflows: int) -> int:
    """Into how many parts a history is cut: into fewer where there are many workflows, for each is counted apart."""
    wanted = (parts for parts in choices if parts * workflows * len(ALL_STATUSES) <= _MOST_COUNTS)
    return next(wanted, choices[-1])


async def _part(reading: Awaitable[T]) -> T | str:
    """A part of the page, or why it can't be had; the rest of the page stands."""
    try:
        return await reading
    except NotSupportedError as exc:
        return str(exc)
    except (RedflowError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"


_FROM_THE_BOTTOM: Final[tuple[RunStatus, ...]] = ("succeeded", "running", "queued", "scheduled", "canceled", "failed")


def _column(bucket: RunBucket) -> list[tuple[str, int]]:
    return [(status, bucket["by_status"].get(status, 0)) for status in _FROM_THE_BOTTOM]


def _label(bucket: RunBucket) -> str:
    told = ", ".join(f"{number} {status}" for status, number in bucket["by_status"].items() if number) or "none"
    return f"{iso(bucket['start'])[:16]} UTC, {duration(bucket['end'] - bucket['start'])}: {told}"
