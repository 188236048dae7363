"""Builds the order for a run from what a caller said; a bad value is refused by name, before anything is written."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from redflow.domain.names import DEFAULT_QUEUE, check_key, check_name
from redflow.domain.options import check_priority, positive_ms
from redflow.domain.payload import encode
from redflow.domain.retry import resolve_max_attempts
from redflow.domain.run import RunOrder
from redflow.errors import LimitExceededError, UnknownWorkflowError
from redflow.types import IDEMPOTENCY_TTL_SEC

LONGEST_DELAY_MS: Final = 3_653 * 86_400_000
"""Ten years: no run is scheduled later than that, ms."""


def build_order(
    run_id: str,
    workflow: str,
    input: object,
    *,
    now_ms: int,
    idempotency_key: str | None = None,
    idempotency_ttl: int | None = None,
    run_at: datetime | None = None,
    queue: str | None = None,
    max_attempts: float | None = None,
    parent_run_id: str | None = None,
    priority: int | None = None,
    run_timeout_ms: float | str | None = None,
) -> RunOrder:
    """The order for one run.

    Args:
        run_id: stored id of the new run.
        workflow: name of the workflow.
        input: JSON.
        now_ms: what counts as now where `run_at` is judged, epoch ms.
        idempotency_key: one run per (workflow, key) within the TTL.
        idempotency_ttl: TTL of the key, whole seconds >= 1; None is 7 days.
        run_at: not before; a naive datetime is local time.
        queue: queue in place of the registered one.
        max_attempts: attempts in place of the registered number.
        parent_run_id: stored with the run.
        priority: in place of the registered one.
        run_timeout_ms: in place of the registered one; ms or a duration text.

    Raises:
        TypeError, ValueError, PayloadTooLargeError, LimitExceededError: naming what is wrong.
        UnknownWorkflowError: the queue is "".
    """
    return RunOrder(
        run_id=run_id,
        workflow=check_name(workflow, what="workflow name"),
        input_json=encode(input, what="input"),
        queue=None if queue is None else _checked_queue(queue, workflow),
        max_attempts=None if max_attempts is None else resolve_max_attempts(max_attempts),
        run_at_ms=None if run_at is None else run_at_ms(run_at, now_ms),
        idempotency_key=None if idempotency_key is None else check_key(idempotency_key, what="idempotency_key"),
        idempotency_ttl_s=ttl_s(idempotency_ttl),
        parent_run_id=None if parent_run_id is None else check_name(parent_run_id, what="parent_run_id"),
        priority=None if priority is None else check_priority(priority),
        run_timeout_ms=None if run_timeout_ms is None else positive_ms(run_timeout_ms, "run_timeout_ms"),
    )


def _checked_queue(queue: str, workflow: str) -> str:
    """A caller's queue: blank means the default one, and "" that there is none to put the run into."""
    if queue == "":
        raise UnknownWorkflowError(workflow)
    return DEFAULT_QUEUE if isinstance(queue, str) and queue.isspace() else check_name(queue, what="queue")


def run_at_ms(run_at: datetime | None, now_ms: int) -> int | None:
    """A start time as epoch ms.

    Raises:
        ValueError: it is no datetime.
        LimitExceededError: it is more than 10 years away.
    """
    if run_at is None:
        return None
    if not isinstance(run_at, datetime):
        raise ValueError("Invalid runAt date")
    try:
        at_ms = math.floor(run_at.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as exc:
        raise ValueError("Invalid runAt date") from exc
    if at_ms > now_ms + LONGEST_DELAY_MS:
        raise LimitExceededError(f"Invalid runAt date: at most 10 years away, got {run_at.isoformat()}")
    return max(at_ms, 0)


def ttl_s(ttl: int | None) -> int:
    """The TTL of an idempotency key, seconds.

    Raises:
        ValueError: it is no whole number of at least 1.
    """
    if ttl is None:
        return IDEMPOTENCY_TTL_SEC
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not 1 <= ttl <= LONGEST_DELAY_MS // 1000:
        raise ValueError(f"idempotency_ttl must be a whole number of seconds, at least 1, got {ttl!r}")
    return ttl
