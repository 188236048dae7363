"""Workers and clients killed, Redis away: no flow fails, nothing is lost, nothing is written twice.

What Temporal brings along of this is tested in tests/r7kit/temporal/test_faults.py.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from temporalio.service import RPCError

from r7kit import config
from r7kit.engines import close_engines, current_engine
from r7kit.exceptions import EngineFeatureError
from r7kit.operations import START_TTL_S, CreateTask, DeleteTask
from r7kit.runtimes.redflow.engine import RedflowEngine
from r7kit.runtimes.redflow.values import read_input
from r7kit.runtimes.temporal.engine import TemporalEngine
from r7kit.stores import close_stores, current_store
from r7kit.tasks import get_task, watch
from redflow.types import ListRunsParams
from tests.r7kit.records.raw import Raw
from tests.r7kit.redflow import flows
from tests.r7kit.redflow.stage import Program, arguments, worker
from tests.r7kit.scenarios.world import ENGINES, World
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.temporal import TemporalProcess
from tests.support.world import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

FLOWS = "tests.r7kit.redflow.flows"


@pytest.fixture
async def redflow(settings: config.Settings, prefix: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The engine redflow, under a prefix of the test's own."""
    monkeypatch.setenv("REDFLOW_PREFIX", prefix)
    config.configure(engine="redflow")
    yield
    await close_engines()
    await close_stores()


