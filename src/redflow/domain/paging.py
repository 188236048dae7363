"""Limits of pages, and cursors."""

from __future__ import annotations

import math
from typing import Final

DEFAULT_LIMIT: Final = 50
LARGEST_PAGE: Final = 200


def page_limit(limit: object, *, default: int = DEFAULT_LIMIT, largest: int = LARGEST_PAGE) -> int:
    """How many items a page holds: rounded down, at least 1, at most `largest`; what is no number gives the default."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or math.isnan(limit):
        return default
    return int(max(1, min(largest, limit)))
