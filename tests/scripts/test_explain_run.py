"""explain_run: one sentence on why a run is where it is, from facts of one instant."""

from __future__ import annotations

import pytest

from redflow.domain.run import public_run_id
from redflow.engines.redis.explaining import Explainer
from redflow.types import RunExplanation
from tests.support.scripts import BIG, ERROR, LEASE_MS, QUEUE, T0, WORKER, Bench, changes
from tests.support.scripts import step as step_write


async def explained(bench: Bench, run: str) -> RunExplanation:
    """The explanation; asking wrote nothing."""
    before = await bench.values()
    explainer = Explainer(bench.connection, bench.keys, now=bench.now)
    explanation = await explainer.explain(public_run_id(run))
    assert explanation is not None
    assert changes(before, await bench.values()) == {}
    assert (explanation["run_id"], explanation["workflow"]) == (public_run_id(run), "w")
    return explanation


async def reason(bench: Bench, run: str) -> tuple[str, str]:
    explanation = await explained(bench, run)
    return explanation["waits_for"], explanation["reason"]


async def register_worker(bench: Bench, *workflows: str, worker: str = WORKER, queue: str = QUEUE) -> None:
    await bench.register_worker(*workflows, worker=worker)
    await bench.read("HSET", f"@worker:{worker}", "info", f'{{"queues":["{queue}"],"concurrency":3}}')


@pytest.mark.parametrize("run", ["run_" + "0" * 36, "run_00000000-0000-0000-0000-000000000000", "", "x"])
async def test_an_unknown_run(bench: Bench, run: str) -> None:
    assert await Explainer(bench.connection, bench.keys).explain(run) is None


# -- ready -----------------------------------------------------------------------------------------------------------


async def test_a_run_of_a_workflow_that_nobody_registered(bench: Bench) -> None:
    run = await bench.create(queue="q")
    assert await reason(bench, run) == (
        "workflow",
        "No worker has registered the workflow 'w' yet; no live worker knows any workflow.",
    )
    await register_worker(bench, "b", "a")
    assert (await reason(bench, run))[1].endswith("yet; live workers know 'a', 'b'.")


async def test_a_queue_that_no_live_worker_serves(bench: Bench) -> None:
    await bench.register_workflow()
    run = await bench.create()
    assert await reason(bench, run) == (
        "worker",
        "It is ready, but no live worker serves its queue 'app:q': no worker lives.",
    )
    await register_worker(bench, "w", queue="app:other")
    assert (await reason(bench, run))[1].endswith("those that live serve 'app:other'.")
    await register_worker(bench, "x", worker="w2")
    assert await reason(bench, run) == (
        "workflow",
        "No live worker of its queue 'app:q' knows the workflow 'w'; workers of other queues do: 'app:other'.",
    )


async def test_a_run_in_its_queue(bench: Bench) -> None:
    await bench.register_workflow()
    await register_worker(bench, "w")
    await register_worker(bench, "w", worker="w2")
    runs = [await bench.create() for _ in range(3)]
    assert await reason(bench, runs[1]) == (
        "worker",
        "It is number 2 of 3 in its queue 'app:q', waiting for one of the 6 slots of its workers.",
    )
    assert (await explained(bench, runs[2]))["position"] == 3


async def test_a_stray(bench: Bench) -> None:
    await bench.register_workflow()
    await register_worker(bench, "x")
    run = await bench.create()
    await bench.claim()
    assert await reason(bench, run) == (
        "workflow",
        "No live worker of its queue 'app:q' knows the workflow 'w'; live workers know 'x'.",
    )
    await register_worker(bench, "w", worker="w2")
    assert (await reason(bench, run))[1].startswith("A worker that doesn't know 'w' met it; one of queue")


async def test_a_run_in_line_for_a_slot(bench: Bench) -> None:
    await bench.register_workflow(max_concurrency=2)
    await register_worker(bench, "w")
    holders = [await bench.create() for _ in range(2)]
    waiting = [await bench.create() for _ in range(2)]
    await bench.claim()
    explanation = await explained(bench, waiting[1])
    names = ", ".join(public_run_id(run) for run in holders)
    assert explanation["reason"] == f"It is number 2 of 2 in line for one of the 2 slots of 'w', held by {names}."
    assert explanation["held_by"] == [public_run_id(run) for run in holders]
    assert (explanation["waits_for"], explanation["position"]) == ("slot", 2)


