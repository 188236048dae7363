"""Makes the pictures of the docs: each screen, light and dark, wide and phone. `make screenshots` runs it.

usage: python -m tests.dashboard.pictures DIRECTORY
"""

from __future__ import annotations

import asyncio
import io
import random
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser

from r7kit.operations import CreateTask, PatchTask, TaskChanges
from r7kit.records.store import TaskStore
from redflow.dashboard.serving import DashboardServer, Serving
from redflow.engines.redis.keys import Keys
from redflow.types import WorkflowCall
from tests.dashboard.browser import PHONE, WIDE, open_browser, open_tab
from tests.dashboard.scene import CALM, Scene, set_up
from tests.support.servers import ServerKind, ServerOptions, ServerProcess
from tests.support.world import World, eventually

MOST_BYTES = 4_000_000
"""What all pictures together may take."""

_HOUR_MS = 3_600_000
_RUNS = 420
_COLOURS = 240


async def _fill(scene: Scene) -> None:
    """An hour of history: real runs, moved back in time, for nobody wants to wait an hour for a picture."""
    client, dice = scene.world.client, random.Random(7)
    calls = [
        WorkflowCall("payment" if dice.random() < 0.06 else "parcel", {"number": number}) for number in range(_RUNS)
    ]
    handles = [handle for handle in await client.emit_workflows(calls) if not isinstance(handle, Exception)]

    async def open_runs() -> int:
        by_status = (await client.get_stats())["by_status"]
        return by_status["queued"] + by_status["running"]

    await eventually(open_runs, "the end of the runs", until=lambda left: left <= 2)
    keys: Keys = scene.world.keys
    for handle in handles:
        state = await client.get_run(handle.id)
        assert state is not None
        back = int(dice.triangular(60_000, _HOUR_MS - 60_000, 1_500_000))
        stored = handle.id.removeprefix("run_").replace("-", "")
        for field in ("c", "t", "f"):
            await scene.world.redis.hincrby(keys.run(stored), field, -back)
        index = keys.index(state["status"], state["workflow"])
        await scene.world.redis.zincrby(index, -back, stored)


async def _add_tasks(url: str) -> None:
    """Some task records, as flows of r7kit leave them."""
    store = TaskStore(url)
    try:
        for number in range(6):
            task_id = str(uuid.UUID(int=number + (7 << 96), version=4))
            await store.create(CreateTask(task_id, f"create-{number}", "new", {"file": f"scan-{number}.pdf"}))
            if number < 4:
                changes = TaskChanges("processing", {"pages": 3 + number, "progress": 0.5})
                await store.patch(PatchTask(task_id, f"patch-{number}", changes))
            if number < 2:
                await store.patch(PatchTask(task_id, f"done-{number}", TaskChanges("done", {"progress": 1.0})))
    finally:
        await store.close()


def _paths(scene: Scene) -> dict[str, str]:
    return {
        "overview": "/",
        "runs": "/runs",
        "run": f"/runs/{scene.runs['succeeded']}",
        "run-waiting": f"/runs/{scene.runs['asleep']}",
        "workflows": "/workflows",
        "workflow": "/workflow?name=order",
        "events": "/events",
        "event": f"/event?id={scene.event_id}",
        "schedules": "/schedules",
        "workers": "/workers",
        "tasks": "/tasks",
        "health": "/health",
    }


async def _take(browser: Browser, url: str, scene: Scene, directory: Path) -> None:
    for size, form in ((WIDE, "wide"), (PHONE, "phone")):
        for dark in (False, True):
            async with open_tab(browser, url, dark=dark, size=size) as tab:
                for name, path in _paths(scene).items():
                    await tab.open(path)
                    taken = await tab.page.screenshot(full_page=name == "run" and form == "wide")
                    file = directory / f"{name}-{form}-{'dark' if dark else 'light'}.png"
                    picture = (
                        Image.open(io.BytesIO(taken))
                        .convert("RGB")
                        .quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
                    )
                    picture.save(file, optimize=True)


async def make(directory: Path) -> None:
    """Make all pictures."""
    with ServerProcess(ServerKind.BUNDLED, ServerOptions(appendonly=True)) as server:
        world = World(server.url, "shop")
        scene = await set_up(world, nasty=CALM)
        try:
            await _fill(scene)
            await _add_tasks(world.url)
            served = DashboardServer(world.client, Serving(port=0, actions=True))
            await served.start()
            async with open_browser() as browser:
                await _take(browser, served.url, scene, directory)
            await served.stop()
        finally:
            scene.go.set()
            await world.close()


def main(arguments: Sequence[str]) -> int:
    """Make them and say how large they are; 1 if they are too large."""
    directory = Path(arguments[0] if arguments else "docs/images/dashboard")
    directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(make(directory))
    files = sorted(directory.glob("*.png"))
    total = sum(file.stat().st_size for file in files)
    sys.stdout.write(f"{len(files)} pictures in {directory}, {total:,} bytes\n")
    return int(total > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
