"""start_away, check_claim, attach_child: a child on another shard, and the step that waits for it."""

from __future__ import annotations

from dataclasses import replace

from redflow.domain.run import public_run_id
from redflow.engines.redis.runs import Lease, order_args
from redflow.engines.redis.sharded_journal import ATTACH_CHILD, CHECK, START_AWAY
from tests.support.scripts import Bench

OPEN = "1 Rc 1 0 - "


async def start(there: Bench, parent: Lease, *, awaited: bool = True, workflow: str = "w") -> tuple[str, str]:
    order = replace(there.order(workflow, number=900), parent_run_id=public_run_id(parent.run_id))
    awaiter = f"{parent.run_id} s:one" if awaited else ""
    reply = await there.call(START_AWAY, "", awaiter, 1, *order_args(order, None))
    assert isinstance(reply, list)
    code, child = reply
    assert isinstance(code, bytes)
    assert isinstance(child, bytes)
    return code.decode(), child.decode()


async def attach(here: Bench, lease: Lease, child: str, *, awaited: bool = True, kind: str = "own") -> object:
    args = (lease.run_id, lease.fence, lease.token, "s:one", OPEN, 1, "1" if awaited else "", child, kind)
    return await here.call(ATTACH_CHILD, *args)


async def test_the_child_is_made_once_and_tells_its_parents_shard(here: Bench, there: Bench) -> None:
    await here.serve()
    await there.serve()
    lease = await here.running()
    first = await start(there, lease)
    assert first == await start(there, lease)
    code, child = first
    assert code == "created"
    assert await there.ids("outgoing") == [f"adopt {child} {lease.run_id} -"]
    record = await there.record(child)
    assert (record["dp"], record["og"]) == ("1", "1")
    assert await there.read("SMEMBERS", f"@awaiters:{child}") == [f"{lease.run_id} s:one".encode()]
    assert await attach(here, lease, child) == b"open"
    assert await here.field(lease.run_id, "s:one") == f"{OPEN}- {child} 1 own "
    assert await here.read("SMEMBERS", f"@kids:{lease.run_id}") == [child.encode()]


async def test_one_that_has_ended_sends_word_at_once(here: Bench, there: Bench) -> None:
    await here.serve()
    await there.serve()
    lease = await here.running()
    _, child = await start(there, lease, awaited=False)
    await there.settle(await there.claimed(child))
    assert await start(there, lease) == ("created", child)
    assert await there.ids("outgoing") == [f"adopt {child} {lease.run_id} -", f"wake {child} {lease.run_id} s:one"]


async def test_an_unknown_workflow_makes_nothing(here: Bench, there: Bench) -> None:
    await here.serve()
    lease = await here.running()
    assert (await start(there, lease, workflow="nobody"))[0] == "unknown_workflow"
    assert await there.values() == {}


async def test_a_step_that_only_starts_has_the_id(here: Bench, there: Bench) -> None:
    await here.serve()
    lease = await here.running()
    child = there.order(number=900).run_id
    assert await attach(here, lease, child, awaited=False) == b"open"
    assert await here.field(lease.run_id, "s:one") == f'{OPEN}"{public_run_id(child)}"'


async def test_who_may_not_write_is_refused(here: Bench, there: Bench) -> None:
    await here.serve()
    child = there.order(number=900).run_id
    for reason, lease in (await here.refused_leases()).items():
        wanted = reason.split()[0].encode()
        assert await attach(here, lease, child) == wanted
        checked = await here.call(CHECK, lease.run_id, lease.fence, lease.token, "")
        assert isinstance(checked, list)
        assert checked[0] == wanted


async def test_a_run_that_is_to_end_starts_nothing(here: Bench, there: Bench) -> None:
    await here.serve()
    lease = await here.running()
    assert await here.call(CHECK, lease.run_id, lease.fence, lease.token, "") == [b"ok", 0, b""]
    await here.scripts.cancel(lease.run_id, "")
    assert await here.call(CHECK, lease.run_id, lease.fence, lease.token, "") == [b"cancel", 0, b""]
    assert await attach(here, lease, there.order(number=900).run_id) == b"cancel"
    decided = await here.running()
    await here.scripts.decide_failure(decided, b"{}")
    assert await attach(here, decided, there.order(number=900).run_id) == b"timeout"
