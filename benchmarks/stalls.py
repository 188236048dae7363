"""How long single scripts kept the server to themselves, by its slow log, and whether it had a core all the time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from benchmarks.counting import server_cpu_s, verb_of

LOGGED_FROM_MS: Final = 0.2
"""Calls shorter than this are not in the slow log."""
_LOG_LENGTH: Final = 1_000_000


@dataclass(slots=True)
class Stalls:
    """What the server told of the time between two looks.

    Attributes:
        calls: ms that each call took which was longer than LOGGED_FROM_MS, by verb.
        without_core: share of the time that the server wanted to run and had no core, 0 to 1; None: it runs elsewhere.
            The slow log's clock goes on meanwhile, so that a script of 1 ms may stand there with 10.
    """

    calls: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    without_core: float | None = None

    def longest(self, verb: str) -> float:
        """The longest call of a verb, ms; LOGGED_FROM_MS if none was longer than that."""
        return max(self.calls.get(verb, []), default=LOGGED_FROM_MS)

    def over(self, ms: float) -> int:
        """How many calls of any verb were longer."""
        return sum(call > ms for calls in self.calls.values() for call in calls)


@asynccontextmanager
async def watching_scripts(redis: Redis) -> AsyncIterator[Stalls]:
    """Have every script of the block in the slow log; the answer is complete when the block has been left."""
    stalls = Stalls()
    wanted = {"slowlog-log-slower-than": str(int(LOGGED_FROM_MS * 1000)), "slowlog-max-len": str(_LOG_LENGTH)}
    former: dict[str, str] = {}
    for name, value in wanted.items():
        former[name] = (await redis.config_get(name))[name] or ""
        await redis.config_set(name, value)
    await redis.slowlog_reset()
    pid = (await redis.info("server"))["process_id"]
    waited, started = _waited_s(pid), time.monotonic()
    try:
        yield stalls
        now_waited = _waited_s(pid)
        if waited is not None and now_waited is not None:
            stalls.without_core = (now_waited - waited) / (time.monotonic() - started)
        for call in await redis.slowlog_get(_LOG_LENGTH):
            verb = verb_of(call["command"])
            if verb is not None:
                stalls.calls[verb].append(call["duration"] / 1000)
    finally:
        for setting, value_before in former.items():
            await redis.config_set(setting, value_before)


async def longest_by_cpu(redis: Redis, call: Callable[[], Awaitable[int]]) -> tuple[int, float]:
    """Call a verb again and again until it has nothing more to do; nobody else may use the server meanwhile.

    Returns:
        (how many runs were done, CPU of the server for the dearest call, ms)
    """
    total, longest, before = 0, 0.0, await server_cpu_s(redis)
    while done := await call():
        after = await server_cpu_s(redis)
        total, longest, before = total + done, max(longest, after - before), after
    return total, longest * 1000


def _waited_s(pid: int) -> float | None:
    """How long a process of this machine has waited for a core so far, its main thread."""
    try:
        _, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()
    except (OSError, ValueError):
        return None
    return int(waited_ns) / 1e9