@pytest.fixture(params=ENGINES)
def either(
    request: pytest.FixtureRequest, settings: config.Settings, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Either engine; gives its name."""
    monkeypatch.setenv("REDFLOW_PREFIX", prefix)
    config.configure(engine=request.param)
    if request.param == "temporal":
        temporal: TemporalProcess = request.getfixturevalue("temporal")
        config.configure(temporal_address=temporal.address)
    return str(request.param)


@pytest.fixture
async def raw(settings: config.Settings) -> AsyncIterator[Raw]:
    raw = Raw(settings.redis_url, settings.stream_default)
    yield raw
    await raw.close()


async def test_a_killed_worker_is_taken_over_and_nothing_is_doubled(
    redflow: None, raw: Raw, prefix: str, tmp_path: Path
) -> None:
    with worker(prefix, tmp_path / "first.log") as first:
        await first.says("takes work")
        started = [await flows.Counts.start(60, 0.03, queue=prefix) for _ in range(4)]

        async def half_way() -> bool:
            return all([len(await raw.events(uuid)) > 6 for _, uuid in started])

        await eventually(half_way, "flows that are at it")
        first.kill()
    for _, uuid in started:
        assert len(await raw.events(uuid)) < 62, "killed too late to mean anything"
    with worker(prefix, tmp_path / "second.log"):
        for handle, uuid in started:
            assert await handle.result() == 60
            events = await raw.events(uuid)
            assert [event["ver"] for event in events] == list(range(1, 63))
            task = await get_task(uuid)
            assert task.payload == {"last": 59} | {f"n{number}": number for number in range(60)}
            assert (task.status, task.ver) == ("done", 62)


async def test_redis_away_fails_no_flow(
    redflow: None,
    private_server: Callable[[ServerOptions], ServerProcess],
    prefix: str,
) -> None:
    """Away for longer than a lease (5 s) and any call's patience (3 s): what follows does not depend on how long."""
    server = private_server(ServerOptions(appendonly=True))
    config.configure(redis_url=server.url)
    raw = Raw(server.url, config.current().stream_default)
    async with World(prefix, FLOWS):
        started = [await flows.Counts.start(30, 0.05, queue=prefix) for _ in range(5)]
        results = [asyncio.ensure_future(handle.result()) for handle, _ in started]

        async def at_it() -> bool:
            return all([len(await raw.events(uuid)) > 3 for _, uuid in started])

        await eventually(at_it, "flows that are at it")
        server.kill()
        await asyncio.sleep(9)  # what this is about
        server.start()
        assert await asyncio.gather(*results) == [30] * 5
        await raw.close()
        raw = Raw(server.url, config.current().stream_default)
        for _, uuid in started:
            assert [event["ver"] for event in await raw.events(uuid)] == list(range(1, 33))
    await raw.close()


async def test_sigterm_drains_and_exits_0(redflow: None, prefix: str, tmp_path: Path) -> None:
    with worker(prefix, tmp_path / "worker.log") as program:
        await program.says("takes work")
        handle, uuid = await flows.Drains.start(queue=prefix)
        await eventually(lambda: get_task(uuid), "a flow that has begun", until=lambda task: task.status == "begun")
        program.process.send_signal(signal.SIGTERM)
        assert await program.end() == 0
        assert (await get_task(uuid)).status == "ended"
        assert await handle.result() == program.process.pid
    assert "finishing what runs" in program.text()


async def test_a_client_killed_at_any_point_leaves_no_orphan_and_no_double_task(
    either: str, raw: Raw, prefix: str, tmp_path: Path
) -> None:
    with worker(prefix, tmp_path / "worker.log") as serving:
        await serving.says("takes work")
        clients = Program("tests.r7kit.redflow.client_program", [*arguments(prefix), prefix], tmp_path / "clients.log")
        assert await clients.end() == 0, clients.text()
        told = [(uuid, end) for uuid, end in (line.split() for line in clients.text().splitlines())]
        assert len(told) >= 6
        assert [end for _, end in told] == ["killed"] * (len(told) - 2) + ["started"] * 2
        left = [await _what_is_left(raw, uuid) for uuid, _ in told]
    await close_engines()
    await close_stores()
    assert left[-2:] == ["done", "done"]
    # The points before the flow is started leave nothing for long; those after it lead to its end.
    assert left == sorted(left, key=["nothing", "vanishing", "done"].index)
    assert set(left) == {"nothing", "vanishing", "done"}


async def _what_is_left(raw: Raw, uuid: str) -> str:
    """How a start ended: with a flow that does its task, or with a record that vanishes, or with nothing."""
    if await _flows_of(uuid):
        await eventually(lambda: raw.record(uuid), "the flow's end", until=lambda r: r.get("status") == "done")
        assert await _flows_of(uuid) == 1
        assert await raw.ttl_s(uuid) > START_TTL_S
        assert [event["event"] for event in await raw.events(uuid)] == ["created", "patched"]
        return "done"
    record = await raw.record(uuid)
    if not record:
        return "nothing"
    assert "starting" in record
    assert 0 < await raw.ttl_s(uuid) <= START_TTL_S
    return "vanishing"


async def _flows_of(uuid: str) -> int:
    """How many flows there are for a task."""
    engine = await current_engine()
    if isinstance(engine, TemporalEngine):
        client = await engine.client()
        try:
            await client.get_workflow_handle(uuid).describe()
        except RPCError:
            return 0
        return 1  # a workflow id is used once
    assert isinstance(engine, RedflowEngine)
    runs = await engine.client.list_runs(ListRunsParams(workflow="Doubles", limit=200))
    states = [await engine.client.get_run(run["id"]) for run in runs]
    return sum(read_input(state["input"], state["id"]).task_id == uuid for state in states if state is not None)


async def test_a_start_that_never_got_to_its_flow_can_be_repeated(redflow: None, raw: Raw, prefix: str) -> None:
    store = await current_store()
    await store.create(CreateTask(prefix, "of a client that was killed", payload={"input": 21}))
    async with World(prefix, FLOWS):
        handle, uuid = await flows.Doubles.start(uuid=prefix, payload={"input": 21}, queue=prefix)
        assert await handle.result() == 42
        assert [event["event"] for event in await raw.events(uuid)] == ["created", "patched"]
        assert await raw.ttl_s(uuid) > START_TTL_S


async def test_a_flow_taken_up_after_its_record_vanished_writes_it_again(redflow: None, raw: Raw, prefix: str) -> None:
    handle, uuid = await flows.Doubles.start(payload={"input": 21}, queue=prefix)
    await raw.redis.delete(f"task:{uuid}", f"task:{uuid}:ops")  # as after 60 s, if the client died before it confirmed
    async with World(prefix, FLOWS):
        assert await handle.result() == 42
    assert (await get_task(uuid)).payload == {"input": 21}


async def test_the_task_of_a_sleeping_flow_stays_alive(redflow: None, raw: Raw, prefix: str) -> None:
    config.configure(task_ttl=3)
    async with World(prefix, FLOWS):
        handle, uuid = await flows.SleepsLong.start(5, payload={"given": "still here"}, queue=prefix)
        assert await handle.result() == "still here"
        assert 0 < await raw.ttl_s(uuid) <= 3


async def test_temporals_functions_are_refused_by_name(redflow: None, prefix: str) -> None:
    async with World(prefix, FLOWS) as world:
        seen = await world.play(flows.UsesTemporal)
        assert isinstance(seen.outcome, tuple)
        assert seen.outcome[0] == "EngineFeatureError"
        assert "workflow.sleep" in seen.outcome[1]
        assert "engine redflow" in seen.outcome[1]
        handle, _ = await flows.SleepsLong.start(0.1, payload={"given": 1}, queue=prefix)
        for feature in ("signal", "query", "execute_update"):
            with pytest.raises(EngineFeatureError, match="redflow does not have"):
                await getattr(handle, feature)("go")
        with pytest.raises(EngineFeatureError, match="search attributes"):
            await flows.SleepsLong.start(0.1, queue=prefix, search={"R7Note": "x"})
        assert await handle.result() == "1"


def test_a_second_event_loop_works(either: str, prefix: str, tmp_path: Path) -> None:
    async def use(program: Program) -> int:
        await program.says("takes work")
        handle, uuid = await flows.Doubles.start(payload={"input": 4}, queue=prefix)
        result = await handle.result()
        assert (await get_task(uuid)).status == "done"
        return int(str(result))

    with worker(prefix, tmp_path / "worker.log") as program:
        assert [asyncio.run(use(program)) for _ in range(3)] == [8, 8, 8]


async def test_an_acl_of_the_keys_that_are_used_is_enough(
    redflow: None, private_server: Callable[[ServerOptions], ServerProcess], prefix: str
) -> None:
    stream = config.current().stream_default
    keys = f"~task:* ~{stream} ~{prefix}* resetchannels &{prefix}*"
    server = private_server(ServerOptions(users=(f"app on >s3cret {keys} +@all -@dangerous -@admin",)))
    config.configure(redis_url=server.url.replace("redis://", "redis://app:s3cret@"))
    async with World(prefix, FLOWS):
        handle, uuid = await flows.Doubles.start(payload={"input": 3}, queue=prefix)
        assert await handle.result() == 6
        await (await current_store()).delete(DeleteTask(uuid, "end"))
        assert [change.event async for change in watch(uuid)] == ["created", "patched", "deleted"]


@pytest.fixture(autouse=True)
def _no_leftover_settings() -> Iterator[None]:
    yield
    config.reset()
