"""What both know of the workload: the processes that do it and the checker that judges it. Imports no redflow."""

from __future__ import annotations

from typing import Final

LONG_S: Final = 0.8
"""A step that is longer than the lease."""
EVENT_TIMEOUT_MS: Final = 12_000
"""How long a run waits for an event whose emitter may have been killed."""
SLEEP_MS: Final = 40
RETRY_DELAY_MS: Final = 25
DEBOUNCE_PERIOD_MS: Final = 60
DEBOUNCE_TIMEOUT_MS: Final = 200
THROTTLE: Final = (3, 200)
"""Limit, and period in ms."""
RATE: Final = (5, 300)
LIMITED: Final = 2
"""max_concurrency of the workflow `limited`."""
SUBSCRIBERS: Final = ("sub-a", "sub-b")
