"""fail_strays: fails runs that no worker knows, once their workflow was unknown everywhere for long."""

from __future__ import annotations

import pytest

from tests.support.scripts import BIG, ERROR, LEASE_MS, QUEUE, RETENTION_MS, T0, Bench, changes

PATIENCE_MS = 600_000
UNKNOWN = b'{"kind":"unknown_workflow"}'


async def fail(bench: Bench, limit: int = 100, workflow: str = "gone") -> int:
    return await bench.scripts.fail_strays(QUEUE, workflow, PATIENCE_MS, limit, UNKNOWN)


async def make_strays(bench: Bench, count: int = 1) -> list[str]:
    """Runs of a workflow whose metadata is gone, met by a worker that doesn't know it."""
    await bench.serve("w")
    await bench.register_workflow("gone")
    runs = [await bench.create("gone") for _ in range(count)]
    await bench.claim()
    assert await bench.remove_workflows("w") == ["gone"]
    return runs


async def test_it_fails_as_its_first_attempt(bench: Bench) -> None:
    [run] = await make_strays(bench)
    before, record = await bench.values(), await bench.record(run)
    bench.now += PATIENCE_MS
    assert await fail(bench) == 1
    ended = {"s": "failed", "a": "1", "t": str(bench.now), "f": str(bench.now), "e": UNKNOWN.decode()}
    assert changes(before, await bench.values()) == {
        f"run:{run}": record | ended,
        "idx:queued:gone": None,
        "idx:failed:gone": {run: T0},
        "stray:5:app:q:gone": None,
        "strays": None,
        f"expiry:{RETENTION_MS}": [run],
        "retentions": {str(RETENTION_MS)},
    }


async def test_it_is_kept_until_its_patience_is_over(bench: Bench) -> None:
    await make_strays(bench)
    bench.now += PATIENCE_MS - 1
    before = await bench.values()
    assert await fail(bench) == 0
    assert changes(before, await bench.values()) == {}


@pytest.mark.parametrize("known_by", ["metadata", "worker"])
async def test_it_is_kept_while_its_workflow_is_known(bench: Bench, known_by: str) -> None:
    await make_strays(bench)
    if known_by == "metadata":
        await bench.register_workflow("gone")
    else:
        await bench.register_worker("gone", worker="w2", alive_ms=2 * PATIENCE_MS)
    bench.now += PATIENCE_MS
    assert await fail(bench) == 0
    # Its patience begins anew: what counts is the time in which nobody knew it.
    assert (await bench.values())["strays"] == {"5:app:q:gone": bench.now}
    await bench.remove_workflows("w", quiet_ms=-PATIENCE_MS * 10)
    await bench.unregister_worker(worker="w2")
    bench.now += PATIENCE_MS - 1
    assert await fail(bench) == 0
    bench.now += 1
    assert await fail(bench) == 1


async def test_a_worker_that_died_knows_nothing(bench: Bench) -> None:
    await make_strays(bench)
    await bench.register_worker("gone", worker="w2", alive_ms=PATIENCE_MS - 1)
    bench.now += PATIENCE_MS
    assert await fail(bench) == 1


async def test_no_more_than_the_limit_and_sent_again_it_goes_on(bench: Bench) -> None:
    runs = await make_strays(bench, 3)
    bench.now += PATIENCE_MS
    assert await fail(bench, 2) == 2
    assert await bench.ids("stray:5:app:q:gone") == runs[2:]
    assert await fail(bench, 2) == 1
    before = await bench.values()
    assert await fail(bench, 2) == 0
    assert changes(before, await bench.values()) == {}


@pytest.mark.parametrize("error", [ERROR, BIG])
async def test_a_failure_that_was_decided_keeps_its_error_and_its_attempts(bench: Bench, error: bytes) -> None:
    await bench.serve("gone")
    lease = await bench.running("gone")
    await bench.settle(lease, "retry", ERROR, due=T0)
    await bench.scripts.promote(10)
    lease = await bench.claimed(lease.run_id)
    await bench.scripts.decide_failure(lease, error)
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    await bench.register_worker("w")
    await bench.claim()
    await bench.remove_workflows(quiet_ms=0)
    bench.now += PATIENCE_MS
    assert await fail(bench) == 1
    record = await bench.record(lease.run_id)
    assert (record["s"], record["a"], record["t"]) == ("failed", "2", str(T0))
    assert record["e"] == ("@" if error is BIG else error.decode())
    if error is BIG:
        assert (await bench.snapshot()).hash(f"big:{lease.run_id}")["e"] == BIG.decode()


async def test_a_line_that_is_not_there_is_left_alone(bench: Bench) -> None:
    await make_strays(bench)
    bench.now += PATIENCE_MS
    before = await bench.values()
    assert await fail(bench, workflow="never met") == 0
    assert await fail(bench, workflow="w") == 0
    assert changes(before, await bench.values()) == {}


async def test_strays_that_were_canceled_leave_no_time_behind(bench: Bench) -> None:
    """The patience of a later stray must not have begun with that of one that is gone."""
    [run] = await make_strays(bench)
    await bench.scripts.cancel(run, "")
    assert "strays" not in await bench.values()
    bench.now += PATIENCE_MS - 1
    await bench.create("gone", queue=QUEUE)  # parked until it is registered
    await bench.register_workflow("gone")
    await bench.claim()
    await bench.remove_workflows("w", quiet_ms=0)
    bench.now += 2
    assert await fail(bench) == 0
