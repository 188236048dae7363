"""What operators do to encrypted runs: retry, run again, fire, export, group; on a server that must see no secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from redflow import CronTrigger, EventTrigger, RedflowError, SearchRunsParams, define_workflow
from redflow.codec import AesGcmCodec
from redflow.domain.run import stored_run_id
from redflow.engines.redis.packing import read_record
from redflow.errors import PayloadKeyMissingError
from redflow.types import ExportedRun, JsonData, ListRunsParams, WorkflowDebounceOptions, WorkflowRetryPolicy
from tests.engines.redis.test_encryption import (
    CANARY,
    LOOKUP,
    NEW,
    Tap,
    blob,
    codec,
    everything_stored,
    flipped,
    kinds_with,
)
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, eventually, judged


@pytest.fixture
async def world(server: ServerProcess, prefix: str) -> AsyncIterator[World]:
    """A world that encrypts, and takes nothing that is plain."""
    async with judged(World(server.url, prefix, codec=codec(require=True))) as world:
        yield world


def flaky_workflow(world: World, *, size: int = 10, max_attempts: int = 2) -> dict[str, bool]:
    """`flaky` fails in its second step and before its child's result is used, as long as the switch says so."""
    broken = {"on": True}

    async def flaky(ctx: Context) -> object:
        async def one() -> object:
            world.did.append("one")
            return {"secret": CANARY, "blob": blob(size)}

        async def two() -> str:
            world.did.append(f"two {ctx.run.attempt}")
            if broken["on"]:
                raise ValueError(f"no {CANARY}" + blob(size))
            return f"paid {CANARY}"

        assert CANARY in str(ctx.input)
        first = await ctx.step.run("one", one)
        child = await ctx.step.run_workflow("child", "child", {"child": CANARY})
        return [CANARY in str(first), child, await ctx.step.run("two", two), ctx.input]

    async def child(ctx: Context) -> object:
        return ctx.input

    retries = WorkflowRetryPolicy(max_attempts=max_attempts, delay=0)
    define_workflow("flaky", handler=flaky, registry=world.registry, retries=retries)
    define_workflow("child", handler=child, registry=world.registry)
    return broken


async def failed(world: World, input: object, *, name: str = "flaky") -> str:
    handle = await world.begin(input, name=name)
    with pytest.raises(RedflowError):
        await handle.result(timeout_ms=15_000)
    return handle.id


async def exported(world: World, params: SearchRunsParams) -> list[ExportedRun]:
    return [run async for run in world.client.operate.export_runs(params)]


@pytest.mark.parametrize("size", [10, 9_000, 60_000])
async def test_a_retried_run_goes_on_with_what_it_had_and_keeps_its_traces(world: World, size: int) -> None:
    broken = flaky_workflow(world, size=size)
    data: JsonData = {"in": CANARY, "blob": blob(size)}
    run_id = await failed(world, data)
    broken["on"] = False
    handle = await world.client.operate.retry_run(run_id)
    assert await handle.result(timeout_ms=15_000) == [True, {"child": CANARY}, f"paid {CANARY}", data]
    assert world.did == ["one", "two 1", "two 2", "two 3"]
    traces = await world.client.get_run_attempts(run_id)
    assert [(trace["attempt"], trace["status"]) for trace in traces] == [(1, "failed"), (2, "failed"), (3, "succeeded")]
    for trace in traces[:2]:
        assert f"no {CANARY}" in trace["error"]["message"]
        assert f"no {CANARY}" in trace["steps"][-1]["error"]["message"]
    (run,) = await exported(world, SearchRunsParams(workflow="flaky"))
    assert (run["input"], run["attempts"]) == (data, traces)
    assert [step["name"] for step in run["steps"]] == ["one", "child", "two"]


async def test_a_retry_needs_no_key(world: World) -> None:
    broken = flaky_workflow(world)
    run_id = await failed(world, CANARY)
    broken["on"] = False
    async with judged(World(world.url, world.prefix, shards=world.shards)) as keyless:
        assert await keyless.client.operate.retry_runs([run_id]) == ["retried"]
    assert await world.client.wait_for_result(run_id) == [True, {"child": CANARY}, f"paid {CANARY}", CANARY]
    assert f"no {CANARY}" in (await world.client.get_run_attempts(run_id))[1]["error"]["message"]


@pytest.mark.parametrize("size", [10, 60_000])
async def test_a_rerun_has_the_input_encrypted_for_itself(world: World, size: int) -> None:
    broken = flaky_workflow(world, size=size)
    data: JsonData = {"in": CANARY, "blob": blob(size)}
    run_id = await failed(world, data)
    broken["on"] = False
    again = await world.client.operate.rerun(run_id)
    output = await again.result(timeout_ms=15_000)
    assert isinstance(output, list)
    assert output[3] == data
    other = await world.client.operate.rerun(again.id, input={"other": CANARY})
    output = await other.result(timeout_ms=15_000)
    assert isinstance(output, list)
    assert output[3] == {"other": CANARY}
    state = await other.get_state()
    assert state is not None
    assert state["rerun_of"] == again.id


