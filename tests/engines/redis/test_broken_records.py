"""Any field of any stored record may be broken: its own run, event or trigger suffers, no other, and no process dies.

A scene has runs in every state, an event, triggers and a worker's record. One field of it is broken at random, then
workers work it off. What stands beside the broken record must come out as if nothing were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from redflow import CronTrigger, EventTrigger, RedflowError, SearchRunsParams, define_workflow
from redflow.domain.run import stored_run_id
from redflow.handle import RunHandle
from redflow.types import JsonData, WorkflowRetryPolicy
from tests.support.servers import ServerProcess
from tests.support.world import Context, World

KINDS = ("queued", "scheduled", "asleep", "waiting", "parent", "retrying", "ended", "canceled")
OTHERS = ("event", "cron", "meta", "worker", "big")

BROKEN = st.one_of(
    st.sampled_from(
        [
            *(b"", b"abc", b"-1", b"1e400", b"nan", b"inf", b"99999999999999999999", b"1.5", b"0", b" ", b"1 2 3"),
            *(b"\xff\xfe", b"{half", b"[]", b"{}", b"null", b'"text"', b"z broken zlib", b"@", b"\0", b"running", b"-"),
            *(b"12 S 1", b"1 R 1 e", b"0 F 0 1 2 3 4 5", b"x" * 5000, b"[" * 3000, b'{"a":' * 300),
        ]
    ),
    st.binary(max_size=30),
    st.integers().map(lambda n: str(n).encode()),
)


async def handler(ctx: Context) -> object:
    match ctx.input:
        case "asleep":
            await ctx.step.run("before", lambda: "x" * 10)
            await ctx.step.wait_for("nap", 150)
            await ctx.step.run("after", lambda: 1)
        case "waiting":
            await ctx.step.wait_for_event("ear", "go", ctx.run.id, 150)
        case "parent":
            await ctx.step.run_workflow("child", "victim", "child")
        case "retrying":
            await ctx.step.run("s", lambda: "kept")
            if ctx.run.attempt == 1:
                raise ValueError("once")
        case "child":
            await ctx.step.wait_for("nap", 100)
        case ["big", *_]:
            await ctx.step.run("s", lambda: "y" * 50_000 + secrets.token_hex(20_000))
            await ctx.step.wait_for("nap", 100)
    return ctx.input


class Scene:
    """A world with one of everything, whose workers have stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fine: list[RunHandle[JsonData]] = []
        self.victims: dict[str, RunHandle[JsonData]] = {}
        self.event = ""

    async def build(self, kind: str) -> None:
        world = self.world
        policy = WorkflowRetryPolicy(delay=150, max_attempts=3)
        for name in ("fine", "victim"):
            define_workflow(name, handler=handler, registry=world.registry, retries=policy)
        define_workflow(
            "timed", handler=handler, registry=world.registry, cron=CronTrigger("0 0 1 1 *", "UTC"),
            event=EventTrigger("news"),
        )  # fmt: skip
        await world.client.sync_registry(world.registry, app="app")
        if kind in ("asleep", "waiting", "parent", "retrying", "ended", "big", "worker"):
            await world.worker()
            name, given = ("fine", "ended") if kind == "worker" else ("victim", kind)
            await self.start(kind, name, ["big", secrets.token_hex(40_000)] if kind == "big" else given)
            await self.reached(kind)
            if kind == "worker":
                return  # its record is broken while it lives
            await world.stop_workers()
        elif kind in ("queued", "scheduled", "canceled"):
            soon = datetime.now(UTC) + timedelta(milliseconds=100) if kind == "scheduled" else None
            self.victims[kind] = await world.client.emit_workflow("victim", kind, run_at=soon)
            if kind == "canceled":
                await world.client.cancel_run(self.victims[kind].id, reason="because")
        elif kind == "event":
            await world.client.emit_event("news", {"n": 1}, event_id="e1", correlation_key="k")
        self.fine = [await world.client.emit_workflow("fine", n) for n in range(3)]

    async def start(self, kind: str, name: str, input: object) -> None:
        self.victims[kind] = await self.world.client.emit_workflow(name, input)

    async def reached(self, kind: str) -> None:
        status = "succeeded" if kind in ("ended", "worker") else "scheduled"
        await self.world.reaches(self.victims[kind], status)

    async def fields(self, kind: str) -> list[tuple[bytes, bytes]]:
        """The keys and fields that belong to this kind."""
        base = self.world.keys.base
        if kind in KINDS:
            patterns = [f"run:{stored_run_id(self.victims[kind].id)}"]
        else:
            patterns = {
                "event": ["event:*"], "cron": ["cron:*"], "meta": ["meta:timed"],
                "worker": ["worker:*"], "big": ["big:*", f"run:{stored_run_id(self.victims['big'].id)}"]
                if "big" in self.victims else [],
            }[kind]  # fmt: skip
        found: list[tuple[bytes, bytes]] = []
        for pattern in patterns:
            async for key in self.world.redis.scan_iter(match=base.replace("{", "[{]") + pattern):
                found += [(key, field) for field in await self.world.redis.hkeys(key) if isinstance(field, bytes)]
        return sorted(found)

    async def judge(self, logged: list[str]) -> None:
        """Everything that is not broken comes out as it should."""
        world, client = self.world, self.world.client
        if not world._workers:
            await world.worker(replace(world.options(), lease_ms=500, reaper_interval_ms=100))
        self.fine.append(await client.emit_workflow("fine", "later"))
        assert [await handle.result(timeout_ms=4000) for handle in self.fine][-1] == "later"
        for handle in self.victims.values():
            await self.look_at(handle)
        await asyncio.sleep(0)
        if self.victims:
            await self.settle_down()
        fine = {handle.id for handle in self.fine}
        assert fine <= {run["id"] for run in await client.list_runs()}
        found = await client.search_runs(SearchRunsParams(query="fine"))
        assert fine <= {run["id"] for run in found["runs"]}
        assert {"fine", "victim"} <= {meta["name"] for meta in await client.list_workflows_meta()}
        await client.get_stats()
        await client.list_events()
        await client.list_event_definitions()
        with contextlib.suppress(RedflowError):
            await client.get_event("e1")
        await client.cleanup_expired_runs_now(reference_time_ms=4_000_000_000_000)
        await client.cleanup_expired_events_now(reference_time_ms=4_000_000_000_000)
        assert not [line for line in logged if "broke; it starts again" in line], logged

    async def settle_down(self) -> None:
        """Give victims the time in which they would wake, and see that fine runs go on beside them."""
        again = await self.world.client.emit_workflow("fine", 1, run_at=datetime.now(UTC) + timedelta(milliseconds=200))
        assert await again.result(timeout_ms=4000) == 1
        for handle in self.victims.values():
            await self.look_at(handle)

    async def look_at(self, handle: RunHandle[JsonData]) -> None:
        """Readers of a broken record get what can be read, or an error of ours."""
        client = self.world.client
        for read in (client.get_run, client.get_run_steps, client.get_run_attempts, client.explain_run):
            with contextlib.suppress(RedflowError):
                await read(handle.id)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else ""))


