"""Each screen on real data, over HTTP: what it says agrees with what was done."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio

from redflow.dashboard import dashboard
from redflow.types import ALL_STATUSES, ListRunsParams, SearchRunsParams
from tests.dashboard.scene import Scene, set_up
from tests.dashboard.visitor import Visitor
from tests.support.servers import ServerProcess
from tests.support.world import World

# One scene for all: nothing here changes it.
pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = ("succeeded", "failed", "asleep", "retrying", "running", "scheduled", "queued", "canceled")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(server: ServerProcess) -> AsyncIterator[Scene]:
    """A run in every state."""
    world = World(server.url, f"screens-{secrets.token_hex(4)}")
    made = await set_up(world)
    yield made
    made.go.set()
    await world.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def visitor(scene: Scene) -> AsyncIterator[Visitor]:
    """A visitor who may do everything."""
    async with Visitor(dashboard(scene.world.client, enable_actions=True)) as made:
        yield made


def rows(text: str) -> list[str]:
    """Ids of the runs in a list, in order."""
    return re.findall(r'id="r-(run_[0-9a-f-]+)"', text)


def figure(text: str, name: str) -> int:
    """A figure of the Overview."""
    found = re.search(rf'data-figure="{name}">([^<]*)<', text)
    assert found is not None, name
    return int(found[1].replace("\u202f", ""))


# --- runs -----------------------------------------------------------------------------------------------------------


async def test_the_list_of_runs_tells_states_apart(scene: Scene, visitor: Visitor) -> None:
    text = await visitor.get("/runs")
    assert set(rows(text)) >= set(scene.runs.values())
    for state in STATES:
        row = text.partition(f'id="r-{scene.runs[state]}"')[2].partition("</tr>")[0]
        assert f'class="state {state}"' in row, "the shape"
        assert f"</svg>{state}<" in row, "the word"
    assert "<b>CardDeclined</b>" in text


async def test_filters_stand_in_the_address(scene: Scene, visitor: Visitor) -> None:
    async def found(**query: str) -> set[str]:
        return set(rows(await visitor.get(f"/runs?{urlencode(query)}")))

    runs = scene.runs
    failed = {runs["failed"], runs["failed too"]}
    assert await found(status="failed") == failed
    assert await found(workflow="payment", since="1h") == failed
    assert await found(error="CardDeclined") == failed
    assert await found(q="4242") == {runs["failed"]}
    assert await found(queue="app:bulk") == {runs["queued"], runs["canceled"]}
    assert len(await found(parent=runs["succeeded"])) == 1
    assert await found(status="succeeded", workflow="payment") == set()
    text = await visitor.get("/runs?status=failed&q=4242&size=25")
    assert "<option selected>failed</option>" in text
    assert 'value="4242"' in text


async def test_pages_follow_each_other_without_gap(scene: Scene, visitor: Visitor) -> None:
    seen: list[str] = []
    path: str | None = "/runs?size=5"
    while path is not None:
        text = await visitor.get(path)
        seen += rows(text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = following[1].replace("&amp;", "&") if following else None
    listed = [run["id"] for run in await scene.world.client.list_runs(ListRunsParams(limit=100))]
    assert seen == listed


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=nonsense", "status must be one of"),
        ("since=soon", "since must be a length of time"),
        ("size=9999999999", "size must be a number from 1 to 200"),
        (f"q={'x' * 1001}", "query is too long"),
        ("q=%ff%fe", "No run matches"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_no_empty_list(
    query: str, words: str, scene: Scene, visitor: Visitor
) -> None:
    bad = "must be" in words or "too long" in words
    shown = await visitor.words(f"/runs?{query}", status=400 if bad else 200)
    assert words in shown
    assert ("No run" in shown) is not bad


async def test_a_page_of_runs_costs_no_look_up_per_row(scene: Scene, visitor: Visitor) -> None:
    """As many commands for 12 runs as for 5."""

    async def calls() -> int:
        stats = await scene.world.redis.info("commandstats")
        return int(stats["cmdstat_hmget"]["calls"])

    async def trips(path: str) -> int:
        before = await calls()
        await visitor.get(path)
        return await calls() - before

    few, many = await trips("/runs?size=2"), await trips("/runs?size=200")
    assert many - few <= 12, "one HMGET a run, all in one trip, and nothing besides"


# --- a run ----------------------------------------------------------------------------------------------------------


async def test_a_run_shows_its_life(scene: Scene, visitor: Visitor) -> None:
    text = await visitor.get(f"/runs/{scene.runs['succeeded']}")
    for name in ("reserve", "cooling off", "ship", "mail", "Attempt 1", "Before the first start"):
        assert name in text
    assert re.search(r'class="barr sleep succeeded"', text), "a finished sleep is no work"
    assert re.search(r'class="barr child succeeded"', text)
    assert "parcel 17" in text
    [child] = (await scene.world.client.search_runs(SearchRunsParams(parent_run_id=scene.runs["succeeded"])))["runs"]
    assert f"/runs/{child['id']}" in text
    assert "What became of it" in text


async def test_bars_are_to_scale(scene: Scene, visitor: Visitor) -> None:
    run_id = scene.runs["succeeded"]
    text = await visitor.get(f"/runs/{run_id}")
    state = await scene.world.client.get_run(run_id)
    steps = {step["name"]: step for step in await scene.world.client.get_run_steps(run_id)}
    assert state is not None
    nap, whole = steps["cooling off"], state["finished_at"] - state["created_at"]
    bar = re.search(r'class="barr sleep succeeded" x="([\d.]+)%" width="([\d.]+)%"', text)
    assert bar is not None
    assert float(bar[1]) == pytest.approx((nap["started_at"] - state["created_at"]) * 100 / whole, abs=0.1)
    assert float(bar[2]) == pytest.approx((nap["finished_at"] - nap["started_at"]) * 100 / whole, abs=0.1)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("asleep", "waits for event 'order.approved' with key 'order-17'"),
        ("retrying", "Attempt 2 of 3 begins at"),
        ("running", "executes it: attempt 1 of 3"),
        ("scheduled", "It is to start at"),
        ("queued", "no live worker serves its queue 'app:bulk'"),
        ("canceled", "ordered twice"),
        ("failed", "card declined"),
    ],
)
async def test_a_run_says_why_it_is_where_it_is(which: str, words: str, scene: Scene, visitor: Visitor) -> None:
    assert words in await visitor.words(f"/runs/{scene.runs[which]}")


async def test_a_run_as_a_pytest_test_runs(scene: Scene, visitor: Visitor) -> None:
    text = await visitor.words(f"/runs/{scene.runs['failed']}")
    assert "async def test_payment_as_in_" in text
    assert "assert type(result.error).__name__ == 'CardDeclined'" in text


async def test_payloads_can_be_had_whole_as_text(scene: Scene, visitor: Visitor) -> None:
    answer = await visitor.http.get(f"/runs/{scene.runs['succeeded']}/step?seq=1")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert '"lamp"' in answer.text
    assert (await visitor.http.get(f"/runs/{scene.runs['queued']}/output")).status_code == 404


async def test_a_run_that_is_not_there_is_said_to_be_so(scene: Scene, visitor: Visitor) -> None:
    for run_id in ("run_00000000-0000-7000-8000-000000000000", "x", quote("<b>"), "%00", "a" * 5000):
        assert "There is no run" in await visitor.words(f"/runs/{run_id}", status=404)


# --- the other screens ----------------------------------------------------------------------------------------------


async def test_figures_of_the_overview_agree_with_a_recount(scene: Scene, visitor: Visitor) -> None:
    text = await visitor.get("/")
    listed = await scene.world.client.list_runs(ListRunsParams(limit=1000))
    counted = {status: sum(run["status"] == status for run in listed) for status in ALL_STATUSES}
    assert {status: figure(text, status) for status in ALL_STATUSES} == counted
    assert figure(text, "total") == len(listed)
    assert figure(text, "span-created") == len(listed)
    assert figure(text, "span-failed") == counted["failed"] == 2
    assert figure(text, "workers") == 1
    group = re.search(r">([\d]+)</a></td><th scope=\"row\"><a href=\"/workflow\?name=payment\"", text)
    assert group is not None
    assert int(group[1]) == 2
    queued = [run for run in listed if run["status"] == "queued"]
    assert min(queued, key=lambda run: run["created_at"])["id"] in text


async def test_workflows_and_their_counts(scene: Scene, visitor: Visitor) -> None:
    text = await visitor.get("/workflows")
    for name in ("order", "payment", "approval"):
        assert f">{name}</a>" in text
    assert 'href="/runs?workflow=payment&amp;status=failed">2</a>' in text


async def test_a_start_form_is_made_from_the_schema(scene: Scene, visitor: Visitor) -> None:
    text = await visitor.get("/workflow?name=order")
    assert 'name="field.number"' in text
    assert '<option value="&#34;fast&#34;">' in text
    assert "of the order; at least 1" in text
    assert "integer" in text


async def test_events_and_their_deliveries(scene: Scene, visitor: Visitor) -> None:
    assert "order.paid" in await visitor.words("/events")
    words = await visitor.words(f"/event?{urlencode({'id': scene.event_id})}")
    assert "delivered" in words
    assert "review" in words
    assert "order-17" in words
    assert "No event matches" in await visitor.words("/events?fanout=partial")
    assert "There is no event nix" in await visitor.words("/event?id=nix", status=404)


async def test_schedules_workers_and_health(scene: Scene, visitor: Visitor) -> None:
    words = await visitor.words("/schedules")
    assert "0 8 * * *" in words
    assert "Europe/Berlin" in words
    words = await visitor.words("/workers")
    assert "1 /20" in words
    assert "nobody serves it" in words
    report = await scene.world.client.doctor()
    words = await visitor.words("/health")
    assert all(finding["text"] in words for finding in report["findings"])
    assert report["losses"]["machine dies"] in words