async def test_a_run_that_was_handed_back(bench: Bench) -> None:
    await bench.register_workflow()
    await register_worker(bench, "w")
    lease = await bench.running()
    await bench.scripts.release([lease])
    explanation = await explained(bench, lease.run_id)
    assert explanation["status"] == "running"
    assert explanation["reason"].startswith("It is number 1 of 1 in its queue")


# -- scheduled ---------------------------------------------------------------------------------------------------------


async def test_a_run_that_is_to_start_later(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create(run_at_ms=T0 + 90_000)
    explanation = await explained(bench, run)
    assert explanation["waits_for"] == "time"
    assert explanation["until"] == T0 + 90_000
    assert explanation["reason"].startswith("It is to start at 20")
    assert explanation["reason"].endswith("Z (in 90.0 s).")
    bench.now = T0 + 90_001
    assert (await reason(bench, run))[1].endswith("(now due).")


@pytest.mark.parametrize(
    "error", [b'{"name":"ValueError","message":"no"}', b'{"name":"ValueError","message":' + BIG + b"}"]
)
async def test_a_run_between_two_attempts(bench: Bench, error: bytes) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, "retry", error, due=T0 + 3 * 3_600_000)
    kind, text = await reason(bench, lease.run_id)
    assert kind == "time"
    assert text.startswith("Attempt 2 of 3 begins at ")
    assert "(in 3 h); the last one failed: ValueError: " in text
    assert len(text) < 500


async def test_a_run_that_sleeps_says_for_what(bench: Bench) -> None:
    await bench.serve()
    lease, child = await bench.running(), await bench.create()
    event = step_write(lease, "approval", b"- %d 11 5:order:o-1 " % (T0 + 60_000), seq=1, status="R")
    awaited = step_write(lease, "ship", b"- %s 1 own " % child.encode(), seq=2, status="R")
    nap = step_write(lease, "nap", b"%d" % (T0 + 30_000), seq=3, status="R")
    for write, kind in ((event, "e"), (awaited, "c"), (nap, "s")):
        write.header = write.header.replace("Rr 1 0 5", f"R{kind} 1 0 -")
    await bench.settle(lease, "suspended", b"", due=T0 + 30_000, steps=(event, awaited, nap))
    explanation = await explained(bench, lease.run_id)
    assert (explanation["waits_for"], explanation["until"]) == ("event", T0 + 30_000)
    for part in (
        "It sleeps: ",
        "step 'approval' waits for event 'order' with key 'o-1', at the latest until ",
        f"step 'ship' waits for the child {public_run_id(child)} (queued)",
        "step 'nap' waits until ",
        "(in 30.0 s)",
    ):
        assert part in explanation["reason"]


# -- executed and ended ---------------------------------------------------------------------------------------------


async def test_a_run_that_is_executed(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    assert await reason(bench, lease.run_id) == ("nothing", "Worker w1 executes it: attempt 1 of 3.")
    await bench.scripts.record([step_write(lease, "pay", b"", status="R")])
    assert (await reason(bench, lease.run_id))[1] == "Worker w1 executes it: attempt 1 of 3, in step 'pay'."
    await bench.scripts.cancel(lease.run_id, "too late")
    assert await reason(bench, lease.run_id) == (
        "cancel",
        "It is being canceled: too late; worker w1 was asked to stop it.",
    )


async def test_runs_that_ended(bench: Bench) -> None:
    await bench.serve()
    done, failed, canceled = [await bench.running() for _ in range(3)]
    await bench.settle(done)
    await bench.settle(failed, "failed", b'{"name":"ValueError","message":"no"}')
    await bench.scripts.cancel(canceled.run_id, "enough")
    await bench.settle(canceled)
    for lease, start, end in (
        (done, "It succeeded at 20", "Z."),
        (failed, "It failed at 20", "in attempt 1 of 3: ValueError: no."),
        (canceled, "It was canceled at 20", ": enough."),
    ):
        kind, text = await reason(bench, lease.run_id)
        assert kind == "nothing"
        assert (text.startswith(start), text.endswith(end)) == (True, True), text


async def test_a_run_that_may_be_poison_waits_for_a_worker_without_one(bench: Bench) -> None:
    await bench.register_workflow()
    await register_worker(bench, "w")
    created = [await bench.create() for _ in range(2)]
    for _ in range(2):
        await bench.claim()
        bench.now += LEASE_MS
        await bench.scripts.recover(100, ERROR)
    [run] = (await bench.claim()).runs
    [other] = set(created) - {run.lease.run_id}
    assert await reason(bench, other) == (
        "worker",
        "Two workers in a row died while they held it; it waits for one that holds no other such run.",
    )
