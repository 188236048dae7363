"""purge_runs: removes finished runs whose retention is over."""

from __future__ import annotations

from tests.support.scripts import BIG, ERROR, RETENTION_MS, T0, Bench, changes, step


async def finished(bench: Bench, outcome: str = "succeeded", workflow: str = "w") -> str:
    lease = await bench.running(workflow)
    await bench.settle(lease, outcome, ERROR)
    return lease.run_id


async def test_nothing_of_a_run_is_left(bench: Bench) -> None:
    await bench.serve()
    before = await bench.values()
    lease = await bench.running()
    await bench.scripts.record([step(lease, payload=BIG)])
    await bench.settle(lease, "retry", BIG, due=T0)
    await bench.scripts.promote(10)
    await bench.settle(await bench.claimed(lease.run_id))
    await bench.read("SADD", f"@waiters:{lease.run_id}", "c1")
    await bench.read("EXPIRE", f"@waiters:{lease.run_id}", 300)
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 100) == 1
    after = await bench.values()
    assert changes(before, after).keys() == {"worker:w1", "idle:app:q", "seq"}
    assert (await bench.snapshot()).hash("worker:w1").keys() - {"claim", "claimed"} == {"app", "info", "started"}


async def test_a_run_is_kept_until_its_retention_is_over(bench: Bench) -> None:
    await bench.serve()
    run = await finished(bench)
    bench.now += RETENTION_MS - 1
    before = await bench.values()
    assert await bench.scripts.purge(None, 100) == 0
    assert changes(before, await bench.values()) == {}
    assert await bench.scripts.purge(bench.now + 1, 100) == 1
    assert await bench.record(run) == {}


async def test_each_retention_has_its_own_end(bench: Bench) -> None:
    await bench.serve()
    long = await finished(bench)
    bench.scripts.retention_ms = 500
    short = await finished(bench)
    assert (await bench.values())["retentions"] == {str(RETENTION_MS), "500"}
    bench.now += 500
    assert await bench.scripts.purge(None, 100) == 1
    values = await bench.values()
    assert f"run:{short}" not in values
    assert f"run:{long}" in values
    assert values["retentions"] == {str(RETENTION_MS)}


async def test_no_more_than_the_limit_the_oldest_first(bench: Bench) -> None:
    await bench.serve()
    runs = [await finished(bench, outcome) for outcome in ("succeeded", "failed", "canceled")]
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 2) == 2
    assert (await bench.snapshot()).names("run:") == [runs[2]]
    assert await bench.scripts.purge(None, 2) == 1
    assert await bench.scripts.purge(None, 2) == 0
    assert "retentions" not in await bench.values()


async def test_entries_without_a_record_are_dropped_and_count_towards_the_limit(bench: Bench) -> None:
    await bench.serve()
    run = await finished(bench)
    before = await bench.values()
    for number in range(3):
        await bench.read("LPUSH", f"@expiry:{RETENTION_MS}", f"{number}" * 32)
    assert await bench.scripts.purge(None, 2) == 0
    assert (await bench.values())[f"expiry:{RETENTION_MS}"] == ["0" * 32, run]
    assert await bench.scripts.purge(None, 2) == 0
    assert changes(before, await bench.values()) == {}


async def test_a_workflow_is_forgotten_with_its_last_run(bench: Bench) -> None:
    await bench.serve("w", "other")
    await finished(bench)
    await finished(bench, workflow="other")
    await bench.create("other", run_at_ms=T0 + 1)
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 100) == 2
    assert (await bench.values())["workflows"] == {"other"}


async def test_a_run_that_is_not_over_is_never_purged(bench: Bench) -> None:
    await bench.serve()
    await bench.create(run_at_ms=T0 + 10)
    await bench.running()
    await bench.create()
    before = await bench.values()
    bench.now += 100 * RETENTION_MS
    assert await bench.scripts.purge(None, 100) == 0
    assert changes(before, await bench.values()) == {}
