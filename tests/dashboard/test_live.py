"""Live updates: what a page's stream says, and that it costs nothing when nobody looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from redflow.dashboard.live import Live, Sight
from tests.support.world import soon


class Pages:
    """Makes pages, and counts how often."""

    def __init__(self) -> None:
        self.sight = Sight("<p>one</p>", "1")
        self.looks = 0

    async def look(self, at: str, base: str) -> Sight:
        """The page as it is now."""
        self.looks += 1
        return self.sight


async def following(stream: AsyncIterator[bytes]) -> tuple[str, dict[str, str]]:
    """The next event of a stream; its name and data."""
    async with asyncio.timeout(10):
        async for part in stream:
            if part.startswith(b"event: "):
                name, _, data = part.decode().removeprefix("event: ").partition("\ndata: ")
                told: dict[str, str] = json.loads(data)
                return name, told
    raise AssertionError("the stream has ended")


async def test_a_page_is_sent_when_it_has_changed_and_only_then() -> None:
    pages = Pages()
    live = Live(pages.look, pause_s=0.001)
    stream = live.stream("/runs", "", seen="1")
    event = asyncio.create_task(following(stream))
    await soon(lambda: pages.looks > 5, "some looks")
    assert not event.done(), "what the page shows already is not sent"
    pages.sight = Sight("<p>two</p>\n", "2")
    assert await event == ("page", {"html": "<p>two</p>\n", "digest": "2"})
    pages.sight = Sight("", "", "the server is away")
    assert await following(stream) == ("trouble", {"text": "the server is away"})
    pages.sight = Sight("<p>two</p>\n", "2")
    assert (await following(stream))[0] == "page", "the same again, for the page says that it is out of date"
    await stream.aclose()
    assert live.streams == 0


async def test_visitors_of_one_page_share_the_work_and_nobody_looks_for_nobody() -> None:
    pages = Pages()
    live = Live(pages.look, pause_s=0.001)
    streams = [live.stream("/runs", "", seen="") for _ in range(20)]
    events = await asyncio.gather(*map(following, streams))
    assert all(told["digest"] == "1" for _, told in events)
    assert pages.looks < 20, "made once for all"
    for stream in streams:
        await stream.aclose()
    looks = pages.looks
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "redflow-dashboard-live"]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pages.looks <= looks + 1
    assert all(task.done() for task in tasks)
