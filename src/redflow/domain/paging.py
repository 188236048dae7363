"""Limits of pages, and cursors."""

from __future__ import annotations

import math
from typing import Final

DEFAULT_LIMIT: Final = 50
LARGEST_PAGE: Final = 200
"""How many items one script call reads, and the most a search gives."""


def page_limit(limit: object, *, largest: int | None = None) -> int:
    """How many items are asked for: rounded down, at least 1, at most `largest`; the default for what is no number."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
        return DEFAULT_LIMIT
    return max(1, int(limit) if largest is None else min(largest, int(limit)))
