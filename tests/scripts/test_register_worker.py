"""register_worker and unregister_worker: who is there, and what it can run."""

from __future__ import annotations

from redflow.engines.redis.replies import as_int
from tests.support.scripts import ALIVE_MS, QUEUE, T0, WORKER, Bench, changes


async def test_a_worker_is_known_with_its_workflows(bench: Bench) -> None:
    assert await bench.register_worker("a", "b") == (T0, 1)
    assert await bench.values() == {
        "worker:w1": {"app": "app", "info": "{}", "started": str(T0)},
        "knows:w1": {"", "a", "b"},
        "workers": {WORKER: T0 + ALIVE_MS},
        "epoch": "1",
    }
    for key in ("@worker:w1", "@knows:w1"):
        assert ALIVE_MS - 60_000 < as_int(await bench.read("PTTL", key)) <= ALIVE_MS


async def test_a_worker_without_workflows_is_known_too(bench: Bench) -> None:
    await bench.register_worker()
    assert (await bench.values())["knows:w1"] == {""}
    assert (await bench.claim()).runs == []


async def test_once_more_it_tells_what_it_can_run_now(bench: Bench) -> None:
    await bench.register_worker("a", "b")
    bench.now += 10
    assert await bench.register_worker("b", "c", app="app2") == (T0 + 10, 2)
    values = await bench.values()
    assert values["knows:w1"] == {"", "b", "c"}
    assert values["worker:w1"] == {"app": "app2", "info": "{}", "started": str(T0)}  # it started when it started


async def test_sent_again_it_only_beats_once_more(bench: Bench) -> None:
    await bench.register_worker("a")
    before = await bench.values()
    await bench.register_worker("a")
    assert changes(before, await bench.values()) == {"epoch": "2"}


async def test_a_worker_that_says_goodbye_is_not_rung_any_more(bench: Bench) -> None:
    await bench.serve()
    await bench.register_worker("w", worker="w2")
    await bench.claim(queues=(QUEUE, "app:other"))
    await bench.claim(worker="w2")
    bench.now += 10
    before = await bench.values()
    assert await bench.unregister_worker(QUEUE, "app:other") == "ok"
    assert changes(before, await bench.values()) == {
        "worker:w1": None,
        "idle:app:q": {"w2"},
        "idle:app:other": None,
        "workers": {"w1": T0 + 10, "w2": T0 + ALIVE_MS},
    }
    async with bench.listening("worker:w1", "worker:w2") as ear:
        await bench.create()
        assert await ear.heard() == [("worker:w2", "bell")]


async def test_what_it_knew_is_remembered_for_a_while(bench: Bench) -> None:
    await bench.register_worker("w")
    await bench.unregister_worker(quiet_ms=30_000)
    assert 0 < as_int(await bench.read("PTTL", "@knows:w1")) <= 30_000


async def test_saying_goodbye_again_changes_nothing(bench: Bench) -> None:
    await bench.serve()
    await bench.unregister_worker(QUEUE)
    before = await bench.values()
    assert await bench.unregister_worker(QUEUE) == "ok"
    assert changes(before, await bench.values()) == {}


async def test_an_unknown_worker_may_say_goodbye(bench: Bench) -> None:
    await bench.unregister_worker(QUEUE)
    assert await bench.values() == {}
