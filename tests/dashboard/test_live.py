"""Live updates: what a page's stream says, and that it costs nothing when nobody looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx

from redflow.dashboard.live import Live, Sight
from redflow.dashboard.serving import DashboardServer, Serving
from tests.support.world import World, soon


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


async def test_a_visitor_who_leaves_is_noticed(world: World) -> None:
    """Over a real connection, which simply ends."""

    def looking() -> bool:
        return any(task.get_name() == "redflow-dashboard-live" for task in asyncio.all_tasks())

    served = DashboardServer(world.client, Serving(port=0))
    await served.start()
    try:
        async with (
            httpx.AsyncClient(base_url=served.url) as http,
            http.stream("GET", "/live", params={"at": "/runs", "seen": ""}) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line == "event: page":
                    break
            assert looking()
        await soon(lambda: not looking(), "the end of the looks")
    finally:
        await served.stop()
