"""What crosses shards arrives, once, whoever dies on the way: children, cancels, events, mutexes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import patch

import pytest

from redflow import EventTrigger, define_workflow, workflow
from redflow.domain.shards import shard_of_name
from redflow.engines.redis import outgoing, sharded_journal
from redflow.engines.redis.locks import Locks
from redflow.engines.redis.outgoing import Outgoing
from redflow.engines.redis.replies import Reply, as_int
from redflow.engines.redis.sharded_journal import ShardedJournal
from redflow.execution.attempt import Attempt
from redflow.execution.journal import Interruption, LeaseLost
from redflow.types import JsonData, SearchRunsParams
from tests.support.shards import all_entries, engine_of, entries, name_on, nobody_delivers, shard_of, stored
from tests.support.world import Context, World, eventually, soon

PARENT, CHILD, HOME = name_on(1, "parent"), name_on(2, "child"), name_on(0, "home")


def family(world: World, gate: asyncio.Event | None = None) -> None:
    """A parent that returns what its child on another shard returns."""

    @workflow(CHILD, registry=world.registry)
    async def child(ctx: Context) -> object:
        world.did.append(f"child {ctx.input}")
        if gate is not None:
            await gate.wait()
        return [ctx.input]

    @workflow(PARENT, registry=world.registry)
    async def parent(ctx: Context) -> object:
        world.did.append("parent")
        return await ctx.step.run_workflow("c", CHILD, ctx.input)


async def nothing_on_its_way(world: World) -> None:
    """Wait until all entries are acknowledged."""
    await eventually(lambda: all_entries(world), "all entries delivered", until=lambda found: not found)


async def child_of(world: World, parent: str) -> str:
    """The one child of a run."""
    found = await world.client.search_runs(SearchRunsParams(parent_run_id=parent))
    [run] = found["runs"]
    return run["id"]


# -- children ------------------------------------------------------------------------------------------------------


async def test_a_child_lives_elsewhere_and_wakes_its_parent(world: World) -> None:
    gate = asyncio.Event()
    family(world, gate)
    handle = await world.begin(7, name=PARENT)
    await world.reaches(handle, "scheduled")
    child = await child_of(world, handle.id)
    assert (shard_of(handle.id), shard_of(child)) == (1, 2)
    told = await world.client.explain_run(handle.id)
    assert told is not None
    assert child in told["reason"]
    assert "running" in told["reason"]
    gate.set()
    assert await handle.result() == [7]
    [step] = await world.client.get_run_steps(handle.id)
    assert step["child_run_id"] == child
    await nothing_on_its_way(world)


async def test_all_who_could_deliver_die_and_others_carry_on(world: World) -> None:
    """The child has ended, its parent sleeps, and nobody has brought it the news."""
    family(world)
    with nobody_delivers():
        handle = await world.begin(7, name=PARENT)
        await world.reaches(handle, "scheduled")
        await eventually(lambda: entries(world, 2), "the wake", until=lambda found: any("wake" in e for e in found))
        await world.stop_workers()
    assert await world.status(handle) == "scheduled"
    await world.worker()
    assert await handle.result() == [7]
    assert world.did.count("child 7") == 1


async def test_an_entry_that_was_taken_and_not_brought_is_taken_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "LEASE_MS", 50)
    family(world)
    with nobody_delivers():
        handle = await world.begin(7, name=PARENT)
        await eventually(lambda: entries(world, 2), "the wake", until=lambda found: any("wake" in e for e in found))
        await world.stop_workers()
    there = engine_of(world).outgoing
    taken, _, _ = await there._take(2, "", [])
    assert {entry.kind for entry in taken} >= {b"wake"}

    async def again() -> int:
        return len((await there._take(2, "", []))[0])

    assert await eventually(again, "the end of the lease") == len(taken)
    await world.worker()
    assert await handle.result() == [7]


async def test_whoever_brings_an_entry_dies_before_it_is_acknowledged(world: World) -> None:
    """So it is received twice."""
    family(world)
    with nobody_delivers():
        handle = await world.begin(7, name=PARENT)
        await world.reaches(handle, "scheduled")
        await eventually(lambda: entries(world, 2), "the wake", until=lambda found: any("wake" in e for e in found))
    there = engine_of(world).outgoing
    taken, _, _ = await there._take(2, "", [])
    assert await there._bring(2, taken)
    assert await handle.result() == [7]
    before = await world.client.get_run_steps(handle.id)
    for _ in range(2):
        assert await there._bring(2, taken)
    assert await world.client.get_run_steps(handle.id) == before
    assert world.did.count("parent") <= 2


async def test_a_wake_that_overtakes_the_step_is_kept_for_it(world: World) -> None:
    """The child has ended, and its end has arrived, before the parent's step is written."""
    family(world)
    ask = ShardedJournal._ask

    async def slowly(self: ShardedJournal, scripts: object, script: object, args: tuple[object, ...]) -> Reply:
        if script is sharded_journal.ATTACH_CHILD:
            run_id = str(args[7])
            key = engine_of(world).shards[2].keys

            async def ended() -> Reply:
                return await world.connections[2].read("HGET", key.run(run_id), "s")

            await eventually(ended, "the child's end", until=(b"succeeded").__eq__)
            await eventually(lambda: entries(world, 2), "its delivery", until=lambda found: not found)
        return await ask(self, scripts, script, args)  # type: ignore[arg-type]

    with patch.object(ShardedJournal, "_ask", slowly):
        handle = await world.begin("x" * 40_000, name=PARENT)
        assert await handle.result() == ["x" * 40_000]
    assert world.did.count("parent") == 1
    record = await world.connections[1].read("HKEYS", engine_of(world).shards[1].keys.run(stored(handle.id)))
    assert isinstance(record, list)
    assert not [field for field in record if isinstance(field, bytes) and field.startswith(b"w:")]


