"""pass_bell: a worker without a free slot rings another in its place. With it: whom a bell reaches."""

from __future__ import annotations

from tests.support.scripts import QUEUE, Bench, changes


async def test_the_next_idle_worker_is_rung(bench: Bench) -> None:
    await bench.serve()
    await bench.create()
    await bench.read("SADD", "@idle:app:q", "w1", "w2")
    await bench.read("EXPIRE", "@idle:app:q", 60)
    async with bench.listening("worker:w1", "worker:w2") as ear:
        await bench.scripts.pass_bell("w1", [QUEUE])
        assert await ear.heard() == [("worker:w2", "bell")]
    assert "idle:app:q" not in await bench.values()


async def test_nobody_is_rung_for_a_queue_without_ready_runs(bench: Bench) -> None:
    await bench.serve()
    await bench.read("SADD", "@idle:app:q", "w1", "w2")
    await bench.read("EXPIRE", "@idle:app:q", 60)
    async with bench.listening("worker:w2") as ear:
        await bench.scripts.pass_bell("w1", [QUEUE])
        assert await ear.heard() == []
    assert (await bench.values())["idle:app:q"] == {"w2"}


async def test_each_queue_has_its_own_bell(bench: Bench) -> None:
    await bench.serve()
    await bench.create()
    await bench.create(queue="other")
    for queue, worker in ((QUEUE, "w2"), ("app:other", "w3"), ("app:third", "w4")):
        await bench.read("SADD", f"@idle:{queue}", worker)
        await bench.read("EXPIRE", f"@idle:{queue}", 60)
    async with bench.listening("worker:w2", "worker:w3", "worker:w4") as ear:
        await bench.scripts.pass_bell("w1", [QUEUE, "app:other", "app:third"])
        assert await ear.heard() == [("worker:w2", "bell"), ("worker:w3", "bell")]


async def test_sent_again_it_rings_one_more_at_most(bench: Bench) -> None:
    await bench.serve()
    await bench.create()
    await bench.scripts.pass_bell("w1", [QUEUE])
    before = await bench.values()
    await bench.scripts.pass_bell("w1", [QUEUE])
    assert changes(before, await bench.values()) == {}


async def test_a_bell_that_nobody_hears_goes_to_the_next(bench: Bench) -> None:
    """Workers that died are still in the idle set; at most three are tried."""
    await bench.serve()
    async with bench.listening("worker:alive") as ear:
        await bench.read("SADD", "@idle:app:q", "dead1", "dead2", "alive")
        await bench.read("EXPIRE", "@idle:app:q", 60)
        await bench.create()
        assert await ear.heard() == [("worker:alive", "bell")]
    await bench.read("DEL", "@idle:app:q")
    await bench.read("SADD", "@idle:app:q", *[f"dead{n}" for n in range(5)])
    await bench.read("EXPIRE", "@idle:app:q", 60)
    await bench.create()
    assert len((await bench.snapshot()).members("idle:app:q")) == 2
