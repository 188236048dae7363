"""A server at maxmemory takes nothing new, and everything that it has comes to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from redflow import CronTrigger, WorkflowRegistry, define_workflow
from redflow.definitions import AnyWorkflow
from redflow.domain.run import public_run_id
from redflow.engines.redis.crons import Crons
from redflow.engines.redis.operations_queues import SET_PAUSE
from redflow.engines.redis.operations_runs import CANCEL_RUNS, RETRY_RUNS
from redflow.engines.redis.results import Results
from redflow.errors import QueueFullError
from tests.support.scripts import ERROR, LEASE_MS, QUEUE, RETENTION_MS, T0, WORKER, Bench, settlement, step
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context

StartServer = Callable[[ServerOptions], ServerProcess]


@pytest.fixture
async def bench(private_server: StartServer, prefix: str) -> AsyncIterator[Bench]:
    """A bench on a server that a test may fill."""
    bench = Bench(private_server(ServerOptions()).url, prefix)
    yield bench
    await bench.read("CONFIG", "SET", "maxmemory", 0)
    await bench.close()


async def fill(bench: Bench) -> None:
    """From now on the server refuses whatever needs memory."""
    await bench.read("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await bench.read("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(QueueFullError):
        await bench.read("SET", "anything", "1")


async def test_new_runs_are_refused_whole(bench: Bench) -> None:
    await bench.register_workflow()
    await fill(bench)
    before = await bench.values()
    orders = [replace(bench.order(), idempotency_key="k"), replace(bench.order(), run_at_ms=T0 + 9)]
    with pytest.raises(QueueFullError, match=r"out of memory; create_runs was refused whole"):
        await bench.scripts.create(orders, None)
    assert await bench.values() == before


async def test_a_batch_that_also_asks_for_an_earlier_run_is_refused_whole(bench: Bench) -> None:
    await bench.register_workflow()
    first = replace(bench.order(), idempotency_key="k")
    await bench.scripts.create([first], None)
    await fill(bench)
    before = await bench.values()
    with pytest.raises(QueueFullError):
        await bench.scripts.create([replace(bench.order(), idempotency_key="k"), bench.order()], None)
    assert await bench.values() == before


async def test_who_asks_again_for_a_run_that_is_there_gets_it(bench: Bench) -> None:
    await bench.register_workflow()
    order = replace(bench.order(), idempotency_key="k")
    await bench.scripts.create([order], None)
    await fill(bench)
    assert await bench.scripts.create([order], None) == [("created", order.run_id)]
    other = replace(order, run_id="f" * 32)
    assert await bench.scripts.create([other], None) == [("found", order.run_id)]


async def test_a_client_that_waits_is_not_entered_and_hears_how_the_run_stands(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    results = Results(bench.connection, bench.keys)
    assert await results.end_of(public_run_id(run), 0.02) is None
    ttl = await bench.connection.read("TTL", bench.keys.waiters(run))
    assert isinstance(ttl, int)
    assert 0 < ttl <= 300, "entered, with a TTL from the first instant on"
    await bench.connection.read("DEL", bench.keys.waiters(run))
    await fill(bench)
    before = await bench.values()
    assert await results.end_of(public_run_id(run), 0.02) is None
    assert await bench.values() == before
    await results.close()


async def test_what_is_there_is_drained(bench: Bench) -> None:
    await bench.serve("w", "other")
    created = [await bench.create() for _ in range(6)]
    later = await bench.create(run_at_ms=T0 + 5)
    await fill(bench)
    bench.now += 5
    assert (await bench.scripts.promote(10))[2] == 1
    leases = {run.lease.run_id: run.lease for run in (await bench.claim()).runs}
    assert leases.keys() == {*created, later}
    one, two, three, four, five, six = (leases[run] for run in created)
    assert await bench.scripts.record([step(one)]) == {}
    items = [settlement(one), settlement(two, "retry", ERROR, due=T0 + 6), settlement(three, "suspended", due=T0 + 6)]
    assert (await bench.scripts.settle(items, WORKER, [QUEUE], idle=True))[1] == {}
    assert await bench.scripts.decide_failure(four, ERROR) == "ok"
    assert await bench.scripts.cancel(five.run_id, "") == "requested"
    assert await bench.scripts.cancel(two.run_id, "") == "canceled"
    assert await bench.scripts.release([five, six]) == 2
    bench.now += 10
    assert await bench.scripts.renew(WORKER, LEASE_MS, 60_000, [four], patience_s=1) == (bench.now, 2, {})
    bench.now += LEASE_MS
    assert (await bench.scripts.recover(10, b"{}"))[2] == 2
    await bench.scripts.pass_bell(WORKER, [QUEUE])
    await bench.scripts.promote(10)
    for run in (await bench.claim()).runs:
        await bench.settle(run.lease, "failed", ERROR)
    statuses = [await bench.field(run, "s") for run in (*created, later)]
    assert statuses == ["succeeded", "canceled", "failed", "failed", "canceled", "failed", "failed"]
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 100) == 7


async def test_workers_come_and_go(bench: Bench) -> None:
    await bench.serve("w")
    parked = await bench.create("new", queue="q")
    await bench.register_workflow("lost")
    stray = await bench.create("lost")
    await bench.claim()
    await fill(bench)
    await bench.register_worker("new", worker="w2")
    assert await bench.register_workflow("new") == ["ok"]
    assert [run.lease.run_id for run in (await bench.claim(worker="w2")).runs] == [parked]
    assert await bench.scripts.fail_strays(QUEUE, "lost", 0, 10, b"{}") == 0  # known still
    assert await bench.remove_workflows("w", "new") == ["lost"]
    assert await bench.scripts.fail_strays(QUEUE, "lost", 0, 10, b"{}") == 1
    assert await bench.field(stray, "s") == "failed"
    assert await bench.unregister_worker(QUEUE, worker="w2") == "ok"


async def test_a_cron_tick_is_refused_whole_and_triggers_can_be_registered(bench: Bench) -> None:
    crons = Crons(bench.connection, bench.keys, now=T0)
    await bench.register_workflow()

    def definition(*triggers: CronTrigger) -> AnyWorkflow:
        async def handler(ctx: Context) -> None: ...

        return define_workflow("w", handler=handler, cron=list(triggers), registry=WorkflowRegistry())

    await crons.schedule(definition(CronTrigger("* * * * *", timezone="UTC")), None)
    await fill(bench)
    before = await bench.values()
    bench.now = crons.now = T0 + 60_000
    now, _, [due] = await crons.due(10)
    with pytest.raises(QueueFullError, match="fire_cron was refused whole"):
        await crons.fire(due, now)
    assert await bench.values() == before
    await crons.schedule(definition(CronTrigger("@hourly", timezone="UTC")), None)
    assert len(await bench.ids("crons")) == 1
    await bench.read("CONFIG", "SET", "maxmemory", 0)
    assert (await crons.fire(due, now))[0] == "taken", "that trigger is gone"


# -- operators -------------------------------------------------------------------------------------------------------


async def test_a_retry_is_refused_whole(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, "failed", ERROR)
    record = await bench.record(lease.run_id)
    await fill(bench)
    before = await bench.values()
    with pytest.raises(QueueFullError):
        await bench.call(RETRY_RUNS, "o", lease.run_id, record["n"], record["f"], "a:1", b"[]", 0)
    assert await bench.values() == before


async def test_what_is_paused_can_be_resumed_and_many_runs_canceled(bench: Bench) -> None:
    await bench.serve()
    waiting = [await bench.create() for _ in range(2)]
    await bench.call(SET_PAUSE, f"q:{QUEUE}", "", "1")
    await fill(bench)
    assert await bench.call(SET_PAUSE, f"q:{QUEUE}", "", "") == 1
    assert await bench.call(CANCEL_RUNS, "", RETENTION_MS, "o", waiting[0]) == [0, b"canceled"]
    assert [run.lease.run_id for run in (await bench.claim()).runs] == waiting[1:]