async def test_a_parent_that_dies_before_its_step_is_written_finds_its_child(world: World) -> None:
    family(world)
    ask, lost = ShardedJournal._ask, 0

    async def once(self: ShardedJournal, scripts: object, script: object, args: tuple[object, ...]) -> Reply:
        nonlocal lost
        if script is sharded_journal.ATTACH_CHILD and not lost:
            lost += 1
            raise LeaseLost("its worker died here")
        return await ask(self, scripts, script, args)  # type: ignore[arg-type]

    with patch.object(ShardedJournal, "_ask", once):
        handle = await world.begin(7, name=PARENT)
        assert await handle.result() == [7]
    assert (lost, world.did.count("parent"), world.did.count("child 7")) == (1, 2, 1)


async def test_a_child_that_failed_fails_its_parent(world: World) -> None:
    define_workflow(CHILD, handler=_fails, registry=world.registry, max_attempts=1)
    define_workflow(PARENT, handler=_runs_child, registry=world.registry, max_attempts=1)
    handle = await world.begin(name=PARENT)
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert "no good" in state["error"]["message"]


async def _fails(ctx: Context) -> JsonData:
    raise ValueError("no good")


async def _runs_child(ctx: Context) -> JsonData:
    return await ctx.step.run_workflow("c", CHILD, ctx.input)


async def test_an_unknown_child_is_told_at_once(world: World) -> None:
    define_workflow(PARENT, handler=_runs_child, registry=world.registry, max_attempts=1)
    handle = await world.begin(name=PARENT)
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    assert state["error"]["kind"] == "unknown_workflow"


async def test_a_child_is_purged_only_when_its_parent_knows(world: World) -> None:
    family(world)
    with nobody_delivers():
        handle = await world.begin(7, name=PARENT)
        await eventually(lambda: entries(world, 2), "the wake", until=lambda found: any("wake" in e for e in found))
        child = await child_of_index(world)
        late = 2**42
        assert await world.client.cleanup_expired_runs_now(reference_time_ms=late) == 0
        assert await world.client.get_run(child) is not None
        await world.stop_workers()
    await world.worker()
    assert await handle.result() == [7]
    await nothing_on_its_way(world)
    assert await world.client.cleanup_expired_runs_now(reference_time_ms=late) == 2
    await nothing_on_its_way(world)
    assert await world.client.get_run(child) is None


async def child_of_index(world: World) -> str:
    """The one run of the child's workflow."""
    found = await world.client.search_runs(SearchRunsParams(workflow=CHILD))
    [run] = found["runs"]
    return run["id"]


async def test_a_parent_forgets_children_that_are_purged(world: World) -> None:
    gate = asyncio.Event()

    @workflow(CHILD, registry=world.registry)
    async def child(ctx: Context) -> object:
        return ctx.input

    @workflow(PARENT, registry=world.registry)
    async def parent(ctx: Context) -> object:
        await ctx.step.run_workflow("c", CHILD, 1)
        world.did.append("has it")
        await gate.wait()
        return "end"

    handle = await world.begin(name=PARENT)
    await soon(lambda: "has it" in world.did, "the child's end")
    await nothing_on_its_way(world)
    kids, _reached = engine_of(world).shards[1].keys.children(stored(handle.id))

    async def count() -> int:
        return as_int(await world.connections[1].read("SCARD", kids))

    assert await count() == 1
    assert await world.client.cleanup_expired_runs_now(reference_time_ms=2**42) == 1
    await eventually(count, "no child", until=(0).__eq__)
    gate.set()
    assert await handle.result() == "end"