def echoing_workflows(world: World) -> None:
    """Workflows whose input was encrypted for an event, a cron trigger or another run."""

    async def told(ctx: Context) -> object:
        world.did.append(str(ctx.run.workflow))
        return ctx.input

    def key(data: object) -> str:
        return "k"

    registry = world.registry
    define_workflow("news", handler=told, registry=registry, event=EventTrigger("news"))
    cron = CronTrigger("0 0 1 1 *", "UTC", input={"cron": CANARY, "blob": blob(6_000)})
    define_workflow("tick", handler=told, registry=registry, cron=cron)
    define_workflow("plain tick", handler=told, registry=registry, cron=CronTrigger("0 0 1 1 *", "UTC"))
    debounce = WorkflowDebounceOptions(key=key, period="100ms")
    define_workflow("burst", handler=told, registry=registry, debounce=debounce)


async def test_inputs_that_came_from_elsewhere_are_run_again(world: World) -> None:
    echoing_workflows(world)
    await world.worker()
    (delivered,) = await world.client.emit_event("news", {"news": CANARY})
    bursts = [await world.start({"n": n, "in": CANARY}, name="burst") for n in range(3)]
    await world.reaches(bursts[0], "succeeded")
    for run_id in (delivered.id, bursts[0].id):
        first = await world.client.wait_for_result(run_id)
        assert CANARY in str(first)
        assert await (await world.client.operate.rerun(run_id)).result(timeout_ms=15_000) == first
    assert (await bursts[0].result()) == {"n": 2, "in": CANARY}


async def test_a_schedule_that_is_fired_starts_a_run_that_can_read_its_input(world: World) -> None:
    echoing_workflows(world)
    await world.worker()
    schedules = {one["workflow"]: one for one in (await world.client.schedules.list())["schedules"]}
    assert CANARY in str(schedules["tick"]["input"])
    handle = await world.client.schedules.fire(schedules["tick"]["id"])
    assert await handle.result(timeout_ms=15_000) == schedules["tick"]["input"]
    again = await world.client.operate.rerun(handle.id)
    assert await again.result(timeout_ms=15_000) == schedules["tick"]["input"]
    assert "input" not in schedules["plain tick"]
    plain = await world.client.schedules.fire(schedules["plain tick"]["id"])
    assert await plain.result(timeout_ms=15_000) == {}


async def test_failures_are_found_counted_and_grouped_by_what_is_encrypted(world: World) -> None:
    broken = flaky_workflow(world, max_attempts=1)
    ids = [await failed(world, CANARY) for _ in range(3)]
    operate = world.client.operate
    (group,) = (await operate.failure_groups())["groups"]
    assert (group["workflow"], group["error"], group["count"]) == ("flaky", "ValueError", 3)
    assert f"no {CANARY}" in group["message"]
    assert (await operate.count_runs(SearchRunsParams(error="ValueError")))["count"] == 3
    assert (await operate.count_runs(SearchRunsParams(error="KeyError")))["count"] == 0
    broken["on"] = False
    done = await operate.retry_all(SearchRunsParams(error="ValueError", query=CANARY)).run()
    assert (done["changed"], done["seen"]) == (3, 3)
    for run_id in ids:
        await world.client.wait_for_result(run_id, timeout_ms=15_000)


async def test_without_the_key_lists_go_on_and_what_needs_it_says_so(world: World) -> None:
    flaky_workflow(world, max_attempts=1)
    echoing_workflows(world)
    run_id = await failed(world, CANARY)
    for other in (None, AesGcmCodec(keys=NEW, current="new", lookup_key=LOOKUP)):
        async with judged(World(world.url, world.prefix, shards=world.shards, codec=other)) as keyless:
            operate, schedules = keyless.client.operate, keyless.client.schedules
            (group,) = (await operate.failure_groups())["groups"]
            assert (group["error"], group["count"]) == ("PayloadKeyMissingError", 1)
            assert "'old'" in group["message"]
            assert (await operate.count_runs(SearchRunsParams(error="PayloadKeyMissingError")))["count"] == 1
            assert (await operate.count_runs(SearchRunsParams(query=run_id)))["count"] == 1
            assert (await operate.count_runs(SearchRunsParams(query="anything")))["count"] == 0
            listed = {one["workflow"]: one for one in (await schedules.list())["schedules"]}
            assert "'old'" in listed["tick"]["input_error"]
            metas = {meta["name"]: meta for meta in await keyless.client.list_workflows_meta()}
            assert "'old'" in metas["tick"]["cron"][0]["input_error"]
            state = await operate.inspect_run(run_id)
            assert state is not None
            assert (state["status"], state["input"], state["error"]["name"]) == (
                *("failed", None),
                "PayloadKeyMissingError",
            )
            wanted = "no codec" if other is None else "it has new"
            assert wanted in state["input_error"]
            assert wanted in state["error"]["message"]
            for refused in (
                partial(operate.rerun, run_id),
                partial(schedules.fire, listed["tick"]["id"]),
                partial(exported, keyless, SearchRunsParams()),
            ):
                with pytest.raises(PayloadKeyMissingError, match="'old'"):
                    await refused()
    assert {run["workflow"] for run in await world.client.list_runs()} == {"flaky", "child"}


