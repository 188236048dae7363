"""Each screen on real data, over HTTP."""

from __future__ import annotations

from tests.dashboard.scene import Scene
from tests.dashboard.visitor import Visitor


async def test_the_list_of_runs_tells_states_apart(scene: Scene, visitor: Visitor) -> None:
    words = await visitor.words("/runs")
    for state in ("succeeded", "failed", "asleep", "retrying", "running", "scheduled", "queued", "canceled"):
        assert state in words
    assert "CardDeclined" in words


async def test_pages(scene: Scene, visitor: Visitor) -> None:
    for path in (
        "/",
        "/runs",
        "/workflows",
        "/workflow?name=order",
        "/events",
        "/schedules",
        "/workers",
        "/tasks",
        "/health",
        *(f"/runs/{i}" for i in scene.runs.values()),
        f"/event?id={scene.event_id}",
    ):
        text = await visitor.get(path)
        assert "<script>alert" not in text