# -- cancel --------------------------------------------------------------------------------------------------------


async def test_a_cancel_goes_down_the_tree_over_shards(world: World) -> None:
    names = [name_on(shard, "tree") for shard in (1, 2, 0, 2)]
    begun = asyncio.Event()

    def level(depth: int) -> Callable[[Context], Awaitable[JsonData]]:
        async def handler(ctx: Context) -> JsonData:
            if depth + 1 < len(names):
                return await ctx.step.run_workflow("next", f"{names[depth + 1]}-{depth + 1}", None)
            begun.set()
            await asyncio.Event().wait()
            return None

        return handler

    for depth, name in enumerate(names):
        define_workflow(f"{name}-{depth}", handler=level(depth), registry=world.registry)
    handle = await world.begin(name=f"{names[0]}-0")
    await begun.wait()
    assert await world.client.cancel_run(handle.id, reason="enough")

    async def canceled() -> int:
        return (await world.client.get_stats())["by_status"]["canceled"]

    await eventually(canceled, "the whole tree", until=(4).__eq__)
    await nothing_on_its_way(world)


async def test_a_child_that_comes_under_a_canceled_parent_is_canceled(world: World) -> None:
    family(world)
    await world.client.sync_registry(world.registry, app="app")
    parent = await world.start(1, name=PARENT)
    assert await world.client.cancel_run(parent.id, reason="enough")
    late = await world.client.emit_workflow(CHILD, 2, parent_run_id=parent.id)
    assert await world.ended(late) == "canceled"
    state = await late.get_state()
    assert state is not None
    assert state["cancel_reason"] == "enough"
    assert world.did == []


async def test_a_cancel_that_nobody_brings_is_brought_later(world: World) -> None:
    gate = asyncio.Event()
    family(world, gate)
    handle = await world.begin(7, name=PARENT)
    await soon(lambda: "child 7" in world.did, "the child")
    await nothing_on_its_way(world)
    child = await child_of(world, handle.id)
    with nobody_delivers():
        assert await world.client.cancel_run(handle.id)
        assert [entry.partition(" ")[0] for entry in await entries(world, 1)] == ["cancel"]
        await world.stop_workers()
    await world.worker()

    async def status() -> str:
        state = await world.client.get_run(child)
        return "" if state is None else state["status"]

    await eventually(status, "the child's cancel", until=("canceled").__eq__)


# -- events --------------------------------------------------------------------------------------------------------


def waiter(world: World, timeout: str = "1h") -> None:
    """A workflow on another shard than home that waits for `paid` of its input."""

    @workflow(PARENT, registry=world.registry)
    async def waits(ctx: Context) -> object:
        event = await ctx.step.wait_for_event("wait", "paid", str(ctx.input), timeout)
        return None if event is None else event["data"]


async def test_an_event_wakes_a_run_elsewhere_and_says_so(world: World) -> None:
    waiter(world)
    handles = [await world.begin("order", name=PARENT) for _ in range(5)]
    for handle in handles:
        await world.reaches(handle, "scheduled")
    told = await world.client.emit_event_detailed("paid", {"sum": 7}, correlation_key="order")
    assert sorted(told["resumed_run_ids"]) == sorted(handle.id for handle in handles)
    assert [await handle.result() for handle in handles] == [{"sum": 7}] * 5
    assert await entries(world, 0) == []


async def test_a_canceled_run_is_not_among_the_woken(world: World) -> None:
    """Home learns from the run's shard that it is gone."""
    waiter(world)
    gone, there = await world.begin("order", name=PARENT), await world.begin("order", name=PARENT)
    for handle in (gone, there):
        await world.reaches(handle, "scheduled")
    await world.client.cancel_run(gone.id)
    told = await world.client.emit_event_detailed("paid", 7, correlation_key="order")
    assert told["resumed_run_ids"] == [there.id]


