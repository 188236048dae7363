"""Each action over HTTP, judged by what the client sees afterwards."""

from __future__ import annotations

import json

from redflow.types import ListRunsParams, SearchRunsParams
from tests.dashboard.scene import Scene
from tests.dashboard.visitor import Visitor
from tests.support.world import World, eventually


async def status(world: World, run_id: str) -> str:
    """The status of a run."""
    state = await world.client.get_run(run_id)
    return "gone" if state is None else state["status"]


async def test_cancel(scene: Scene, visitor: Visitor) -> None:
    assert "is canceled" in await visitor.done("cancel-run", id=scene.runs["asleep"])
    assert await status(scene.world, scene.runs["asleep"]) == "canceled"
    assert "had ended already" in await visitor.done("cancel-run", id=scene.runs["succeeded"])


async def test_retry_goes_on_at_the_failed_step(scene: Scene, visitor: Visitor) -> None:
    assert "goes on" in await visitor.done("retry-run", id=scene.runs["failed"])
    answer = await visitor.do("retry-run", id=scene.runs["succeeded"])
    assert answer.status_code == 409
    assert "only a failed run can be retried" in answer.text


async def test_run_again_with_edited_input_keeps_what_is_masked(scene: Scene, visitor: Visitor) -> None:
    """The page shows dots in place of the password; the new run gets the password."""
    edited = json.dumps({"card": "1111", "password": "••••••"})
    answer = await visitor.do("rerun", id=scene.runs["failed"], input=edited)
    new_id = answer.headers["hx-redirect"].rpartition("/")[2]
    state = await scene.world.client.get_run(new_id)
    assert state is not None
    assert state["input"] == {"card": "1111", "password": "hunter2"}
    assert state["rerun_of"] == scene.runs["failed"]
    plain = await visitor.do("rerun", id=scene.runs["failed"])
    again = await scene.world.client.get_run(plain.headers["hx-redirect"].rpartition("/")[2])
    assert again is not None
    assert again["input"] == {"card": "4242", "password": "hunter2"}


async def test_input_that_is_no_json_is_refused_with_its_place(scene: Scene, visitor: Visitor) -> None:
    for text, words in (("{half", "line 1, column 2"), ("[" * 100_000, "be read: "), ("NaN", "has no JSON")):
        answer = await visitor.do("rerun", id=scene.runs["failed"], input=text)
        assert answer.status_code in (400, 409), text[:20]
        assert words in answer.text, answer.text[:300]


async def test_ticked_runs(scene: Scene, visitor: Visitor) -> None:
    ids = ",".join([scene.runs["asleep"], scene.runs["retrying"], scene.runs["succeeded"]])
    assert "2 of 3 runs" in await visitor.done("cancel-chosen", ids=ids)
    both = f"{scene.runs['failed']},{scene.runs['failed too']}"
    assert "2 of 2 runs go on" in await visitor.done("retry-chosen", ids=both)
    for bad in ("", ",".join(["run_x"] * 201)):
        assert (await visitor.do("retry-chosen", ids=bad)).status_code == 400


async def test_a_bulk_action_shows_the_count_first_and_holds_to_it(scene: Scene, visitor: Visitor) -> None:
    preview = await visitor.get("/bulk?action=cancel&filters=workflow%3Dapproval")
    assert "<b>1</b>" in preview
    assert 'name="expected" value="1"' in preview
    assert await status(scene.world, scene.runs["asleep"]) == "scheduled", "nothing was done yet"
    assert "cancel of 1 runs" in await visitor.done("bulk", action="cancel", filters="workflow=approval", expected="1")
    await eventually(lambda: status(scene.world, scene.runs["asleep"]), "the end of the job", until="canceled".__eq__)
    assert await status(scene.world, scene.runs["retrying"]) == "scheduled", "only what the filter finds"
    await eventually(lambda: visitor.get("/jobs"), "the job's end", until=lambda text: "done" in text)
    assert "1 changed" in await visitor.get("/jobs")


async def test_a_bulk_action_on_far_more_than_was_shown_is_refused(scene: Scene, visitor: Visitor) -> None:
    for number in range(15):
        await scene.world.client.run_by_name("parcel", {"number": number}, queue_override="bulk")
    answer = await visitor.do("bulk", action="cancel", filters="queue=app:bulk", expected="1")
    assert answer.status_code == 400
    assert "There are 16 runs now, not 1" in answer.text
    found = await scene.world.client.search_runs(SearchRunsParams(queue="app:bulk", status="queued"))
    assert len(found["runs"]) == 16