async def play(url: str, kind: str, pick: int, value: bytes | None) -> None:
    world, lines = World(url, f"broken-{secrets.token_hex(6)}"), Lines()
    scene = Scene(world)
    logger = logging.getLogger("redflow")
    try:
        await scene.build(kind)
        fields = await scene.fields(kind)
        assert fields, kind
        key, field = fields[pick % len(fields)]
        if value is None:
            await world.redis.hdel(key, field)
        else:
            await world.redis.hset(key, field, value)
        logger.addHandler(lines)
        try:
            async with asyncio.timeout(12):
                await scene.judge(lines.lines)
        except BaseException as exc:
            exc.add_note(f"broken: {key!r} {field!r} = {value!r}")
            exc.add_note("\n".join(lines.lines[-10:])[:3000])
            raise
        finally:
            logger.removeHandler(lines)
    finally:
        await world.stop_workers()
        await world.client.reset_state()
        await world.close()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_a_broken_field_harms_nothing_beside_it(server: ServerProcess, runner: asyncio.Runner, kind: str) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False, derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(pick=st.integers(0, 40), value=st.none() | BROKEN)
    @example(pick=0, value=None)
    def broken(pick: int, value: bytes | None) -> None:
        runner.run(play(server.url, kind, pick, value))

    broken()


EXAMPLES = 10