async def test_an_event_before_the_wait_is_found(world: World) -> None:
    gate = asyncio.Event()

    @workflow(PARENT, registry=world.registry)
    async def waits(ctx: Context) -> object:
        world.did.append("began")
        await gate.wait()
        got = []
        for n in range(2):
            event = await ctx.step.wait_for_event(f"wait{n}", "paid", "k", 200)
            got.append(event and event["data"])
        return got

    handle = await world.begin(name=PARENT)
    await soon(lambda: bool(world.did), "the run")
    await world.client.emit_event("paid", 7, correlation_key="k")
    gate.set()
    assert await handle.result() == [7, None], "an event satisfies one wait of a run"


async def test_an_event_that_overtakes_the_step_is_kept_for_it(world: World) -> None:
    waiter(world)
    ask = ShardedJournal._ask

    async def slowly(self: ShardedJournal, scripts: object, script: object, args: tuple[object, ...]) -> Reply:
        if script is sharded_journal.ATTACH_WAIT:
            told = await world.client.emit_event_detailed("paid", "x" * 40_000, correlation_key="order")
            assert len(told["resumed_run_ids"]) == 1
        return await ask(self, scripts, script, args)  # type: ignore[arg-type]

    with patch.object(ShardedJournal, "_ask", slowly):
        handle = await world.begin("order", name=PARENT)
        assert await handle.result() == "x" * 40_000


async def test_home_decides_between_event_and_time_out(world: World) -> None:
    """An event that home has given wins, even if nobody brings it before the run asks for its time-out."""
    waiter(world, "300ms")
    handle = await world.begin("order", name=PARENT)
    await world.reaches(handle, "scheduled")
    deliver = Outgoing.deliver
    held = asyncio.Event()

    async def after_the_deadline(self: Outgoing, shard: int, worker: str = "") -> float | None:
        if shard == 0 and not held.is_set():
            return None
        return await deliver(self, shard, worker)

    with patch.object(Outgoing, "deliver", after_the_deadline):
        emitting = asyncio.ensure_future(world.client.emit_event("paid", 7, correlation_key="order"))
        await world.reaches(handle, "running")  # its time is over, home says that something was given
        held.set()
        assert await handle.result() == 7
        await emitting


async def test_a_wait_that_times_out_gets_nothing_later(world: World) -> None:
    waiter(world, "50ms")
    handle = await world.begin("order", name=PARENT)
    assert await handle.result() is None
    told = await world.client.emit_event_detailed("paid", 7, correlation_key="order")
    assert told["resumed_run_ids"] == []


async def test_subscribers_start_where_they_live(world: World) -> None:
    names = [name_on(shard, "sub") for shard in range(3)]
    for name in names:

        @workflow(name, registry=world.registry, event=EventTrigger("paid"))
        async def sub(ctx: Context) -> None:
            world.did.append(f"{ctx.run.workflow} {ctx.input}")

    await world.worker()
    told = await world.client.emit_event_detailed("paid", {"n": 1})
    assert sorted(shard_of(handle.id) for handle in told["handles"]) == [0, 1, 2]
    for handle in told["handles"]:
        await handle.result()
    event = await world.client.get_event(told["event_id"])
    assert event is not None
    assert event["fanout_status"] == "completed"
    again = await world.client.emit_event("paid", {"n": 1}, event_id=told["event_id"])
    assert sorted(handle.id for handle in again) == sorted(handle.id for handle in told["handles"])
    assert len(world.did) == 3


async def test_a_fan_out_that_its_emitter_left_is_carried_on(world: World) -> None:
    name = name_on(2, "sub")

    @workflow(name, registry=world.registry, event=EventTrigger("paid"))
    async def sub(ctx: Context) -> None:
        world.did.append("sub")

    await world.client.sync_registry(world.registry, app="app")
    with nobody_delivers():
        event_id = (await world.client.emit_event_detailed("paid", {"n": 1}))["event_id"]
        event = await world.client.get_event(event_id)
        assert event is not None
        assert event["fanout_status"] == "pending"
    await world.connections[0].read("ZADD", f"{world.keys.base}outbox", 0, event_id)  # the emitter's lease is over
    await world.worker()

    async def fanned_out() -> str:
        event = await world.client.get_event(event_id)
        return "" if event is None else event["fanout_status"]

    await eventually(fanned_out, "the fan-out", until=("completed").__eq__)
    await soon(lambda: world.did == ["sub"], "the subscriber")


# -- mutex ---------------------------------------------------------------------------------------------------------


def guarded(world: World, gate: asyncio.Event, key: str) -> None:
    """Workflows of three shards that share a mutex."""
    for shard in range(3):

        @workflow(name_on(shard), registry=world.registry, mutex=lambda _: key)
        async def w(ctx: Context) -> object:
            world.did.append(f"enter {ctx.input}")
            await gate.wait()
            world.did.append(f"leave {ctx.input}")
            return ctx.input


