"""Workflows: what is registered, and a form that starts a run."""

from __future__ import annotations

import json

from redflow.dashboard.forms import fields_of
from redflow.dashboard.site import Asked, Missing, Page, Site
from redflow.types import ALL_STATUSES, ListRunsParams, WorkflowMeta


async def workflows(site: Site, asked: Asked) -> Page:
    """The registered workflows, with their counts."""
    found = await site.client.workflows.list(cursor=asked.text("cursor"), limit=100)
    context: dict[str, object] = {
        "workflows": found["workflows"],
        "next": found.get("next_cursor"),
        "cursor": asked.text("cursor"),
        "statuses": ALL_STATUSES,
    }
    return Page("Workflows", "workflows.html", context, "workflows")


async def workflow(site: Site, asked: Asked) -> Page:
    """One workflow, its latest runs, and the form that starts one."""
    name = asked.exact("name")
    meta = await site.client.get_workflow_meta(name)
    latest = await site.client.list_runs(ListRunsParams(workflow=name, limit=20))
    if meta is None and not latest:
        raise Missing(f"No workflow of the name {name!r:.200} is registered, and it has no runs.")
    schema = None if meta is None else meta.get("input_json_schema")
    paused = (await site.client.get_stats()).get("paused")
    return Page(
        name,
        "workflow.html",
        {
            "name": name,
            "meta": meta,
            "latest": latest,
            "paused": paused is not None and name in paused["workflows"],
            "fields": fields_of(schema),
            "schema": None if schema is None else json.dumps(schema, ensure_ascii=False, indent=2),
            "sample": _sample(meta),
        },
        "workflows",
    )


def _sample(meta: WorkflowMeta | None) -> str:
    """What the input field holds at first."""
    schema = None if meta is None else meta.get("input_json_schema")
    return "{}" if schema is None or schema.get("type") == "object" else "null"
