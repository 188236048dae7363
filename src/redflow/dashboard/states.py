"""The state of a run as people see it: finer than its status, each with a word and a shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redflow.types import ALL_STATUSES


@dataclass(frozen=True, slots=True)
class Shown:
    """How a state is shown.

    Attributes:
        key: names its colour and its shape.
        word: what it is called.
        meaning: one sentence for those who don't know the word.
    """

    key: str
    word: str
    meaning: str


_STATES: Final = {
    state.key: state
    for state in (
        Shown("scheduled", "scheduled", "It is to start later."),
        Shown("queued", "queued", "It is ready and waits for a worker, or for its turn."),
        Shown("running", "running", "A worker executes it."),
        Shown("retrying", "retrying", "An attempt failed; the next one is to come."),
        Shown("asleep", "asleep", "It waits for a time, an event or a child, and holds no worker."),
        Shown("canceling", "canceling", "It was asked to stop and has not ended yet."),
        Shown("succeeded", "succeeded", "It ended well."),
        Shown("failed", "failed", "It failed for good."),
        Shown("canceled", "canceled", "It was canceled."),
    )
}


def shown_status(status: str) -> Shown:
    """How a stored status is shown."""
    return _STATES.get(status) or Shown("scheduled", status, "")


def shown_state(run: Mapping[str, object]) -> Shown:
    """How a run, as lists or `get_run` give it, is shown."""
    status = str(run["status"])
    if status not in ALL_STATUSES[3:] and "cancel_requested_at" in run:
        return _STATES["canceling"]
    attempt = run.get("attempt")
    if status == "scheduled" and isinstance(attempt, int) and attempt > 0:
        return _STATES["retrying" if "error" in run else "asleep"]
    return shown_status(status)
