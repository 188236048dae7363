"""purge_events: removes ended events whose retention is over."""

from __future__ import annotations

from tests.support.event_scripts import accept, event, open_wait, purge, subscribe, unfinished
from tests.support.scripts import RETENTION_MS, T0, Bench, changes


async def test_an_event_goes_with_all_that_is_kept_of_it(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await open_wait(bench, lease)
    before = await bench.values()
    await accept(bench, key="k1", idempotency_key="once")
    bench.now += RETENTION_MS - 1
    assert await purge(bench) == 0
    bench.now += 1
    assert await purge(bench) == 1
    left = changes(before, await bench.values())
    assert left.keys() == {"eseq", f"run:{lease.run_id}", "waiting:4:paid:k1"}  # the wait was over with the event
    assert await purge(bench) == 0


async def test_pointers_to_a_later_event_stay(bench: Bench) -> None:
    await accept(bench, key="k1", idempotency_key="once")
    await bench.delete("evkey:4:paid:once")  # its TTL is over
    bench.now += 10
    await accept(bench, "e2", key="k1", idempotency_key="once")
    bench.now = T0 + RETENTION_MS
    assert await purge(bench) == 1
    values = await bench.values()
    assert (values["latest:4:paid:k1"], values["evkey:4:paid:once"]) == ("e2", "e2")
    assert (values["eidx:no-subscribers:paid"], values["event_names"]) == ({"e2": T0 + 10}, {"paid"})
    assert not await event(bench, "e1")


async def test_no_more_than_asked_for_the_oldest_first(bench: Bench) -> None:
    for number in range(3):
        await accept(bench, f"e{number}")
        bench.now += 1
    bench.now += RETENTION_MS
    assert await purge(bench, 2) == 2
    assert (await bench.values())[f"eexpiry:{RETENTION_MS}"] == ["e2"]
    assert await purge(bench, 2) == 1
    assert (await bench.values()).keys() == {"eseq"}


async def test_an_event_that_is_not_complete_stays(bench: Bench) -> None:
    await unfinished(bench)
    bench.now += 2 * RETENTION_MS
    before = await bench.values()
    assert await purge(bench) == 0
    assert changes(before, await bench.values()) == {}


async def test_a_contract_goes_with_the_last_event_if_nobody_subscribes(bench: Bench) -> None:
    await bench.register_workflow()
    await subscribe(bench, "w", ("t1", "paid", "{}"), ("t2", "sent", "{}"))
    await accept(bench)
    await accept(bench, "e2", "sent")
    await subscribe(bench, "w", ("t2", "sent", "{}"))
    bench.now += RETENTION_MS
    assert await purge(bench) == 2
    values = await bench.values()
    assert "contract:paid" not in values
    assert (values["contract:sent"], values["subscribed"]) == ("{}", {"sent"})
    assert "event_names" not in values


async def test_an_entry_without_a_record_does_not_block_the_list(bench: Bench) -> None:
    await bench.read("RPUSH", f"@eexpiry:{RETENTION_MS}", "gone")
    await accept(bench)
    bench.now += RETENTION_MS
    assert await purge(bench) == 1
    assert (await bench.values()).keys() == {"eseq"}


async def test_each_retention_has_a_list_of_its_own(bench: Bench) -> None:
    await accept(bench)
    await bench.read("HSET", "@event:short", "n", "paid", "f", T0, "fan", "completed")
    await bench.read("ZADD", "@eidx:completed:paid", T0, "short")
    await bench.read("RPUSH", "@eexpiry:5", "short")
    await bench.read("SADD", "@eretentions", "5")
    bench.now += 5
    assert await purge(bench) == 1
    assert (await bench.values())["eretentions"] == {str(RETENTION_MS)}
    assert await event(bench, "e1")
