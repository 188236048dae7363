"""pack_record: the record of an ended run is made small, and every verb answers as it would without that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from redflow.domain.run import public_run_id
from redflow.engines.redis.definitions import REGISTER
from redflow.engines.redis.explaining import Explainer
from redflow.engines.redis.link import Argument
from redflow.engines.redis.packing import PACKED
from redflow.engines.redis.replies import as_fields, as_int, as_text
from redflow.engines.redis.runs import ChildStart, Lease, StepWrite
from tests.support.scripts import LEASE_MS, RETENTION_MS, WORKER, Bench, changes, settlement, step

LONG = b'"' + b"x" * 198 + b'"'
"""A payload that turns the hash of its record into a table."""
MOST = 2048
"""The longest text of a packed record, bytes."""


async def running(bench: Bench, input_json: bytes = LONG) -> Lease:
    """A run under a lease with this input."""
    order = bench.order(input_json=input_json)
    assert await bench.scripts.create([order], None) == [("created", order.run_id)]
    return await bench.claimed(order.run_id)


async def stored(bench: Bench, run: str) -> dict[bytes, bytes]:
    """The fields of a record as they are stored."""
    return as_fields(await bench.read("HGETALL", f"@run:{run}"))


async def is_table(bench: Bench, run: str) -> bool:
    """Whether the server keeps the record in the large form."""
    return as_text(await bench.read("OBJECT", "ENCODING", f"@run:{run}")) == "hashtable"


async def packed(bench: Bench, outcome: str = "succeeded", payload: bytes = LONG) -> Lease:
    """A run that has ended, its record packed."""
    lease = await running(bench)
    assert await bench.settle(lease, outcome, payload, steps=(step(lease, "one", LONG),)) == {}
    assert PACKED.encode() in await stored(bench, lease.run_id)
    return lease


async def unchanged(bench: Bench, run: str, call: Awaitable[object]) -> object:
    """What a call answers; it leaves the record as it is, byte for byte."""
    before = await stored(bench, run)
    answer = await call
    assert await stored(bench, run) == before
    return answer


# -- the form --------------------------------------------------------------------------------------------------------


async def test_long_payloads_are_cut_into_fields_and_the_rest_keeps_its_names(bench: Bench) -> None:
    await bench.serve()
    lease = await running(bench)
    live = await bench.record(lease.run_id)
    assert await is_table(bench, lease.run_id)
    bench.now += 9
    await bench.settle(lease, "succeeded", LONG, steps=(step(lease, "one", LONG), step(lease, "two", b"2", seq=2)))
    fields = await stored(bench, lease.run_id)
    pieces = [fields.pop(str(n).encode()) for n in range(7)]
    assert not await is_table(bench, lease.run_id)
    assert {name.decode() for name in fields} == (live.keys() - {"i"}) | {"f", "s:two"}
    assert [len(piece) for piece in pieces[:-1]] == [64] * 6
    text = b"".join(pieces)
    one = b"1 Sr 1 0 5 " + LONG
    parts = [b"1 200 i" + LONG, b"5 211 s:one" + one, b"1 200@%d o" % (text.index(LONG) + 1)]
    assert len(text) == sum(map(len, parts))
    assert all(part in text for part in parts)
    assert text.endswith(parts[-1])
    assert await bench.record(lease.run_id) == live | {
        "s": "succeeded",
        "f": str(bench.now),
        "o": LONG.decode(),
        "s:one": one.decode(),
        "s:two": "2 Sr 1 0 5 2",
    }


async def test_an_output_of_its_own_stands_in_the_text(bench: Bench) -> None:
    await bench.serve()
    lease = await running(bench)
    await bench.settle(lease, "succeeded", LONG.replace(b"x", b"y"), steps=(step(lease, "one", LONG),))
    assert await bench.field(lease.run_id, "o") == LONG.replace(b"x", b"y").decode()
    assert await bench.field(lease.run_id, "s:one") == "1 Sr 1 0 5 " + LONG.decode()


@pytest.mark.parametrize(("size", "long"), [(64, False), (65, True)])
async def test_what_fits_a_field_stays_in_it(bench: Bench, size: int, long: bool) -> None:
    await bench.serve()
    lease = await running(bench, b"1" * size)
    await bench.settle(lease)
    assert (PACKED.encode() in await stored(bench, lease.run_id)) is long
    assert await bench.field(lease.run_id, "i") == "1" * size


async def test_what_fits_a_field_stays_in_it_beside_a_long_one(bench: Bench) -> None:
    await bench.serve()
    lease = await running(bench)
    await bench.settle(lease, "succeeded", b"1" * 64)
    fields = await stored(bench, lease.run_id)
    assert PACKED.encode() in fields
    assert fields[b"o"] == b"1" * 64


@pytest.mark.parametrize(("more", "packs"), [(0, True), (1, False)])
async def test_a_large_record_stays_as_it_is(bench: Bench, more: int, packs: bool) -> None:
    await bench.serve()
    data = b"1" * (MOST - len(b"1 2040 i") + more)
    lease = await running(bench, data)
    await bench.settle(lease)
    assert (PACKED.encode() in await stored(bench, lease.run_id)) is packs
    assert await bench.field(lease.run_id, "i") == data.decode()


async def test_nothing_of_a_record_of_megabytes_is_read(bench: Bench) -> None:
    await bench.serve()
    lease = await running(bench, b"1")
    writes = [step(lease, f"n{n}", b"1" * 20_000, seq=n) for n in range(1, 101)]
    await bench.scripts.record(writes)
    await bench.read("CONFIG", "RESETSTAT")
    await bench.settle(lease)
    assert b"cmdstat_hgetall" not in (await commands(bench))
    assert len(await bench.record(lease.run_id)) > 100


async def commands(bench: Bench) -> bytes:
    """What the server tells of the commands it ran."""
    told = await bench.read("INFO", "commandstats")
    assert isinstance(told, bytes)
    return told


async def test_a_record_whose_long_payload_is_gone_is_small_again(bench: Bench) -> None:
    await bench.serve()
    lease = await running(bench, b"1")
    await bench.scripts.decide_failure(lease, LONG)
    assert await is_table(bench, lease.run_id)
    await bench.settle(lease, "failed", b'{"message":"no"}')
    fields = await stored(bench, lease.run_id)
    assert PACKED.encode() in fields  # the failure that was decided
    assert await bench.field(lease.run_id, "e") == LONG.decode()
    later = await running(bench, b"1")
    await bench.settle(later, "retry", LONG, due=bench.now)
    await bench.scripts.promote(10)
    again = await bench.claimed(later.run_id)
    assert await is_table(bench, later.run_id)
    await bench.settle(again)
    assert PACKED.encode() not in await stored(bench, later.run_id)
    assert not await is_table(bench, later.run_id)


async def test_a_long_field_that_scripts_look_at_keeps_the_record_as_it_is(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    before = await bench.record(run)
    await bench.scripts.cancel(run, "y" * 65)
    assert await is_table(bench, run)
    assert (await bench.record(run)).keys() - before.keys() == {"cr", "cw", "f"}


async def test_long_step_names_and_traces_are_packed_too(bench: Bench) -> None:
    await bench.serve()
    lease = await running(bench, b"1")
    name = "ä" * 40
    await bench.scripts.record([step(lease, name)])
    await bench.settle(lease, "retry", LONG, due=bench.now)
    await bench.scripts.promote(10)
    again = await bench.claimed(lease.run_id)
    item = replace(settlement(again, "retry", LONG, due=bench.now), trace_field="a:2", trace=LONG)
    await bench.scripts.settle([item], WORKER, [], idle=False)
    await bench.scripts.promote(10)
    last = await bench.claimed(lease.run_id)
    live = await bench.record(lease.run_id)
    await bench.settle(last, "failed", LONG)
    fields = await stored(bench, lease.run_id)
    assert not {f"s:{name}".encode(), b"a:2", b"e"} & fields.keys()
    assert b"a:1" in fields
    whole = await bench.record(lease.run_id)
    assert {n: whole[n] for n in (f"s:{name}", "a:1", "a:2")} == {n: live[n] for n in (f"s:{name}", "a:1", "a:2")}


async def test_bytes_that_are_no_text_come_back(bench: Bench) -> None:
    await bench.serve()
    noise = bytes(range(256))
    lease = await running(bench, noise)
    await bench.settle(lease, "succeeded", noise[::-1])
    record = await bench.record(lease.run_id)
    assert record["i"].encode("utf-8", "surrogateescape") == noise
    assert record["o"].encode("utf-8", "surrogateescape") == noise[::-1]


@pytest.mark.parametrize("status", ["queued", "scheduled", "running", "asleep"])
async def test_a_live_record_is_never_packed(bench: Bench, status: str) -> None:
    await bench.serve()
    order = replace(bench.order(input_json=LONG), run_at_ms=bench.now + 9 if status == "scheduled" else None)
    await bench.scripts.create([order], None)
    if status in ("running", "asleep"):
        lease = await bench.claimed(order.run_id)
        if status == "asleep":
            await bench.settle(lease, "suspended", due=bench.now + 9, steps=(step(lease, "one", LONG),))
    fields = await stored(bench, order.run_id)
    assert fields[b"i"] == LONG
    assert PACKED.encode() not in fields


# -- who ends a run --------------------------------------------------------------------------------------------------


async def die(bench: Bench, lease: Lease) -> None:
    """The holder lets its lease run out with a cancel asked for."""
    await bench.scripts.cancel(lease.run_id, "")
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")


async def give_back(bench: Bench, lease: Lease) -> None:
    """The holder hands the run back after its failure was decided."""
    await bench.scripts.decide_failure(lease, LONG)
    await bench.scripts.release([lease])


async def cancel_it_ready(bench: Bench, lease: Lease) -> None:
    """The run is canceled in its line."""
    await bench.scripts.release([lease])
    await bench.scripts.cancel(lease.run_id, "")


@pytest.mark.parametrize("ends", [die, give_back, cancel_it_ready])
async def test_whoever_ends_a_run_packs_it(bench: Bench, ends: Callable[[Bench, Lease], Awaitable[None]]) -> None:
    await bench.serve()
    lease = await running(bench)
    await ends(bench, lease)
    fields = await stored(bench, lease.run_id)
    assert fields[b"s"] in (b"canceled", b"failed")
    assert PACKED.encode() in fields
    assert await bench.field(lease.run_id, "i") == LONG.decode()


# -- verbs that meet a packed record ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled", "retry", "suspended"])
async def test_an_end_that_is_sent_again_is_plain_success(bench: Bench, outcome: str) -> None:
    await bench.serve()
    lease = await packed(bench)
    assert await unchanged(bench, lease.run_id, bench.settle(lease, outcome, LONG, due=bench.now)) == {}


@pytest.mark.parametrize("changed", [{"fence": 2}, {"token": "w1.other"}])
async def test_a_stale_holder_is_told_so(bench: Bench, changed: dict[str, str | int]) -> None:
    await bench.serve()
    lease = await packed(bench)
    stale = Lease(lease.run_id, int(changed.get("fence", lease.fence)), str(changed.get("token", lease.token)))
    assert await unchanged(bench, lease.run_id, bench.settle(stale)) == {0: "stale"}
    assert await unchanged(bench, lease.run_id, bench.scripts.record([step(stale)])) == {0: "stale"}
    assert await unchanged(bench, lease.run_id, bench.scripts.decide_failure(stale, LONG)) == "stale"


async def test_its_former_holder_is_told_that_it_is_over(bench: Bench) -> None:
    await bench.serve()
    lease = await packed(bench)
    run, scripts = lease.run_id, bench.scripts
    late: list[StepWrite] = [step(lease, "one", b"9"), step(lease, "late", LONG)]
    assert await unchanged(bench, run, scripts.record(late)) == {0: "settled", 1: "settled"}
    assert await unchanged(bench, run, scripts.decide_failure(lease, LONG)) == "settled"
    assert await unchanged(bench, run, scripts.release([lease])) == 0
    child = ChildStart(lease, "s:kid", "2 Rc 1 0 - ", 1, True, bench.order())
    assert (await scripts.start_children([child], None))[0][0] == "settled"
    beat = await scripts.renew(WORKER, LEASE_MS, LEASE_MS, [lease], patience_s=5)
    assert beat is not None
    assert beat[2] == {0: "lost"}


async def test_a_claim_that_is_sent_again_no_longer_has_it(bench: Bench) -> None:
    await bench.serve()
    order = bench.order(input_json=LONG)
    await bench.scripts.create([order], None)
    (run,) = (await bench.claim(token="w1.c")).runs
    await bench.settle(run.lease)
    assert (await bench.claim(token="w1.c")).runs == []


async def test_a_canceled_run_answers_its_cancel_again(bench: Bench) -> None:
    await bench.serve()
    order = bench.order(input_json=LONG)
    await bench.scripts.create([order], None)
    assert await bench.scripts.cancel_tree(order.run_id, "why", "op1") == ("canceled", False)
    assert PACKED.encode() in await stored(bench, order.run_id)
    assert not await is_table(bench, order.run_id)
    assert await bench.scripts.cancel_tree(order.run_id, "why", "op1") == ("canceled", False)
    assert await bench.scripts.cancel_tree(order.run_id, "why", "op2") == ("finished", False)


async def test_a_run_that_is_over_is_not_canceled(bench: Bench) -> None:
    await bench.serve()
    lease = await packed(bench)
    assert await unchanged(bench, lease.run_id, bench.scripts.cancel(lease.run_id, "late")) == "finished"


async def test_it_is_not_created_again_and_its_key_finds_it(bench: Bench) -> None:
    await bench.serve()
    order = replace(bench.order(input_json=LONG), idempotency_key="k")
    await bench.scripts.create([order], None)
    await bench.settle(await bench.claimed(order.run_id), "succeeded", LONG)
    again = bench.scripts.create([order, replace(bench.order(), idempotency_key="k")], None)
    assert await unchanged(bench, order.run_id, again) == [("created", order.run_id), ("found", order.run_id)]


@pytest.mark.parametrize(("outcome", "letter"), [("succeeded", "S"), ("failed", "F"), ("canceled", "C")])
async def test_a_parent_that_comes_to_wait_for_it_gets_its_end(bench: Bench, outcome: str, letter: str) -> None:
    await bench.serve()
    lease = await packed(bench, outcome)
    parent = await bench.running()
    start = ChildStart(parent, "s:kid", "1 Rc 1 0 - ", 1, True, bench.order(number=int(lease.run_id, 16)))
    assert await bench.scripts.start_children([start], None) == [("created", lease.run_id)]
    content = "" if outcome == "canceled" else LONG.decode()
    assert await bench.field(parent.run_id, "s:kid") == f"1 Rc 1 0 - {letter} {lease.run_id} 1 own {content}"


async def test_a_parent_that_has_ended_keeps_its_record_when_its_child_ends(bench: Bench) -> None:
    await bench.serve()
    parent = await running(bench)
    start = ChildStart(parent, "s:kid", "1 Rc 1 0 - ", 1, True, bench.order())
    ((_, kid),) = await bench.scripts.start_children([start], None)
    await bench.settle(parent, "failed", LONG)
    child = await bench.claimed(kid)
    assert await unchanged(bench, parent.run_id, bench.settle(child, "succeeded", LONG)) == {}
    assert f"awaiters:{kid}" not in await bench.values()


async def test_it_is_explained(bench: Bench) -> None:
    await bench.serve()
    lease = await packed(bench, "failed", b'{"name":"ValueError","message":"' + b"n" * 200 + b'"}')
    explainer = Explainer(bench.connection, bench.keys, now=bench.now)
    facts = await explainer.facts(public_run_id(lease.run_id))
    assert facts is not None
    assert facts.error == "ValueError: " + "n" * 200


async def test_nothing_of_it_is_left_after_its_retention(bench: Bench) -> None:
    await bench.serve()
    before = await bench.values()
    lease = await packed(bench)
    bench.now += RETENTION_MS
    assert await bench.scripts.purge(None, 10) == 1
    changed = changes(before, await bench.values())
    assert [name for name in changed if lease.run_id in name] == []


async def test_workflows_are_registered_beside_it(bench: Bench) -> None:
    """A workflow that is registered anew, with runs that ended, touches none of them."""
    await bench.serve()
    lease = await packed(bench)
    args: list[Argument] = [bench.now, "w", "app", "q", "", 3, "", "{}", "", "", ""]
    await unchanged(bench, lease.run_id, bench.connection.call(REGISTER, bench.keys.base, args))


# -- bytes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def short_bench(redis_url: str) -> AsyncIterator[Bench]:
    """A bench whose prefix is as long as the default, since a part of each run's bytes are its keys."""
    bench = Bench(redis_url, "packing:v1")
    yield bench
    await bench.close()


@pytest.mark.parametrize(("payload", "limit"), [(b'{"n":12345}', 483), (LONG, 1_200)])
async def test_bytes_a_finished_run(short_bench: Bench, payload: bytes, limit: int) -> None:
    bench, n = short_bench, 1_000
    await bench.serve()
    for _ in range(n // 100):
        await bench.scripts.create([bench.order(input_json=payload) for _ in range(100)], None)
        runs = [run.lease for run in (await bench.claim(100)).runs]
        ends = [settlement(lease, "succeeded", payload, steps=(step(lease, "charge", payload),)) for lease in runs]
        assert await bench.scripts.settle(ends, WORKER, [], idle=False) == (False, {})
    names = [name for name in (await bench.values()) if name.startswith(("run:", "idx:", "expiry:"))]
    assert len(names) == n + 2
    used = [await bench.read("MEMORY", "USAGE", "@" + name, "SAMPLES", 0) for name in names]
    assert sum(as_int(size) for size in used) / n <= limit
