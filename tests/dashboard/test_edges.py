"""What few dashboards see: nothing at all, task records, huge and broken records, a server that is away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redflow import create_client, define_workflow
from redflow.dashboard import Task, TaskChange, dashboard
from redflow.types import JsonData
from tests.dashboard.scene import NASTY, TURNED, Scene
from tests.dashboard.visitor import Visitor
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, impatient


async def test_empty_lists_teach_the_next_command(visitor: Visitor, world: World) -> None:
    assert "redflow run NAME" in await visitor.words("/runs")
    assert "redflow dev shop.py" in await visitor.words("/")
    assert "redflow worker" in await visitor.words("/workers")
    assert "redflow worker" in await visitor.words("/workflows")
    assert "emit_event" in await visitor.words("/events")
    assert "CronTrigger" in await visitor.words("/schedules")


class _Tasks:
    """Two task records, one of them gone."""

    async def changes(self, limit: int) -> list[TaskChange]:
        """Three changes."""
        return [
            TaskChange("3-0", "task-b", "patched", 2, "2030-01-01T00:00:02Z", NASTY, ["status"]),
            TaskChange("2-0", "task-a", "created", 1, "2030-01-01T00:00:01Z", "new"),
            TaskChange("1-0", "task-b", "created", 1, "2030-01-01T00:00:00Z", "new"),
        ]

    async def tasks(self, ids: JsonData) -> list[Task | None]:
        """The second one."""
        return [Task(i, NASTY, "then", "now", 2, payload={"x": NASTY}) if i == "task-b" else None for i in ids]


async def test_tasks_and_their_stream(world: World) -> None:
    async with Visitor(dashboard(world.client, tasks=_Tasks())) as visitor:
        words = await visitor.words("/tasks")
        assert "task-b" in words
        assert "patched" in words
        assert "Its changes" in await visitor.words("/task?id=task-b")
        assert "There is no task task-a" in await visitor.words("/task?id=task-a", status=404)
        assert NASTY not in await visitor.get("/task?id=task-b")


async def test_a_large_history_of_steps_is_cut_into_pages(world: World, visitor: Visitor) -> None:
    async def same(item: int) -> int:
        return item

    async def many(ctx: Context) -> None:
        await ctx.step.map("item", same, list(range(450)))

    define_workflow("many", handler=many, registry=world.registry)
    handle = await world.begin(name="many")
    await world.ended(handle)
    text = await visitor.get(f"/runs/{handle.id}")
    total = len(await world.client.get_run_steps(handle.id))
    assert total >= 450
    assert text.count('class="barr run succeeded"') == 200
    assert "?step=200" in text
    assert len(text) < 600_000


# --- markup ---------------------------------------------------------------------------------------------------------


async def test_what_users_wrote_is_text_and_nothing_else(scene: Scene, visitor: Visitor) -> None:
    """In names, payloads, keys of payloads, errors, events, reasons, and in what the address says."""
    client = scene.world.client
    event = await client.emit_event_detailed(NASTY, {TURNED: TURNED}, correlation_key=NASTY)
    await client.queues.pause("app:bulk", reason=NASTY)
    paths = [
        *("/", "/runs", "/workflows", "/events", "/schedules", "/workers", "/health", f"/runs/{scene.runs['nasty']}"),
        *(f"/runs/{scene.runs['failed']}", f"/event?id={event['event_id']}", "/workflow?name=%3Cscript%3Ealert"),
        *(
            "/runs?workflow=%22%3E%3Cscript%3Ealert(1)",
            "/events?name=%22%3E%3Cscript%3Ealert(1)",
            "/%3Cscript%3Ealert(1)",
        ),
        *("/runs?status=%3Cscript%3Ealert(1)", "/runs/%3Cscript%3Ealert(1)"),
    ]
    for path in paths:
        text = (await visitor.http.get(path)).text
        assert "<script>alert" not in text, path
        assert "\u202e" not in text, f"{path}: nothing turns the direction of what follows"
        assert "\u0007" not in text, path
        assert "{{" not in text or "{{ 7 * 7 }}" in text, path
        assert " 49" not in text.partition("alert(")[2][:40], "it is no template either"


async def test_the_mask_hides_values_everywhere(scene: Scene, visitor: Visitor, world: World) -> None:
    run_id = scene.runs["failed"]
    for path in (f"/runs/{run_id}", f"/runs/{run_id}/input", f"/runs/{scene.runs['nasty']}"):
        text = await visitor.get(path)
        assert "hunter2" not in text, path
        assert "••••••" in text, path
    assert "tok-123456" not in await visitor.get(f"/runs/{scene.runs['succeeded']}")
    async with Visitor(dashboard(world.client, mask="*")) as blind:
        text = await blind.get(f"/runs/{run_id}")
        assert "4242" not in text
        assert "4242" not in await blind.get(f"/runs/{run_id}/input")


# --- size -----------------------------------------------------------------------------------------------------------


async def test_a_huge_payload_is_cut_and_can_be_had_whole(world: World, visitor: Visitor) -> None:
    async def echo(ctx: Context) -> JsonData:
        return ctx.input

    define_workflow("echo", handler=echo, registry=world.registry)
    handle = await world.begin(["x" * 100] * 20_000, name="echo")
    await world.ended(handle)
    text = await visitor.get(f"/runs/{handle.id}")
    assert len(text) < 300_000
    assert "All of it as text" in text
    assert (await visitor.get(f"/runs/{handle.id}/output")).count("x" * 100) == 20_000


# --- broken ---------------------------------------------------------------------------------------------------------


async def test_broken_records_take_no_page_down(scene: Scene, visitor: Visitor) -> None:
    redis, keys = scene.world.redis, scene.world.keys
    stored = {name: run_id.removeprefix("run_").replace("-", "") for name, run_id in scene.runs.items()}
    await redis.hset(keys.run(stored["failed"]), mapping={"e": "{half", "a": "abc", "i": "{half"})
    await redis.hset(keys.run(stored["failed too"]), mapping={"e": '{"x": [1]}'})
    await redis.hset(keys.run(stored["retrying"]), mapping={"e": '{"name": 5, "message": {"a": null}, "stack": 7}'})
    await redis.hset(keys.run(stored["asleep"]), mapping={"s:ask": "no step at all"})
    await redis.hset(keys.run(stored["queued"]), mapping={"s": "<b>odd</b>"})
    await redis.delete(keys.run(stored["scheduled"]))
    await redis.hset(f"{keys.base}event:{scene.event_id}", mapping={"d": "{half", "ts": "abc"})
    for path in ("/", "/runs", "/runs?q=x", "/events", *(f"/runs/{run_id}" for run_id in scene.runs.values())):
        answer = await visitor.http.get(path)
        assert answer.status_code < 500 or "stored record of run" in answer.text, f"{path}: {answer.text[-2000:]}"
        assert answer.status_code != 500
        assert "<b>odd" not in answer.text
    words = await visitor.words("/runs")
    assert "succeeded" in words, "the others are still there"


async def test_a_key_of_the_wrong_type_is_told(scene: Scene, visitor: Visitor) -> None:
    stored = scene.runs["failed"].removeprefix("run_").replace("-", "")
    key = scene.world.keys.run(stored)
    await scene.world.redis.delete(key)
    await scene.world.redis.set(key, "no hash")
    answer = await visitor.http.get(f"/runs/{scene.runs['failed']}")
    assert answer.status_code >= 400
    assert 'role="alert"' in answer.text
    assert "There is no run" not in answer.text


# --- away -----------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_away_never_looks_like_an_empty_list(
    private_server: Callable[[ServerOptions], ServerProcess], prefix: str
) -> None:
    server = private_server(ServerOptions())
    client = impatient(create_client(url=server.url, prefix=prefix))
    try:
        async with Visitor(dashboard(client)) as visitor:
            assert "No run yet" in await visitor.words("/")
            server.stop()
            for path in ("/", "/runs", "/workflows", "/workflow?name=w", "/events", "/event?id=e", "/schedules"):
                words = await visitor.words(path, status=503)
                assert "The server can't be reached" in words, path
                assert "127.0.0.1" in words, "it says which"
                assert "No run" not in words, path
            for path in ("/workers", "/health", "/runs/run_01a2155b-2dbc-7000-9717-d67c5de33ee4"):
                assert "can't be reached" in await visitor.words(path, status=503)
    finally:
        await client.close()


@pytest.mark.parametrize("path", ["/", "/runs", "/health"])
async def test_no_password_of_the_server_is_shown(path: str, prefix: str) -> None:
    client = impatient(create_client(url="redis://someone:s3cr3t@127.0.0.1:1", prefix=prefix))
    try:
        async with Visitor(dashboard(client)) as visitor:
            assert "s3cr3t" not in await visitor.get(path, status=503)
    finally:
        await client.close()


async def test_a_page_that_cannot_be_drawn_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours; also for those who have the page open."""
    monkeypatch.setattr("redflow.dashboard.text.short_id", lambda run_id: 1 / 0)
    await world.client.run_by_name("w", {}, queue_override="bulk")
    async with Visitor(dashboard(world.client)) as visitor:
        words = await visitor.words("/runs", status=500)
        assert "This page failed" in words
        assert "ZeroDivisionError" in words
        assert "No run" not in words
