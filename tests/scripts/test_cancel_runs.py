"""cancel_runs: as cancel_run, for several at once."""

from __future__ import annotations

from redflow.engines.redis.operations_runs import CANCEL_RUNS
from redflow.engines.redis.replies import as_list
from tests.support.scripts import RETENTION_MS, Bench


async def test_each_is_answered_and_a_call_sent_again_answers_the_same(bench: Bench) -> None:
    await bench.serve()
    running = await bench.running()
    done = await bench.running()
    await bench.settle(done)
    waiting = await bench.create()
    args = ("why", RETENTION_MS, "op", waiting, running.run_id, done.run_id, "f" * 32)
    answers = [0, b"canceled", b"requested", b"finished", b"unknown"]
    assert as_list(await bench.call(CANCEL_RUNS, *args)) == answers
    assert await bench.field(waiting, "cw") == "why"
    before = await bench.values()
    assert as_list(await bench.call(CANCEL_RUNS, *args)) == answers
    assert await bench.values() == before
    assert as_list(await bench.call(CANCEL_RUNS, "", RETENTION_MS, "other", waiting)) == [0, b"finished"]
