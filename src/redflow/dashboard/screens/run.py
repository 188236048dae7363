"""One run: its life to scale, what went in and came out, why it waits, and what may be done with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from redflow.dashboard import timeline
from redflow.dashboard.pytests import as_pytest
from redflow.dashboard.site import Asked, Missing, Page, Site
from redflow.errors import ConnectionError, RedflowError
from redflow.types import (
    JsonValue,
    ListedRun,
    RunState,
    SearchRunsParams,
    StepState,
)

T = TypeVar("T")

_MOST_CHILDREN: Final = 200
_SCAN: Final = 1_000


async def run(site: Site, asked: Asked) -> Page:
    """A run and all that is known of it."""
    run_id = asked.path["run_id"]
    client = site.client
    state, explained = await asyncio.gather(client.operate.inspect_run(run_id), _part(client.explain_run(run_id)))
    if state is None:
        raise Missing(
            f"There is no run {run_id}. Either nobody started it under the prefix {client.prefix}, or it ended and its "
            "retention is over."
        )
    details = await asyncio.gather(
        _part(client.get_run_steps(run_id)),
        _part(client.get_run_attempts(run_id)),
        _part(client.get_step_kinds(run_id)),
    )
    steps, attempts, kinds = details[0][0] or [], details[1][0] or [], details[2][0] or {}
    remarks = [explained[1], *(remark for _, remark in details)]
    children = await _children(site, state, steps)
    first = _number(asked.text("step"))
    now = int(time.time() * 1000)
    # What is open is drawn until now; a page that nobody waits for anything on must not change each second.
    picture = timeline.draw(
        state, steps, attempts, children, _rounded(now, state), kinds=kinds, fold=asked.text("fold") == "1", first=first
    )
    return Page(
        f"{state['workflow']} {run_id[-8:]}",
        "run.html",
        {
            "run": state,
            "explanation": explained[0],
            "picture": picture,
            "steps": steps,
            "attempts": attempts,
            "children": children,
            "remark": "; ".join(dict.fromkeys(filter(None, remarks))),
            "first": first,
            "fold": asked.text("fold") == "1",
            "ended": "finished_at" in state,
            "test": as_pytest(state, steps, site.mask),
            "stack": _stack(state.get("error")),
        },
        "runs",
    )


async def payload(site: Site, asked: Asked) -> tuple[JsonValue, str]:
    """A payload of a run, whole: its input, output or error, or a step's output. With a name for it.

    Raises:
        Missing: there is no such thing.
    """
    run_id, part = asked.path["run_id"], asked.path["part"]
    state = await site.client.get_run(run_id)
    if state is not None:
        if part == "input":
            return site.hidden(state["input"]), part
        if part == "output" and "output" in state:
            return site.hidden(state["output"]), part
        if part == "step":
            seq = _number(asked.text("seq"))
            for step in await site.client.get_run_steps(run_id):
                if step["seq"] == seq and "output" in step:
                    return site.hidden(step["output"]), f"step {seq}"
    raise Missing(f"The run {run_id} has no {part}.")


async def _part(reading: Awaitable[T]) -> tuple[T | None, str]:
    """A part of the run, or a remark why it can't be had: a record of which a part is broken shows the rest."""
    try:
        return await reading, ""
    except ConnectionError:
        raise
    except (RedflowError, ValueError, TypeError, KeyError) as exc:
        return None, str(exc)


async def _children(site: Site, state: RunState, steps: list[StepState]) -> list[ListedRun]:
    if not any("child_run_id" in step for step in steps) and state["attempt"] == 0:
        return []
    found = await site.client.search_runs(
        SearchRunsParams(
            parent_run_id=state["id"], limit=_MOST_CHILDREN, sort="asc", scan=_SCAN, created_after=state["created_at"]
        )
    )
    return found["runs"]


def _rounded(now: int, state: RunState) -> int:
    """The present, coarse enough that a picture of something long doesn't change all the time."""
    age = max(1, now - state["created_at"])
    grain = max(1_000, age // 50)
    return state["created_at"] + (age // grain + 1) * grain


def _number(text: str | None) -> int:
    return int(text[:6]) if text is not None and text.isascii() and text.isdecimal() else 0


def _stack(error: object) -> str:
    stack = error.get("stack") if isinstance(error, dict) else None
    return stack if isinstance(stack, str) else ""
