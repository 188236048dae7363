"""Keeps open pages up to date: each is made again now and then, and sent when it has changed.

Pages that several visitors look at are made once for all of them. Nobody looks: nothing is made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

PAUSE_S: Final = 1.0
"""Between two looks at a page, seconds; longer where making it takes long."""
_SHARE: Final = 10
"""A page is made at most in one of so many parts of the time."""
_SIGN_S: Final = 15.0
"""How often a stream that has nothing to say shows that it lives, seconds."""
MOST_STREAMS: Final = 200


@dataclass(frozen=True, slots=True)
class Sight:
    """A page at one time: its inside, what tells it from others, and what is wrong (then the inside is old)."""

    inside: str
    digest: str
    trouble: str = ""


Look = Callable[[str, str], Awaitable[Sight]]
"""Makes the page of a path (with its query) below a base."""


@dataclass(slots=True)
class _Topic:
    watchers: int = 0
    sight: Sight | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Live:
    """The open pages of one dashboard."""

    def __init__(self, look: Look, *, pause_s: float = PAUSE_S) -> None:
        self._look = look
        self._pause_s = pause_s
        self._topics: dict[tuple[str, str], _Topic] = {}
        self.streams = 0

    def is_full(self) -> bool:
        """Whether no further stream is taken."""
        return self.streams >= MOST_STREAMS

    async def stream(self, at: str, base: str, seen: str) -> AsyncGenerator[bytes, None]:
        """What a page's EventSource gets: `page` with the new inside, `trouble` with what is wrong.

        Args:
            at: the page's path and query.
            base: path below which the dashboard is mounted.
            seen: digest of what the page shows.
        """
        key = (at, base)
        topic = self._topics.setdefault(key, _Topic())
        topic.watchers += 1
        self.streams += 1
        if topic.task is None:
            topic.task = asyncio.create_task(self._watch(topic, at, base), name="redflow-dashboard-live")
        try:
            yield b"retry: 2000\n\n"
            told: Sight | None = None
            while True:
                sight, changed = topic.sight, topic.changed
                if sight is not None and sight is not told:
                    if sight.trouble:
                        yield _event("trouble", {"text": sight.trouble})
                    elif sight.digest != seen or (told is not None and told.trouble):
                        seen = sight.digest
                        yield _event("page", {"html": sight.inside, "digest": sight.digest})
                    told = sight
                try:
                    await asyncio.wait_for(changed.wait(), _SIGN_S)
                except TimeoutError:
                    yield b": here\n\n"
        finally:
            self.streams -= 1
            topic.watchers -= 1
            if not topic.watchers:
                self._topics.pop(key, None)
                topic.task.cancel()

    async def _watch(self, topic: _Topic, at: str, base: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            sight = await self._look(at, base)
            taken = loop.time() - started
            old = topic.sight
            if old is None or (old.digest, old.trouble) != (sight.digest, sight.trouble):
                topic.sight = sight
                changed, topic.changed = topic.changed, asyncio.Event()
                changed.set()
            await asyncio.sleep(max(self._pause_s, taken * _SHARE))


def _event(name: str, data: dict[str, str]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=True)}\n\n".encode()