async def test_a_bulk_action_with_a_bad_filter_is_refused(visitor: Visitor) -> None:
    for filters in ("status=odd", "since=soon", "status=succeeded"):
        assert (await visitor.do("bulk", action="cancel", filters=filters, expected="99")).status_code in (400, 409)
    assert (await visitor.do("bulk", action="purge", filters="", expected="99")).status_code == 400
    assert (await visitor.http.get("/bulk?action=purge")).status_code == 400


async def test_start_by_the_form_of_the_schema(scene: Scene, visitor: Visitor) -> None:
    form = {"id": "order", "field.number": "5", "field.speed": '"fast"', "field.gift": "true", "field.note": "a, b"}
    answer = await visitor.do("start", **form)
    run_id = answer.headers["hx-redirect"].rpartition("/")[2]
    state = await scene.world.client.get_run(run_id)
    assert state is not None
    assert state["input"] == {"number": 5, "speed": "fast", "gift": True, "note": "a, b"}
    missing = await visitor.do("start", id="order")
    assert missing.status_code == 400
    assert "number is missing" in missing.text
    unknown = await visitor.do("start", id="ordr", input="{}")
    assert unknown.status_code == 409
    assert "Unknown workflow" in unknown.text


async def test_start_with_json_and_a_key(scene: Scene, visitor: Visitor) -> None:
    form = {"id": "order", "as": "json", "input": '{"number": 6}', "idempotency_key": "k"}
    first, again = await visitor.do("start", **form), await visitor.do("start", **form)
    assert first.headers["hx-redirect"] == again.headers["hx-redirect"]


async def test_emit(scene: Scene, visitor: Visitor) -> None:
    answer = await visitor.do("emit", name="order.approved", key="order-17", data='{"ok": true}')
    assert answer.headers["hx-redirect"].startswith("/event?id=")
    await eventually(lambda: status(scene.world, scene.runs["asleep"]), "the run that waited", until="succeeded".__eq__)
    assert scene.runs["asleep"][-8:] in await visitor.get(answer.headers["hx-redirect"])
    assert (await visitor.do("emit", name=" ", data="{}")).status_code == 409


async def test_pause_and_resume(scene: Scene, visitor: Visitor) -> None:
    client = scene.world.client
    await visitor.done("pause-workflow", id="order", reason="stock is counted")
    await visitor.done("pause-queue", id="app:default")
    paused = (await client.get_stats())["paused"]
    assert paused == {"queues": ["app:default"], "workflows": ["order"]}
    words = await visitor.words("/workflow?name=order")
    assert "paused" in words
    assert "paused" in await visitor.words("/")
    await visitor.done("resume-workflow", id="order")
    await visitor.done("resume-queue", id="app:default")
    assert "paused" not in await client.get_stats()
    assert (await visitor.do("pause-queue", id="app:none")).status_code == 409


async def test_schedules(scene: Scene, visitor: Visitor) -> None:
    client = scene.world.client
    [schedule] = (await client.schedules.list())["schedules"]
    await visitor.done("pause-schedule", id=schedule["id"])
    assert "paused" in await client.schedules.get(schedule["id"])
    assert "paused" in await visitor.words("/schedules")
    await visitor.done("resume-schedule", id=schedule["id"])
    assert "paused" not in await client.schedules.get(schedule["id"])
    answer = await visitor.do("fire-schedule", id=schedule["id"])
    run_id = answer.headers["hx-redirect"].rpartition("/")[2]
    assert run_id in [run["id"] for run in await client.list_runs(ListRunsParams(workflow="report"))]


async def test_drain(scene: Scene, visitor: Visitor) -> None:
    client = scene.world.client
    [worker] = (await client.workers.list())["workers"]
    await visitor.done("drain-worker", id=worker["id"])
    assert (await client.workers.get(worker["id"]))["draining"] == "idle"
    assert "draining" in await visitor.words("/workers")
    await visitor.done("resume-worker", id=worker["id"])
    assert "draining" not in await client.workers.get(worker["id"])


async def test_an_action_without_its_subject_or_name(visitor: Visitor) -> None:
    assert (await visitor.do("cancel-run")).status_code == 400
    assert (await visitor.do("explode", id="x")).status_code == 404
    assert (await visitor.do("cancel-run", id="no run")).status_code == 200