@pytest.mark.parametrize("lock", range(3))
async def test_a_mutex_holds_over_shards(world: World, lock: int) -> None:
    gate, key = asyncio.Event(), name_on(lock, "key")
    guarded(world, gate, key)
    await world.worker()
    handles = [await world.start(n, name=name_on(n % 3)) for n in range(12)]
    await eventually(lambda: world.mutex_line(key), "eleven in line", until=(11).__eq__)
    waiting = [handle for handle in handles if f"enter {handles.index(handle)}" not in world.did]
    told = await world.client.explain_run(waiting[0].id)
    assert told is not None
    assert (told["waits_for"], len(told["held_by"])) == ("mutex", 1)
    gate.set()
    assert [await handle.result() for handle in handles] == [*range(12)]
    assert all(a.split()[1] == b.split()[1] for a, b in zip(world.did[::2], world.did[1::2], strict=True))
    await nothing_on_its_way(world)
    assert await world.mutex_owner(key) is None


async def test_a_release_that_arrives_twice_takes_nothing_from_the_next_grant(world: World) -> None:
    locks, key = engine_of(world).outgoing.locks, "k"
    run, other = "0" * 13 + "001" + "8" * 16, "0" * 13 + "002" + "8" * 16
    granted, first = await locks.request(run, key, "q", 1)
    assert granted
    assert await locks.request(other, key, "q", 2) == (False, (await locks.request(other, key, "q", 2))[1])
    assert await locks.release(run, key, first)
    assert await world.mutex_owner(key) == other
    granted, second = await locks.request(run, key, "q", 3)
    assert not granted
    assert not await locks.release(run, key, first)
    assert await world.mutex_line(key) == 1
    assert await locks.release(run, key, second)
    assert await world.mutex_line(key) == 0
    [grant] = [entry for entry in await all_entries(world) if entry.startswith("grant")]
    assert other in grant
    await engine_of(world).outgoing.deliver(shard_of_name(key, 3))  # nobody is there: it goes back
    assert await world.mutex_owner(key) is None


async def test_a_lock_whose_owner_is_gone_is_found(world: World) -> None:
    gate, key = asyncio.Event(), name_on(2, "key")
    gate.set()
    guarded(world, gate, key)
    locks = engine_of(world).outgoing.locks
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start(0, name=name_on(0))
    await world.client.cancel_run(handle.id)
    granted, _number = await locks.request(stored(handle.id), key, "q", 1)
    assert granted
    scripts = engine_of(world).shards[2].scripts
    await scripts.connection.read("ZADD", f"{scripts.keys.base}locks", 0, key)  # five seconds are over
    await world.worker()
    await eventually(lambda: world.mutex_owner(key), "a free lock", until=lambda owner: owner is None)
    assert await world.run(1, name=name_on(1)) == 1


@pytest.mark.parametrize("granted", [True, False], ids=["granted", "in line"])
async def test_a_cancel_while_the_lock_answers_leaves_nothing_behind(world: World, granted: bool) -> None:
    """The answer arrives after the attempt was interrupted, so no audit may be needed to undo it."""
    gate, key = asyncio.Event(), name_on(2, "key")
    guarded(world, gate, key)
    await world.worker()
    if not granted:
        await world.start("owner", name=name_on(1))
        await soon(lambda: world.did == ["enter owner"], "the owner")
    owner = await world.mutex_owner(key)
    answered, interrupted = asyncio.Event(), asyncio.Event()
    request, interrupt = Locks.request, Attempt.interrupt

    async def slow(self: Locks, run_id: str, key: str, queue: str, score: int) -> tuple[bool, str]:
        answer = await request(self, run_id, key, queue, score)
        answered.set()
        await interrupted.wait()
        return answer

    def told(self: Attempt, why: Interruption) -> None:
        interrupt(self, why)
        interrupted.set()

    with patch.object(Locks, "request", slow), patch.object(Attempt, "interrupt", told):
        handle = await world.start("canceled", name=name_on(0))
        await answered.wait()
        await world.client.cancel_run(handle.id)
        assert await world.ended(handle) == "canceled"
    assert await world.mutex_owner(key) == owner
    assert await world.mutex_line(key) == 0
    gate.set()
    assert await world.run("next", name=name_on(1)) == "next"
    assert "enter canceled" not in world.did
