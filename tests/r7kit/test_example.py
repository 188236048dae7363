"""examples/r7kit: the demo as a person starts it, and the page that shows a task live."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from examples.r7kit.live import app
from r7kit import config
from r7kit.operations import CreateTask, DeleteTask, PatchTask, TaskChanges
from r7kit.stores import close_stores, current_store
from tests.support.servers import ServerKind
from tests.support.world import soon

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_both_engines_leave_the_same(server_kind: ServerKind) -> None:
    if server_kind != "bundled":
        pytest.skip("the demo always runs on the bundled server")
    done = subprocess.run(
        [sys.executable, "-m", "examples.r7kit.demo", "--input", "5"],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name not in ("R7KIT_ENGINE", "REDIS_URL")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("  result  30\n") == 2
    assert done.stdout.endswith("Both engines left the same result and the same changes.\n")


class Visit:
    """One request to the page's application, as a server makes it."""

    def __init__(self, path: str, **headers: str) -> None:
        self._scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        self._gone = asyncio.Event()
        self._asked = False
        self.status = 0
        self.body = ""

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"").decode()

    async def run(self) -> None:
        """Until the answer ends."""
        await app(self._scope, self._receive, self._send)

    def leave(self) -> None:
        """The browser goes away."""
        self._gone.set()

    def events(self) -> list[dict[str, Any]]:
        """The events that came."""
        blocks = [
            dict(line.split(": ", 1) for line in block.splitlines()) for block in self.body.split("\n\n") if block
        ]
        return [{**block, "data": json.loads(block["data"])} for block in blocks]


@pytest.fixture
async def task(settings: config.Settings, prefix: str) -> AsyncIterator[str]:
    """A task."""
    store = await current_store()
    await store.create(CreateTask(prefix, "op0", payload={"a": "<b>"}, starting=False))
    yield prefix
    await close_stores()


async def test_the_page_shows_a_task_live(task: str) -> None:
    store = await current_store()
    page = Visit(f"/tasks/{task}")
    await page.run()
    assert page.status == 200
    assert 'Status: <b id="status">new</b>' in page.body
    live = Visit(f"/tasks/{task}/changes")
    running = asyncio.ensure_future(live.run())
    await soon(lambda: len(live.events()) == 1, "the creation")
    await store.patch(PatchTask(task, "op1", TaskChanges("done", {"b": 1})))
    await soon(lambda: len(live.events()) == 2, "the patch")
    await store.delete(DeleteTask(task, "op2", 0))
    await running
    assert [(event["event"], event["data"]["status"]) for event in live.events()] == [
        ("created", "new"),
        ("patched", "done"),
        ("deleted", "done"),
    ]
    assert live.events()[1]["data"] == {
        "ver": 2, "status": "done", "fields": ["status", "payload.b"], "payload": {"a": "<b>", "b": 1},
    }  # fmt: skip


async def test_a_browser_comes_back_where_it_was(task: str) -> None:
    store = await current_store()
    for number in range(3):
        await store.patch(PatchTask(task, f"patch{number}", TaskChanges(f"s{number}")))
    first = Visit(f"/tasks/{task}/changes")
    running = asyncio.ensure_future(first.run())
    await soon(lambda: len(first.events()) == 4, "what was")
    first.leave()
    await running
    await soon(lambda: store.changes()._reader is None, "the end of the reader")
    again = Visit(f"/tasks/{task}/changes", last_event_id=first.events()[1]["id"])
    running = asyncio.ensure_future(again.run())
    await soon(lambda: len(again.events()) == 2, "what it missed")
    await store.delete(DeleteTask(task, "end", 0))
    await running
    assert [event["data"]["ver"] for event in again.events()] == [3, 4, 5]
    gone = Visit(f"/tasks/{task}/changes", last_event_id=again.events()[-1]["id"])
    await gone.run()
    assert gone.status == 204
    missing = Visit(f"/tasks/{task}")
    await missing.run()
    assert missing.status == 404
