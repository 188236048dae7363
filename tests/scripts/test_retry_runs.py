"""retry_runs: a failed run goes on as the same run, once per call, whatever becomes of the reply."""

from __future__ import annotations

import json

import pytest

from redflow.domain.run import public_run_id
from redflow.engines.redis.link import Argument
from redflow.engines.redis.operations_runs import RETRY_RUNS
from redflow.engines.redis.replies import as_list, as_text
from tests.support.scripts import ERROR, QUEUE, RETENTION_MS, Bench, changes, step

LONG_ERROR = json.dumps({"name": "E", "message": "x" * 100, "kind": "error"}).encode()


async def failed(bench: Bench, *, error: bytes = ERROR) -> str:
    """A run that failed in its first attempt with one finished step."""
    lease = await bench.running()
    await bench.settle(lease, "failed", error, steps=(step(lease, payload=b'"kept"'),))
    return lease.run_id


async def retry(bench: Bench, run: str, *, operation: str = "o1", trace: bytes = b"[]") -> str:
    """Retry with what the record says, packed payloads left as they are."""
    record = await bench.record(run)
    args: list[Argument] = [operation, run, record.get("n", ""), record.get("f", "")]
    (answer,) = as_list(await bench.call(RETRY_RUNS, *args, "a:1" if trace else "", trace, 0))
    return as_text(answer)


async def test_all_that_a_retry_changes(bench: Bench) -> None:
    await bench.serve()
    run = await failed(bench)
    before, record = await bench.values(), await bench.record(run)
    bench.now += 7
    assert await retry(bench, run) == "retried"
    after = await bench.record(run)
    assert after == {name: value for name, value in record.items() if name not in ("e", "f")} | {
        "s": "queued",
        "m": "4",
        "rb": "3",
        "ro": "o1",
        "rx": "1",
        "a:1": f"{record['f']} []",
    }
    assert changes(before, await bench.values()).keys() == {
        f"run:{run}",
        "idx:failed:w",
        "idx:queued:w",
        f"ready:{QUEUE}",
        f"idle:{QUEUE}",
        "seq",
    }


async def test_a_call_that_is_sent_again_changes_nothing_and_answers_the_same(bench: Bench) -> None:
    await bench.serve()
    run = await failed(bench)
    record = await bench.record(run)
    args: list[Argument] = ["o1", run, record["n"], record["f"], "a:1", b"[]", 0]
    assert as_list(await bench.call(RETRY_RUNS, *args)) == [b"retried"]
    before = await bench.values()
    assert as_list(await bench.call(RETRY_RUNS, *args)) == [b"retried"]
    assert await bench.values() == before
    assert as_list(await bench.call(RETRY_RUNS, "o2", *args[1:])) == [b"queued"]
    await bench.settle(await bench.claimed(run), "failed", ERROR, attempt=2)
    assert as_list(await bench.call(RETRY_RUNS, *args)) == [b"retried"]
    assert as_list(await bench.call(RETRY_RUNS, "o2", *args[1:])) == [b"changed"]
    assert await bench.field(run, "s") == "failed"


@pytest.mark.parametrize("status", ["queued", "running", "scheduled", "succeeded", "canceled"])
async def test_a_run_that_has_not_failed_stays_as_it_is(bench: Bench, status: str) -> None:
    await bench.serve()
    run = await bench.create()
    if status == "canceled":
        await bench.scripts.cancel(run, "")
    elif status != "queued":
        lease = await bench.claimed(run)
        if status == "scheduled":
            await bench.settle(lease, "retry", ERROR, due=bench.now + 9)
        elif status == "succeeded":
            await bench.settle(lease)
    before = await bench.values()
    assert await retry(bench, run) == status
    assert await bench.values() == before
    assert await retry(bench, "f" * 32) == "unknown"


async def test_a_record_that_has_changed_since_it_was_read_is_left_alone(bench: Bench) -> None:
    await bench.serve()
    run = await failed(bench)
    record = await bench.record(run)
    before = await bench.values()
    for fence, finished in (("9", record["f"]), (record["n"], "1"), ("", "")):
        assert as_list(await bench.call(RETRY_RUNS, "o1", run, fence, finished, "", b"", 0)) == [b"changed"]
    assert await bench.values() == before


async def test_the_budget_is_that_of_the_beginning_each_time(bench: Bench) -> None:
    await bench.serve()
    run = await failed(bench)
    for number in (1, 2, 3):
        assert await retry(bench, run, operation=f"o{number}", trace=b"") == "retried"
        assert await bench.field(run, "m") == str(number + 3)
        assert await bench.field(run, "rx") == str(number)
        lease = await bench.claimed(run)
        await bench.settle(lease, "failed", ERROR, attempt=number + 1)


async def test_each_end_that_was_undone_is_passed_over_once_by_retention(bench: Bench) -> None:
    await bench.serve()
    run, other = await failed(bench), await failed(bench)
    bench.now += 10
    await retry(bench, run)
    await bench.settle(await bench.claimed(run), "failed", ERROR, attempt=2)
    await retry(bench, run, operation="o2")
    bench.now += 10
    await bench.settle(await bench.claimed(run), attempt=3)
    bench.now += RETENTION_MS - 15
    assert await bench.scripts.purge(None, 10) == 1
    assert await bench.record(other) == {}
    assert (await bench.field(run, "rx"), await bench.field(run, "s")) == ("0", "succeeded")
    bench.now += 15
    assert await bench.scripts.purge(None, 10) == 1
    assert await bench.record(run) == {}


async def test_retention_meets_a_retried_run_that_is_still_under_way(bench: Bench) -> None:
    await bench.serve()
    run = await failed(bench)
    await retry(bench, run)
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 10) == 0
    assert await bench.field(run, "rx") == "0"
    await bench.settle(await bench.claimed(run), attempt=2)
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 10) == 1
    assert await bench.record(run) == {}


async def test_a_run_with_a_time_out_gets_a_new_one(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create(run_timeout_ms=50)
    lease = await bench.claimed(run)
    await bench.settle(lease, "failed", ERROR)
    assert await bench.ids("timeouts") == []
    bench.now += 1_000
    await retry(bench, run)
    assert await bench.field(run, "ta") == str(bench.now + 50)
    assert await bench.ids("timeouts") == [run]


async def test_public_ids_name_the_same_run(bench: Bench) -> None:
    await bench.serve()
    run = await failed(bench, error=LONG_ERROR)
    assert public_run_id(run).startswith("run_")
    packed = await bench.read("HEXISTS", f"@run:{run}", "0")
    assert packed == 1
    record = await bench.record(run)
    pairs = [part for name in ("s:one",) for part in (name, record[name])]
    args: list[Argument] = ["o1", run, record["n"], record["f"], "", b"", len(pairs) // 2, *pairs]
    assert as_list(await bench.call(RETRY_RUNS, *args)) == [b"retried"]
    assert await bench.read("HEXISTS", f"@run:{run}", "0") == 0
    assert await bench.field(run, "s:one") == record["s:one"]
