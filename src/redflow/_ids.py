"""The ids of the runs that this process asks for, in the order in which it asks for them."""

from __future__ import annotations

import secrets
import threading
from typing import Final

from redflow.domain.run import RunIds

_ids: Final = RunIds()
_one_at_a_time: Final = threading.Lock()


def next_run_id(now_ms: int) -> str:
    """A new id as 32 hex digits, greater than those this process made before.

    Args:
        now_ms: the clock of this machine, ms since the epoch.
    """
    with _one_at_a_time:
        return _ids.next(now_ms, int.from_bytes(secrets.token_bytes(8), "big") >> 2)
