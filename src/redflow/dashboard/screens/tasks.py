"""Tasks: the records of task flows, and the stream of their changes."""

from __future__ import annotations

from redflow.dashboard.site import Asked, Missing, Page, Site

_CHANGES = 200
_SIZE = 50


async def tasks(site: Site, asked: Asked) -> Page:
    """The tasks that changed last, and the changes."""
    if site.tasks is None:
        return Page("Tasks", "tasks.html", {"source": False, "tasks": [], "changes": []}, "tasks")
    changes = await site.tasks.changes(_CHANGES)
    ids = list(dict.fromkeys(change.task_id for change in changes))[:_SIZE]
    found = await site.tasks.tasks(ids)
    context: dict[str, object] = {
        "source": True,
        "tasks": [one for one in found if one is not None],
        "changes": changes[:_SIZE],
    }
    return Page("Tasks", "tasks.html", context, "tasks")


async def task(site: Site, asked: Asked) -> Page:
    """One task record, and its latest changes."""
    task_id = asked.exact("id")
    found = [None] if site.tasks is None else await site.tasks.tasks([task_id])
    if site.tasks is None or found[0] is None:
        raise Missing(f"There is no task {task_id}; perhaps its time is over.")
    changes = [change for change in await site.tasks.changes(1_000) if change.task_id == task_id]
    return Page(f"Task {task_id[-8:]}", "task.html", {"task": found[0], "changes": changes}, "tasks")