async def test_a_run_that_was_tampered_with_is_left_out_alone(world: World) -> None:
    flaky_workflow(world, max_attempts=1)
    mine, other = await failed(world, CANARY), await failed(world, CANARY)
    key = f"{world.keys.base}run:{stored_run_id(mine)}"
    if world.shards > 1:
        pytest.skip("the test writes to one shard")
    # a packed record is read back into fields, so that one of them can be changed
    connection, stored = world.client.connection, stored_run_id(mine)
    assert stored is not None
    record = await read_record(connection, world.keys, stored)
    record[b"e"] = flipped(record[b"e"])
    await world.redis.delete(key)
    await world.redis.hset(key, mapping={name.decode(): value for name, value in record.items()})
    groups = {group["error"]: group["count"] for group in (await world.client.operate.failure_groups())["groups"]}
    assert groups == {"ValueError": 1, "PayloadDecodeError": 1}
    found = await world.client.search_runs(SearchRunsParams(query=CANARY, status="failed"))
    assert {run["id"] for run in found["runs"]} == {mine, other}
    record[b"s:one"], record[b"i"] = flipped(record[b"s:one"]), flipped(record[b"i"])
    await world.redis.hset(key, mapping={name.decode(): value for name, value in record.items()})
    for read in (world.client.get_run, world.client.operate.inspect_run):
        state = await read(mine)
        assert state is not None
        assert (state["input"], state["error"]["kind"]) == (None, "payload_decode")
        assert "was changed" in state["input_error"]
    assert {run["id"] for run in await exported(world, SearchRunsParams(status="failed"))} == {other}
    assert len(await world.client.list_runs(ListRunsParams(status="failed"))) == 2


@pytest.mark.parametrize("shards", [1, 3])
async def test_the_server_sees_no_text_of_users_whatever_operators_do(
    private_server: Callable[[ServerOptions], ServerProcess], prefix: str, shards: int
) -> None:
    server = private_server(ServerOptions())
    async with judged(World(server.url, prefix, shards=shards, codec=codec(require=True))) as world:
        async with Tap(server.url) as tap:
            broken = flaky_workflow(world, size=40_000)
            echoing_workflows(world)
            run_id = await failed(world, {"in": CANARY, "blob": blob(40_000)})
            operate = world.client.operate
            handle = await operate.retry_run(run_id)
            with pytest.raises(RedflowError):
                await handle.result(timeout_ms=15_000)
            meanwhile = await everything_stored(world.redis, prefix)
            broken["on"] = False
            await (await operate.retry_run(run_id)).result(timeout_ms=15_000)
            await (await operate.rerun(run_id)).result(timeout_ms=15_000)
            await (await operate.rerun(run_id, input={"again": CANARY})).result(timeout_ms=15_000)
            tick = next(one for one in (await world.client.schedules.list())["schedules"] if one["workflow"] == "tick")
            await (await world.client.schedules.fire(tick["id"])).result(timeout_ms=15_000)
            late = await world.client.run_by_name("child", CANARY, queue_override="nobody")
            assert await operate.cancel_runs([late.id], reason="the reason is readable") == ["canceled"]
            await eventually(partial(_succeeded, world, 7), "all others")
            await world.stop_workers()
            stored = await everything_stored(world.redis, prefix)
            sent = await tap.seen_all(world.redis)
        assert [line[:300] for line in sent if CANARY in line] == []
        assert kinds_with(stored, prefix) | kinds_with(meanwhile, prefix) == set()
        assert any(b"the reason is readable" in part for parts in stored.values() for part in parts)


async def _succeeded(world: World, least: int) -> bool:
    return (await world.client.get_stats())["by_status"]["succeeded"] >= least


async def test_a_rerun_takes_no_blinded_key_along(world: World) -> None:
    flaky_workflow(world)["on"] = False
    await world.worker()
    first = await world.client.emit_workflow("flaky", CANARY, idempotency_key=f"i-{CANARY}")
    await first.result(timeout_ms=15_000)
    again = await world.client.operate.rerun(first.id)
    await again.result(timeout_ms=15_000)
    found = await world.client.emit_workflow("flaky", CANARY, idempotency_key=f"i-{CANARY}")
    assert again.id != first.id == found.id


async def test_a_retried_run_holds_its_blinded_key_again(world: World) -> None:
    broken = flaky_workflow(world, max_attempts=1)
    await world.worker()
    first = await world.client.emit_workflow("flaky", CANARY, idempotency_key=f"i-{CANARY}")
    with pytest.raises(RedflowError):
        await first.result(timeout_ms=15_000)
    broken["on"] = False
    await world.client.operate.retry_run(first.id)
    same = await world.client.emit_workflow("flaky", CANARY, idempotency_key=f"i-{CANARY}")
    assert same.id == first.id
    await asyncio.wait_for(first.result(), 15)
