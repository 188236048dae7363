"""accept_event: records an event once and makes the first pass over it."""

from __future__ import annotations

import json

import pytest

from redflow.engine import Emitted
from redflow.engines.redis.events import LEASE_MS
from tests.support.event_scripts import PLACE, accept, deliver, event, open_wait, public, subscribe, unfinished, woken
from tests.support.scripts import RETENTION_MS, T0, Bench, changes, run_id


async def test_without_subscribers_it_is_history(bench: Bench) -> None:
    assert await accept(bench, data=b'{"a":1}') == Emitted("accepted", "e1", True, [], [])
    record = {"n": "paid", "d": '{"a":1}', "t": str(T0), "fp": "fp", "ret": str(RETENTION_MS), "q": "1", "ns": "0"}
    record |= {"fan": "no-subscribers", "pp": "1", "nd": "0", "nf": "0", "nr": "0", "f": str(T0)}
    assert await bench.values() == {
        "event:e1": record,
        "eidx:no-subscribers:paid": {"e1": T0},
        "event_names": {"paid"},
        "eseq": "1",
        f"eexpiry:{RETENTION_MS}": ["e1"],
        "eretentions": {str(RETENTION_MS)},
    }


async def test_each_subscriber_gets_a_run_in_the_order_of_the_triggers(bench: Bench) -> None:
    await bench.serve("w", "other")
    await subscribe(bench, "w", ("t2", "paid", "-"))
    await subscribe(bench, "other", ("t1", "paid", "-"), ("t3", "sent", "-"))
    emitted = await accept(bench, data=b"[1]", parent="external")
    claimed = {run.record[b"w"].decode(): run.record for run in (await bench.claim()).runs}
    runs = await bench.ids("leases")
    assert claimed.keys() == {"w", "other"}
    assert {run[b"i"] for run in claimed.values()} == {b"[1]"}
    assert [await bench.field(run, "p") for run in runs] == ["external", "external"]
    assert (emitted.code, emitted.final, emitted.resumed_run_ids) == ("accepted", True, [])
    assert sorted(emitted.run_ids) == sorted(public(*runs))
    record = await event(bench)
    assert record.items() >= {"fan": "completed", "ns": "2", "nd": "2", "nf": "0", "p": "external"}.items()
    assert json.loads(record["d:t1"]) == ["delivered", "other", "app:q", emitted.run_ids[0]]
    assert json.loads(record["d:t2"]) == ["delivered", "w", "app:q", emitted.run_ids[1]]


async def test_the_runs_are_children_of_a_parent_that_is_known(bench: Bench) -> None:
    await bench.serve()
    await subscribe(bench, "w", ("t1", "paid", "-"))
    parent = await bench.running()
    emitted = await accept(bench, parent=public(parent.run_id)[0])
    [child] = await bench.ids("ready:app:q")
    assert emitted.run_ids == public(child)
    assert (await bench.values())[f"kids:{parent.run_id}"] == {child}


@pytest.mark.parametrize(("known", "status", "counts"), [(False, "failed", "0 1"), (True, "partial", "1 1")])
async def test_a_workflow_that_nobody_knows(bench: Bench, known: bool, status: str, counts: str) -> None:
    await bench.serve()
    await bench.read("HSET", "@subs:paid", "t2", "lost")
    if known:
        await subscribe(bench, "w", ("t1", "paid", "-"))
    emitted = await accept(bench)
    assert (emitted.final, len(emitted.run_ids)) == (True, int(known))
    record = await event(bench)
    assert (record["fan"], f"{record['nd']} {record['nf']}") == (status, counts)
    error = {"name": "UnknownWorkflowError", "kind": "unknown_workflow", "message": "Unknown workflow: lost"}
    assert json.loads(record["d:t2"]) == ["failed", "lost", "default", error]


