"""What lists and searches may be asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from redflow.errors import LimitExceededError
from redflow.types import ALL_STATUSES, ListRunsParams, SearchRunsParams

DEFAULT_LIMIT: Final = 50
LARGEST_PAGE: Final = 200
"""How many items one script call reads, and the most a search gives."""

MOST_SCANNED: Final = 10_000
"""The most runs that one search looks at."""

MAX_QUERY_CHARS: Final = 1_000
"""The longest text that is searched for."""


def page_limit(limit: object, *, largest: int | None = None) -> int:
    """How many items are asked for: rounded down, at least 1, at most `largest`; the default for what is no number."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
        return DEFAULT_LIMIT
    return max(1, int(limit) if largest is None else min(largest, int(limit)))


def check_list(params: ListRunsParams) -> None:
    """Judge what a list is asked for.

    Raises:
        ValueError: naming the field that makes no sense.
    """
    _check_filters({"workflow": params.workflow}, params.status)


def check_search(params: SearchRunsParams) -> None:
    """Judge what a search is asked for.

    Raises:
        ValueError: naming the field that makes no sense.
        LimitExceededError: the text is too long.
    """
    texts = {"workflow": params.workflow, "queue": params.queue, "parent_run_id": params.parent_run_id}
    texts["error"] = params.error
    _check_filters({**texts, "query": params.query}, params.status)
    if params.query is not None and len(params.query) > MAX_QUERY_CHARS:
        raise LimitExceededError(f"query is too long: at most {MAX_QUERY_CHARS} characters, got {len(params.query)}")
    for field, value in (("created_after", params.created_after), ("created_before", params.created_before)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{field} must be a whole number of epoch ms, got {value!r:.100}")
    if isinstance(params.scan, bool) or not isinstance(params.scan, int) or not 1 <= params.scan <= MOST_SCANNED:
        raise ValueError(f"scan must be a whole number from 1 to {MOST_SCANNED}, got {params.scan!r:.100}")


def is_text(value: object) -> bool:
    """Whether this can be a part of a key: a text that has a UTF-8 form."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_filters(texts: Mapping[str, object], status: object) -> None:
    for field, value in texts.items():
        if value is not None and not is_text(value):
            shown = "a lone surrogate" if isinstance(value, str) else type(value).__name__
            raise ValueError(f"{field} must be a text, got {shown}")
    if status is not None and status not in ALL_STATUSES:
        raise ValueError(f"status must be one of {', '.join(ALL_STATUSES)}, got {status!r:.100}")
