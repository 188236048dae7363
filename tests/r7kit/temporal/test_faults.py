"""Redis away, Temporal restarted, workers killed: no flow fails, nothing is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from r7kit import config
from r7kit.runtimes.temporal import TemporalOptions, set_temporal_options
from tests.r7kit.temporal import flows
from tests.r7kit.temporal.stage import Stage
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.temporal import TemporalProcess
from tests.support.world import eventually, soon

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]


@contextmanager
def worker_process(queue: str, log: Path, *, grace_s: float = 10) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that takes work, killed at the end if it still runs."""
    settings = config.current()
    told = [settings.redis_url, settings.temporal_address, settings.stream_default, queue, str(grace_s)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.r7kit.temporal.worker_program", *told],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def takes_work(log: Path) -> None:
    await soon(lambda: "takes work" in log.read_text("utf-8"), "a worker that takes work", timeout_s=40)


async def ended(process: subprocess.Popen[bytes]) -> int:
    await soon(lambda: process.poll() is not None, "the end of the worker", timeout_s=20)
    return process.wait()


@pytest.fixture
def own_redis(
    private_server: Callable[[ServerOptions], ServerProcess], temporal: TemporalProcess, settings: config.Settings
) -> ServerProcess:
    server = private_server(ServerOptions(appendonly=True))
    config.configure(redis_url=server.url, temporal_address=temporal.address)
    return server


async def test_redis_away_for_30_seconds_fails_no_flow(own_redis: ServerProcess, prefix: str) -> None:
    async with Stage(prefix) as stage:
        waiting = [await stage.start(flows.Waits, 3) for _ in range(5)]
        for handle, _ in waiting:
            await eventually(handle.describe, "a flow that waits", until=lambda seen: seen.history_length > 20)
        own_redis.kill()
        for handle, _ in waiting:
            await handle.signal("go")
        timed = await (await stage.client()).start_workflow(
            "Timed", id=f"{prefix}-timed", task_queue=prefix, memo={"r7kit.task": {"uuid": "x", "shared": True}}
        )
        assert await timed.result() == "r7kit.patch was not done in time"
        await asyncio.sleep(30)  # what this is about
        own_redis.start()
        for handle, uuid in waiting:
            assert await handle.result() == 3
            patched = [entry[2] for entry in await stage.entries(uuid) if entry[0] == "patched"]
            assert patched == [[f"payload.{when}-{n}"] for when in ("before", "after") for n in range(3)]


@pytest.fixture
def durable_temporal() -> Iterator[TemporalProcess]:
    with TemporalProcess(durable=True) as temporal:
        yield temporal


async def test_temporal_restarted_loses_nothing(
    settings: config.Settings, durable_temporal: TemporalProcess, prefix: str
) -> None:
    config.configure(temporal_address=durable_temporal.address)
    async with Stage(prefix) as stage:
        waiting = [await stage.start(flows.Waits, 2) for _ in range(3)]
        for handle, _ in waiting:
            await eventually(handle.describe, "a flow that waits", until=lambda seen: seen.history_length > 14)
        durable_temporal.kill()
        await asyncio.to_thread(durable_temporal.start)
        for handle, uuid in waiting:
            await handle.signal("go")
            assert await handle.result() == 2
            assert [entry[1] for entry in await stage.entries(uuid)] == [1, 2, 3, 4, 5]


async def test_a_killed_worker_is_taken_over(
    settings: config.Settings, temporal: TemporalProcess, prefix: str, tmp_path: Path
) -> None:
    config.configure(temporal_address=temporal.address)
    log = tmp_path / "worker.log"
    stage = Stage(prefix)  # only to look
    with worker_process(prefix, log) as first:
        await takes_work(log)
        started = [await stage.start(flows.Waits, 20) for _ in range(2)]
        uuids = [uuid for _, uuid in started]

        async def half_way() -> bool:
            return all([len(await stage.entries(uuid)) > 5 for uuid in uuids])

        await eventually(half_way, "flows that are at it")
        first.kill()
        first.wait()
    assert not all([len(await stage.entries(uuid)) == 21 for uuid in uuids]), "killed too late to mean anything"
    async with Stage(prefix):
        for handle, uuid in started:
            await handle.signal("go")
            assert await handle.result() == 20
            entries = await stage.entries(uuid)
            assert [entry[1] for entry in entries] == list(range(1, 42))
            names = [entry[2][0] for entry in entries if entry[0] == "patched"]
            assert len(names) == len(set(names)) == 40
    await stage.redis.aclose()


async def test_sigterm_drains_and_exits_0(
    settings: config.Settings, temporal: TemporalProcess, prefix: str, tmp_path: Path
) -> None:
    config.configure(temporal_address=temporal.address)
    log = tmp_path / "worker.log"
    stage = Stage(prefix)
    with worker_process(prefix, log) as process:
        await takes_work(log)
        handle, uuid = await stage.start(flows.Drains)
        await eventually(lambda: stage.record(uuid), "a flow in its activity", until=lambda r: "payload.begun" in r)
        await eventually(
            handle.describe, "a pending activity", until=lambda d: bool(d.raw_description.pending_activities)
        )
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    assert "finishing what runs" in log.read_text("utf-8")
    async with Stage(prefix):
        assert await handle.result() == 1, "the activity was not tried a second time: it was finished"
    await stage.redis.aclose()


async def test_an_activity_that_hangs_does_not_hang_the_exit(
    settings: config.Settings, temporal: TemporalProcess, prefix: str, tmp_path: Path
) -> None:
    config.configure(temporal_address=temporal.address)
    log = tmp_path / "worker.log"
    stage = Stage(prefix)
    with worker_process(prefix, log, grace_s=0.5) as process:
        await takes_work(log)
        handle, _ = await stage.start(flows.Hangs)
        await soon(lambda: "it hangs" in log.read_text("utf-8"), "an activity that hangs")
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    assert "another worker will take it over" in log.read_text("utf-8")
    await handle.terminate()
    await stage.redis.aclose()


class _LosesAnswers(Interceptor):
    """Does each of r7kit's activities, and then fails its first try as if the answer had been lost."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _LosesOneAnswer(next)


class _LosesOneAnswer(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        reply: object = await super().execute_activity(input)
        if activity.info().activity_type.startswith("r7kit.") and activity.info().attempt == 1:
            raise ConnectionError("the answer was lost")
        return reply


async def test_an_operation_whose_answer_is_lost_is_written_once(
    settings: config.Settings, temporal: TemporalProcess, prefix: str
) -> None:
    config.configure(temporal_address=temporal.address)
    set_temporal_options(TemporalOptions(worker_options={"interceptors": [_LosesAnswers()]}))
    try:
        async with Stage(prefix) as stage:
            handle, uuid = await stage.start(flows.MyFlow, payload={"input": 1})
            assert await handle.result() == 2
            entries = await stage.entries(uuid)
            assert [(entry[0], entry[1]) for entry in entries] == [
                ("created", 1), ("patched", 2), ("patched", 3), ("deleted", 4),
            ]  # fmt: skip
    finally:
        set_temporal_options(TemporalOptions())
