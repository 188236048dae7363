"""What the dashboard can do: each action takes a form and answers with a sentence about what was done."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import QueryParams

from redflow.dashboard.forms import fields_of, input_of, read_json
from redflow.dashboard.jobs import Jobs
from redflow.dashboard.screens.runs import filters_of
from redflow.dashboard.site import Asked, Refused, Site
from redflow.dashboard.text import count, unmasked
from redflow.operate import BulkJob
from redflow.types import BulkAction, SearchRunsParams

_MOST_CHOSEN: Final = 200


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an action: a sentence, and where to go on (a path below the base)."""

    text: str
    go_to: str = ""


Form: TypeAlias = Mapping[str, str]
Action: TypeAlias = Callable[[Site, Jobs, Form], Awaitable[Done]]
"""Carries out one action; the form is what the browser sent."""


# --- runs -----------------------------------------------------------------------------------------------------------


async def cancel_run(site: Site, jobs: Jobs, form: Form) -> Done:
    """Cancel one run."""
    changed = await site.client.cancel_run(_id(form), reason=form.get("reason", "").strip() or "from the dashboard")
    return Done("It is canceled, or its worker was asked to stop it." if changed else "It had ended already.")


async def retry_run(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let a failed run go on at the step that failed."""
    await site.client.operate.retry_run(_id(form))
    return Done("It goes on at the step that failed; finished steps are kept.")


async def rerun(site: Site, jobs: Jobs, form: Form) -> Done:
    """Start a new run like this one, with edited input."""
    run_id = _id(form)
    if "input" not in form:
        handle = await site.client.operate.rerun(run_id)
    else:
        edited = read_json(form["input"], "The input")
        if site.mask:
            state = await site.client.get_run(run_id)
            edited = edited if state is None else unmasked(edited, state["input"], site.mask)
        handle = await site.client.operate.rerun(run_id, input=edited)
    return Done("A new run was started.", f"/runs/{handle.id}")


async def cancel_chosen(site: Site, jobs: Jobs, form: Form) -> Done:
    """Cancel the runs that were ticked."""
    answers = await site.client.operate.cancel_runs(_chosen(form), reason="from the dashboard")
    changed = sum(answer in ("canceled", "requested") for answer in answers)
    return Done(f"{count(changed)} of {count(len(answers))} runs are canceled or were asked to stop.")


async def retry_chosen(site: Site, jobs: Jobs, form: Form) -> Done:
    """Retry the runs that were ticked."""
    answers = await site.client.operate.retry_runs(_chosen(form))
    return Done(f"{count(answers.count('retried'))} of {count(len(answers))} runs go on.")


async def bulk(site: Site, jobs: Jobs, form: Form) -> Done:
    """Cancel or retry all runs that a filter finds, as a job; at most as many as the visitor was shown, or about so."""
    action, params = bulk_of(form)
    expected = form.get("expected", "")
    job = job_of(site, action, params)
    preview = await job.preview()
    shown = int(expected[:12]) if expected.isascii() and expected.isdecimal() else -1
    if preview["count"] > shown + max(10, shown // 10):
        raise Refused(
            f"There are {count(preview['count'])} runs now, not {count(max(shown, 0))}. Nothing was done; look again."
        )
    jobs.start(job, preview["count"])
    return Done(f"Started: {action} of {count(preview['count'])} runs.")


def bulk_of(form: Form) -> tuple[BulkAction, SearchRunsParams]:
    """What a bulk form asks for.

    Raises:
        Refused: it is no such action.
        ValueError: a filter makes no sense.
    """
    action = form.get("action", "")
    if action not in ("cancel", "retry"):
        raise Refused(f"There is no bulk action {action!r:.50}.")
    query = QueryParams(parse_qsl(form.get("filters", "")))
    params = filters_of(Asked({}, query), int(time.time() * 1000))
    return ("cancel" if action == "cancel" else "retry"), params


def job_of(site: Site, action: BulkAction, params: SearchRunsParams) -> BulkJob:
    """The job that an action with a filter means."""
    params = replace(params, cursor=None)
    if action == "cancel":
        return site.client.operate.cancel_all(params, reason="from the dashboard")
    return site.client.operate.retry_all(params)


def _id(form: Form) -> str:
    """Which run, workflow, queue, schedule or worker is meant."""
    if not form.get("id"):
        raise Refused("The form does not say what it is about.")
    return form["id"]


def _chosen(form: Form) -> list[str]:
    ids = [run_id for run_id in form.get("ids", "").split(",") if run_id]
    if not ids or len(ids) > _MOST_CHOSEN:
        raise Refused("No run is ticked." if not ids else f"At most {_MOST_CHOSEN} runs can be ticked.")
    return ids


# --- workflows, events, schedules, workers, queues ------------------------------------------------------------------


async def start(site: Site, jobs: Jobs, form: Form) -> Done:
    """Start a run of a workflow."""
    meta = await site.client.get_workflow_meta(_id(form))
    given = input_of(form, fields_of(None if meta is None else meta.get("input_json_schema")))
    key = form.get("idempotency_key", "").strip() or None
    handle = await site.client.emit_workflow(_id(form), given, idempotency_key=key)
    return Done("The run was started.", f"/runs/{handle.id}")


async def emit(site: Site, jobs: Jobs, form: Form) -> Done:
    """Emit an event."""
    emitted = await site.client.emit_event_detailed(
        form.get("name", "").strip(),
        read_json(form.get("data", ""), "The data"),
        correlation_key=form.get("key", "").strip() or None,
    )
    return Done("The event was emitted.", f"/event?{urlencode({'id': emitted['event_id']})}")


async def pause_workflow(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let no run of a workflow start."""
    changed = await site.client.workflows.pause(_id(form), reason=form.get("reason", ""))
    return Done("It is paused: what runs goes on, new runs wait." if changed else "It was paused already.")


async def resume_workflow(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let the runs of a workflow start again."""
    changed = await site.client.workflows.resume(_id(form))
    return Done("Its runs start again." if changed else "It was not paused.")


async def pause_queue(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let no run of a queue start."""
    changed = await site.client.queues.pause(_id(form), reason=form.get("reason", ""))
    return Done("It is paused: what runs goes on, new runs wait." if changed else "It was paused already.")


async def resume_queue(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let the runs of a queue start again."""
    changed = await site.client.queues.resume(_id(form))
    return Done("Its runs start again." if changed else "It was not paused.")


async def pause_schedule(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let a schedule fire no more."""
    changed = await site.client.schedules.pause(_id(form), reason=form.get("reason", ""))
    return Done("It is paused, and stays so when its definition is deployed again." if changed else "It was paused.")


async def resume_schedule(site: Site, jobs: Jobs, form: Form) -> Done:
    """Let a schedule fire again."""
    changed = await site.client.schedules.resume(_id(form))
    return Done("It fires again from its next time on." if changed else "It was not paused.")


async def fire_schedule(site: Site, jobs: Jobs, form: Form) -> Done:
    """Start a run of a schedule now."""
    handle = await site.client.schedules.fire(_id(form))
    return Done("A run was started.", f"/runs/{handle.id}")


async def drain_worker(site: Site, jobs: Jobs, form: Form) -> Done:
    """Have a worker claim nothing more."""
    await site.client.workers.drain(_id(form), then="stop" if form.get("then") == "stop" else "idle")
    return Done("It claims nothing more; what it runs goes on to its end.")


async def resume_worker(site: Site, jobs: Jobs, form: Form) -> Done:
    """Have a drained worker claim again."""
    await site.client.workers.resume(_id(form))
    return Done("It claims again.")


ACTIONS: Final[Mapping[str, Action]] = {
    "cancel-run": cancel_run,
    "retry-run": retry_run,
    "rerun": rerun,
    "cancel-chosen": cancel_chosen,
    "retry-chosen": retry_chosen,
    "bulk": bulk,
    "start": start,
    "emit": emit,
    "pause-workflow": pause_workflow,
    "resume-workflow": resume_workflow,
    "pause-queue": pause_queue,
    "resume-queue": resume_queue,
    "pause-schedule": pause_schedule,
    "resume-schedule": resume_schedule,
    "fire-schedule": fire_schedule,
    "drain-worker": drain_worker,
    "resume-worker": resume_worker,
}
"""Each action by its name; it is posted to /do/<name>."""