async def test_a_correlation_key_is_remembered_and_wakes_who_waits_for_it(bench: Bench) -> None:
    await bench.serve()
    lease, other = await bench.running(), await bench.running()
    assert await open_wait(bench, lease) == await open_wait(bench, other, key="k2") == "open"
    assert await accept(bench, "e0") == Emitted("accepted", "e0", True, [], [])  # without a key it wakes nobody
    bench.now += 5
    emitted = await accept(bench, key="k1", data=b"7")
    assert emitted == Emitted("accepted", "e1", True, [], public(lease.run_id))
    assert (await event(bench)).items() >= {"k": "k1", "nr": "1", "fan": "no-subscribers"}.items()
    values = await bench.values()
    assert (values[f"latest:{PLACE}"], values["resumed:e1"]) == ("e1", {lease.run_id})
    assert f"waiting:{PLACE}" not in values
    assert values["waiting:4:paid:k2"] == {f"{other.run_id} s:one": 4e12}
    assert await bench.field(lease.run_id, "s:one") == woken("e1", T0 + 5, b"7")
    assert await bench.field(lease.run_id, f"v:{PLACE}") == "2"


async def test_a_key_that_is_empty_is_one(bench: Bench) -> None:
    await accept(bench, key="", idempotency_key="")
    assert (await event(bench)).items() >= {"k": "", "ik": ""}.items()
    assert {"latest:4:paid:", "evkey:4:paid:"} <= (await bench.values()).keys()


async def test_more_than_one_pass_is_left_to_others(bench: Bench) -> None:
    await unfinished(bench)
    values = await bench.values()
    assert (values["outbox"], values["eidx:pending:paid"]) == ({"e1": T0 + LEASE_MS}, {"e1": T0})
    record = await event(bench)
    assert record.items() >= {"fan": "pending", "ns": "51", "nd": "50", "pp": "1"}.items()
    assert "f" not in record
    assert f"eexpiry:{RETENTION_MS}" not in values
    again = await accept(bench)
    assert (again.code, again.final, len(again.run_ids)) == ("same", False, 50)
    assert (await deliver(bench)).final


@pytest.mark.parametrize("explicit", [True, False])
async def test_sent_again_it_finds_what_it_recorded(bench: Bench, explicit: bool) -> None:
    await bench.serve()
    await subscribe(bench, "w", ("t1", "paid", "-"))
    lease = await bench.running()
    await open_wait(bench, lease)
    first = await accept(bench, explicit=explicit, key="k1", idempotency_key="once")
    before = await bench.values()
    bench.now += 9
    again = await accept(bench, explicit=explicit, key="k1", idempotency_key="once")
    assert (again.code, again.final) == ("same", True)
    assert (again.run_ids, again.resumed_run_ids) == (first.run_ids, first.resumed_run_ids)
    assert len(first.run_ids) == len(first.resumed_run_ids) == 1
    assert changes(before, await bench.values()) == {}


async def test_other_data_under_a_known_id_is_a_conflict(bench: Bench) -> None:
    await accept(bench)
    before = await bench.values()
    assert await accept(bench, fingerprint="other") == Emitted("conflict", "e1", True, [], [])
    assert changes(before, await bench.values()) == {}


async def test_an_idempotency_key_finds_the_event_of_its_name(bench: Bench) -> None:
    await accept(bench, explicit=False, idempotency_key="once")
    entry = (await bench.snapshot()).entries["evkey:4:paid:once"]
    assert entry.value == "e1"
    assert entry.ttl_ms is not None
    assert 50_000 < entry.ttl_ms <= 60_000
    before = await bench.values()
    assert await accept(bench, "e2", explicit=False, idempotency_key="once") == Emitted("same", "e1", True, [], [])
    other = await accept(bench, "e2", explicit=False, idempotency_key="once", fingerprint="other")
    assert other == Emitted("conflict", "e1", True, [], [])
    chosen = await accept(bench, "e2", idempotency_key="once")  # an id of the caller's own asks for that very event
    assert chosen == Emitted("conflict", "e1", True, [], [])
    assert changes(before, await bench.values()) == {}
    assert (await accept(bench, "e2", "sent", explicit=False, idempotency_key="once")).code == "accepted"


async def test_a_key_whose_event_is_gone_is_free(bench: Bench) -> None:
    await bench.read("SET", "@evkey:4:paid:once", "gone", "EX", 60)
    assert (await accept(bench, explicit=False, idempotency_key="once")).code == "accepted"
    assert (await bench.values())["evkey:4:paid:once"] == "e1"


async def test_a_parent_that_is_none_of_ours_is_only_stored(bench: Bench) -> None:
    await bench.serve()
    await subscribe(bench, "w", ("t1", "paid", "-"))
    gone = public(run_id(999))[0]
    await accept(bench, parent=gone)
    assert (await event(bench))["p"] == gone
    assert not [name for name in await bench.values() if name.startswith("kids:")]
