"""claim_runs: takes ready runs under a lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.engines.redis.replies import as_int
from redflow.engines.redis.runs import Settlement
from tests.support.scripts import BIG, ERROR, LEASE_MS, QUEUE, RETENTION_MS, T0, Bench, changes, run_id, step

TOKEN = "w1.abc"


async def test_a_first_claim_brings_what_the_attempt_needs(bench: Bench) -> None:
    await bench.serve()
    created = await bench.create()
    before = await bench.values()
    bench.now += 7
    reply = await bench.claim(token=TOKEN)
    [run] = reply.runs
    assert (reply.now, reply.next_due, reply.next_lease, reply.more) == (T0 + 7, None, T0 + 7 + LEASE_MS, False)
    assert (run.lease.run_id, run.lease.fence, run.lease.token, run.attempt) == (created, 1, TOKEN, 1)
    assert run.record == {
        b"w": b"w",
        b"c": str(T0).encode(),
        b"q": QUEUE.encode(),
        b"m": b"3",
        b"i": b"{}",
        b"t": str(T0 + 7).encode(),
    }
    told = await bench.record(created)
    assert {name.encode(): value.encode() for name, value in told.items()} == run.record | {
        b"s": b"running",
        b"n": b"1",
        b"k": TOKEN.encode(),
        b"a": b"1",
    }
    after = await bench.values()
    assert changes(before, after) == {
        f"run:{created}": told,
        "idx:queued:w": None,
        "idx:running:w": {created: T0},
        "ready:app:q": None,
        "leases": {created: T0 + 7 + LEASE_MS},
        "worker:w1": {"app": "app", "info": "{}", "started": str(T0), "claim": TOKEN, "claimed": created},
        "idle:app:q": {"w1"},
    }


async def test_a_later_claim_brings_the_whole_record(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.record([step(lease)])
    await bench.settle(lease, "retry", ERROR, due=T0 + 10)
    bench.now += 20
    await bench.scripts.promote(10)
    [run] = (await bench.claim()).runs
    assert (run.lease.fence, run.attempt) == (2, 2)
    assert (run.record[b"s:one"], run.record[b"b"], run.record[b"t"]) == (
        b"1 Sr 1 0 5 1",
        str(T0 + 20).encode(),
        str(T0).encode(),
    )


async def test_a_sleeper_goes_on_with_its_attempt(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, "suspended", due=T0 + 10)
    assert await bench.field(lease.run_id, "r") == "1"
    bench.now += 20
    await bench.scripts.promote(10)
    [run] = (await bench.claim()).runs
    assert (run.lease.fence, run.attempt) == (2, 1)
    record = await bench.record(lease.run_id)
    assert "r" not in record
    assert "b" not in record


async def test_a_recovered_run_goes_on_with_its_attempt(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.release([lease])
    [run] = (await bench.claim()).runs
    assert (run.lease.fence, run.attempt, run.record[b"s"]) == (2, 1, b"running")


async def test_sent_again_it_answers_the_same_runs(bench: Bench) -> None:
    await bench.serve()
    created = [await bench.create() for _ in range(3)]
    first = await bench.claim(2, token=TOKEN)
    assert [run.lease.run_id for run in first.runs] == created[:2]
    before = await bench.values()
    bench.now += 10
    again = await bench.claim(2, token=TOKEN)
    assert [(run.lease, run.attempt) for run in again.runs] == [(run.lease, run.attempt) for run in first.runs]
    assert all(run.record.items() >= first.runs[i].record.items() for i, run in enumerate(again.runs))
    assert again.more  # it didn't look at what else is ready
    assert changes(before, await bench.values()) == {}


async def test_sent_again_it_leaves_out_what_has_ended_or_was_lost(bench: Bench) -> None:
    await bench.serve()
    for _ in range(3):
        await bench.create()
    runs = (await bench.claim(token=TOKEN)).runs
    await bench.settle(runs[0].lease)
    await bench.scripts.release([runs[1].lease])
    assert [run.lease for run in (await bench.claim(token=TOKEN)).runs] == [runs[2].lease]


async def test_a_claim_that_found_nothing_may_find_something_when_sent_again(bench: Bench) -> None:
    await bench.serve()
    assert (await bench.claim(token=TOKEN)).runs == []
    created = await bench.create()
    assert [run.lease.run_id for run in (await bench.claim(token=TOKEN)).runs] == [created]


async def test_a_worker_that_is_not_known_has_to_register(bench: Bench) -> None:
    await bench.register_workflow()
    await bench.create()
    before = await bench.values()
    assert await bench.scripts.claim("w1", TOKEN, LEASE_MS, 1, [QUEUE]) is None
    assert changes(before, await bench.values()) == {}
    await bench.register_worker("w")
    await bench.unregister_worker(QUEUE)
    assert await bench.scripts.claim("w1", TOKEN, LEASE_MS, 1, [QUEUE]) is None
    assert (await bench.snapshot()).hash("worker:w1") == {}


async def test_it_takes_what_is_wanted_in_order_from_its_queues_only(bench: Bench) -> None:
    await bench.register_workflow("a", queue="qa")
    await bench.register_workflow("b", queue="qb")
    await bench.register_worker("a", "b")
    a = [await bench.create("a") for _ in range(2)]
    b = [await bench.create("b") for _ in range(2)]
    reply = await bench.claim(3, queues=("app:qb", "app:qa"))
    assert [run.lease.run_id for run in reply.runs] == [*b, a[0]]
    assert (await bench.snapshot()).hash("worker:w1")["claimed"] == " ".join([*b, a[0]])
    assert [run.lease.run_id for run in (await bench.claim(3, queues=("app:qb",))).runs] == []
    assert [run.lease.run_id for run in (await bench.claim(3, queues=("app:qa",))).runs] == [a[1]]


async def test_only_a_worker_that_could_take_more_counts_as_idle(bench: Bench) -> None:
    await bench.serve()
    await bench.create()
    await bench.claim()
    assert 3_000_000 < as_int(await bench.read("PTTL", "@idle:app:q")) <= 86_400_000
    await bench.register_worker("w", worker="w2")
    await bench.create()
    await bench.claim(1, worker="w2")
    await bench.create()
    await bench.claim(1)
    assert "idle:app:q" not in await bench.values()


async def test_it_tells_the_next_times(bench: Bench) -> None:
    await bench.serve()
    await bench.create()
    await bench.create(run_at_ms=T0 + 300)
    await bench.create(run_at_ms=T0 + 200)
    reply = await bench.claim()
    assert (reply.next_due, reply.next_lease) == (T0 + 200, T0 + LEASE_MS)


# -- what is set aside ---------------------------------------------------------------------------------------------


async def test_runs_over_the_limit_stand_in_line_and_start_in_order(bench: Bench) -> None:
    await bench.serve(max_concurrency=2)
    created = [await bench.create() for _ in range(5)]
    first = await bench.claim()
    assert [run.lease.run_id for run in first.runs] == created[:2]
    values = await bench.values()
    assert values["line:5:app:q:w"] == {created[2]: 3, created[3]: 4, created[4]: 5}
    assert (values["lined:w"], values["lined"]) == ({"app:q"}, {"w"})
    assert (await bench.claim()).runs == []
    late = await bench.create()
    await bench.settle(first.runs[0].lease)
    assert await bench.ids("ready:app:q") == [created[2], late]  # its turn was handed on; late has to wait
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [created[2]]
    assert await bench.ids("line:5:app:q:w") == [created[3], created[4], late]


async def test_a_recovered_run_still_has_its_slot(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    lease = await bench.running()
    await bench.create()
    await bench.scripts.release([lease])
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [lease.run_id]


async def test_a_run_whose_workflow_is_unknown_here_is_handed_to_a_worker_that_knows_it(bench: Bench) -> None:
    await bench.serve("w")
    await bench.register_workflow("other")
    stray = await bench.create("other")
    created = await bench.create()
    bench.now += 5
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [created]
    values = await bench.values()
    assert values["stray:5:app:q:other"] == {stray: 1}
    assert values["strays"] == {"5:app:q:other": T0 + 5}
    bench.now += 5
    second = await bench.create("other")
    assert (await bench.claim()).runs == []
    assert (await bench.values())["strays"] == {"5:app:q:other": T0 + 5}  # the time of the first
    # A worker that knows it but serves another queue leaves it; one that serves this queue takes it.
    await bench.register_worker("other", worker="w2")
    assert (await bench.claim(worker="w2", queues=("app:x",))).runs == []
    reply = await bench.claim(worker="w2")
    assert [run.lease.run_id for run in reply.runs] == [stray, second]
    values = await bench.values()
    assert "stray:5:app:q:other" not in values
    assert "strays" not in values


async def test_strays_that_are_left_stay_noted(bench: Bench) -> None:
    await bench.serve("w")
    await bench.register_workflow("other")
    created = [await bench.create("other") for _ in range(2)]
    await bench.claim()
    await bench.register_worker("other", worker="w2")
    assert [run.lease.run_id for run in (await bench.claim(1, worker="w2")).runs] == created[:1]
    assert (await bench.values())["strays"] == {"5:app:q:other": T0}


async def test_a_stray_without_a_slot_stands_in_line(bench: Bench) -> None:
    await bench.register_workflow(max_concurrency=1)
    await bench.register_worker()
    created = [await bench.create() for _ in range(2)]
    await bench.claim()
    assert await bench.ids("stray:5:app:q:w") == created
    await bench.register_worker("w", worker="w2")
    assert [run.lease.run_id for run in (await bench.claim(worker="w2")).runs] == created[:1]
    assert await bench.ids("line:5:app:q:w") == created[1:]


async def test_names_with_colons_are_told_apart(bench: Bench) -> None:
    await bench.register_workflow("x:y", app="", queue="q")
    await bench.register_workflow("y", app="", queue="q:x")
    await bench.register_worker()
    one, two = await bench.create("x:y"), await bench.create("y")
    await bench.claim(queues=("q", "q:x"))
    assert (await bench.values())["strays"] == {"1:q:x:y": T0, "3:q:x:y": T0}
    await bench.register_worker("y", worker="w2")
    assert [run.lease.run_id for run in (await bench.claim(worker="w2", queues=("q", "q:x"))).runs] == [two]
    assert await bench.ids("stray:1:q:x:y") == [one]


async def test_what_is_over_or_gone_is_dropped(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease)
    assert (await bench.claim()).runs == []
    before = await bench.values()
    await bench.read("ZADD", "@ready:app:q", 1, lease.run_id, 2, run_id(99))
    assert (await bench.claim()).runs == []
    assert changes(before, await bench.values()) == {}


async def make_suspects(bench: Bench, count: int) -> list[str]:
    """Runs of one worker that died twice while it held them."""
    created = [await bench.create() for _ in range(count)]
    for _ in range(2):
        assert len((await bench.claim(count)).runs) == count
        bench.now += LEASE_MS
        assert (await bench.scripts.recover(count, ERROR))[2] == count
    return created


async def test_runs_that_may_be_poison_are_given_out_one_at_a_time(bench: Bench) -> None:
    """The guilty one of several that shared their holders must not take the others down with it."""
    await bench.serve()
    created = await make_suspects(bench, 3)
    order = await bench.ids("ready:app:q")
    innocent = await bench.create()
    reply = await bench.claim()
    assert [run.lease.run_id for run in reply.runs] == [order[0], innocent]
    assert not reply.more
    assert await bench.ids("suspects:app:q") == order[1:]  # a line of their own
    assert (await bench.claim()).runs == []
    await bench.register_worker("w", worker="w2")
    other = await bench.claim(worker="w2")
    assert [run.lease.run_id for run in other.runs] == [order[1]]
    await bench.settle(other.runs[0].lease)
    assert [run.lease.run_id for run in (await bench.claim(worker="w2")).runs] == [order[2]]
    assert set(order) == set(created)


async def test_many_suspects_do_not_keep_a_worker_from_the_runs_behind_them(bench: Bench) -> None:
    await bench.serve()
    await make_suspects(bench, 200)
    order = await bench.ids("ready:app:q")
    innocent = await bench.create()
    first = await bench.claim(5)
    assert [run.lease.run_id for run in first.runs] == order[:1]
    assert first.more  # it looked at 200: the next claim begins behind them
    second = await bench.claim(5)
    assert [run.lease.run_id for run in second.runs] == [innocent]
    assert not second.more
    assert await bench.ids("suspects:app:q") == order[1:]


async def test_a_settle_tells_of_suspects_that_wait_and_a_cancel_ends_one(bench: Bench) -> None:
    await bench.serve()
    await make_suspects(bench, 3)
    [run] = (await bench.claim()).runs
    second, third = await bench.ids("suspects:app:q")
    assert await bench.scripts.cancel(second, "") == "canceled"
    assert await bench.ids("suspects:app:q") == [third]
    settlement = Settlement(run.lease, "succeeded", b"1", None, "", b"", ())
    assert await bench.scripts.settle([settlement], "w1", ["app:q"], idle=True) == (True, {})
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [third]


@pytest.mark.parametrize("end", ["settled", "progress", "handed back"])
async def test_the_next_suspect_is_given_out_when_the_last_is_none_any_more(bench: Bench, end: str) -> None:
    await bench.serve()
    await make_suspects(bench, 2)
    _, second = await bench.ids("ready:app:q")
    [run] = (await bench.claim()).runs
    assert (await bench.claim()).runs == []
    if end == "settled":
        await bench.settle(run.lease)
    elif end == "progress":
        await bench.scripts.record([step(run.lease)])
    else:
        await bench.scripts.release([run.lease])
    [next_run] = (await bench.claim()).runs
    assert next_run.lease.run_id == second


@pytest.mark.parametrize("name", ["a", "n", "c"])
async def test_a_record_with_a_broken_number_fails_alone(bench: Bench, name: str) -> None:
    await bench.serve()
    broken, good = await bench.create(), await bench.create()
    await bench.read("HSET", f"@run:{broken}", name, "abc")
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [good]
    record = await bench.record(broken)
    assert (record["s"], record[name]) == ("failed", str(T0) if name == "c" else "0")
    assert "is broken" in record["e"]


async def test_what_is_no_record_takes_nothing_down(bench: Bench) -> None:
    await bench.serve()
    good = await bench.create()
    await bench.read("SET", f"@run:{run_id(77)}", "not a hash")
    await bench.read("HSET", f"@run:{run_id(78)}", "s", "queued")
    await bench.read("ZADD", "@ready:app:q", 0, run_id(77), 0, run_id(78))
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [good]
    await bench.read("DEL", f"@run:{run_id(77)}", f"@run:{run_id(78)}")


async def test_one_call_looks_at_no_more_than_200_runs(bench: Bench) -> None:
    await bench.serve("w")
    await bench.register_workflow("other")
    for _ in range(5):
        await bench.scripts.create([bench.order("other") for _ in range(50)], None)
    last = await bench.create()
    reply = await bench.claim(1)
    assert (reply.runs, reply.more) == ([], True)
    assert len(await bench.ids("stray:5:app:q:other")) == 200
    assert "idle:app:q" not in await bench.values()
    reply = await bench.claim(1)
    assert [run.lease.run_id for run in reply.runs] == [last]


async def test_large_inputs_are_marked_as_stored_apart(bench: Bench) -> None:
    await bench.serve()
    await bench.scripts.create([replace(bench.order(input_json=BIG))], None)
    [run] = (await bench.claim()).runs
    assert run.record[b"i"] == b"@"


async def test_the_retention_of_the_claimer_is_that_of_what_it_ends(bench: Bench) -> None:
    """A cancel request that nobody could act on is carried out by the next claim."""
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.cancel(lease.run_id, "")
    await bench.read("HDEL", f"@run:{lease.run_id}", "k")
    await bench.read("ZREM", "@leases", lease.run_id)
    await bench.read("ZADD", "@ready:app:q", 1, lease.run_id)
    assert (await bench.claim()).runs == []
    values = await bench.values()
    assert (await bench.record(lease.run_id))["s"] == "canceled"
    assert values[f"expiry:{RETENTION_MS}"] == [lease.run_id]
