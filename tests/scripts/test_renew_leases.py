"""renew_leases: a worker's heartbeat."""

from __future__ import annotations

from redflow.engines.redis.replies import as_int
from redflow.engines.redis.runs import Lease
from tests.support.scripts import ALIVE_MS, LEASE_MS, T0, WORKER, Bench, changes

Answer = tuple[int, int, dict[int, str]] | None


async def renew(bench: Bench, *leases: Lease, worker: str = WORKER, alive_ms: int = ALIVE_MS) -> Answer:
    return await bench.scripts.renew(worker, LEASE_MS, alive_ms, leases, patience_s=5)


async def test_it_prolongs_leases_and_the_life_of_the_worker(bench: Bench) -> None:
    await bench.serve()
    one, two = await bench.running(), await bench.running()
    await bench.read("PEXPIRE", "@worker:w1", 20_000)
    await bench.read("PEXPIRE", "@knows:w1", 20_000)
    before = await bench.values()
    bench.now += 700
    assert await renew(bench, one, two) == (T0 + 700, 2, {})
    assert changes(before, await bench.values()) == {
        "leases": {one.run_id: T0 + 700 + LEASE_MS, two.run_id: T0 + 700 + LEASE_MS},
        "workers": {WORKER: T0 + 700 + ALIVE_MS},
        "epoch": "2",
    }
    for key in ("@worker:w1", "@knows:w1"):
        assert ALIVE_MS - 60_000 < as_int(await bench.read("PTTL", key)) <= ALIVE_MS


async def test_the_epoch_only_grows(bench: Bench) -> None:
    _, first = await bench.register_worker()
    epochs = [first]
    for _ in range(3):
        answer = await renew(bench)
        assert answer is not None
        epochs.append(answer[1])
    _, last = await bench.register_worker()
    assert epochs == [1, 2, 3, 4]
    assert last == 5


async def test_what_is_lost_or_to_be_canceled_is_told_by_its_place(bench: Bench) -> None:
    await bench.serve()
    refused = await bench.refused_leases()
    good, asked, recovered = [await bench.running() for _ in range(3)]
    await bench.scripts.cancel(asked.run_id, "")
    await bench.read("ZADD", "@leases", bench.now, recovered.run_id)
    await bench.scripts.recover(1, b"{}")
    before = (await bench.snapshot()).zset("leases")
    bench.now += 10
    answer = await renew(bench, good, asked, recovered, *refused.values())
    assert answer is not None
    lost = range(2, 3 + len(refused))
    assert answer[2] == {1: "cancel"} | dict.fromkeys(lost, "lost")
    after = (await bench.snapshot()).zset("leases")
    assert after == before | dict.fromkeys((good.run_id, asked.run_id), float(bench.now + LEASE_MS))


async def test_a_lease_that_ran_out_can_be_renewed_until_somebody_recovers_the_run(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    bench.now += LEASE_MS + 1
    answer = await renew(bench, lease)
    assert answer is not None
    assert answer[2] == {}
    now, next_lease, recovered, _ = await bench.scripts.recover(10, b"{}")
    assert (next_lease, recovered) == (now + LEASE_MS, 0)


async def test_a_worker_that_is_not_known_has_to_register(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.unregister_worker()
    before = await bench.values()
    bench.now += 10
    assert await renew(bench, lease) is None
    assert changes(before, await bench.values()) == {}


async def test_workers_that_died_are_forgotten_after_a_minute(bench: Bench) -> None:
    await bench.register_worker(worker="dead", alive_ms=1_000)
    await bench.register_worker(worker="dying", alive_ms=1_001)
    await bench.register_worker()
    bench.now += 61_000
    await renew(bench)
    assert (await bench.snapshot()).zset("workers").keys() == {"dying", WORKER}


async def test_sent_again_it_only_beats_once_more(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await renew(bench, lease)
    before = await bench.values()
    assert await renew(bench, lease) == (T0, 3, {})
    assert changes(before, await bench.values()) == {"epoch": "3"}


async def test_many_leases_are_renewed_in_calls_of_bounded_size(bench: Bench) -> None:
    await bench.serve()
    for _ in range(5):
        await bench.scripts.create([bench.order() for _ in range(50)], None)
    leases = [run.lease for run in (await bench.claim(200)).runs]
    leases += [run.lease for run in (await bench.claim(200)).runs]
    await bench.scripts.cancel(leases[7].run_id, "")
    await bench.scripts.cancel(leases[243].run_id, "")
    _, before = await bench.register_worker()
    bench.now += 10
    answer = await renew(bench, *leases)
    assert answer == (bench.now, before + 2, {7: "cancel", 243: "cancel"})
    assert (await bench.snapshot()).zset("leases") == {lease.run_id: bench.now + LEASE_MS for lease in leases}
    assert await bench.scripts.release(leases) == 250
