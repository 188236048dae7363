"""set_pause, and what a pause is to the verbs that start runs."""

from __future__ import annotations

import pytest

from redflow.engines.redis.operations_queues import SET_PAUSE
from tests.support.scripts import LEASE_MS, QUEUE, WORKER, Bench, changes

LINE = f"line:{len(QUEUE)}:{QUEUE}:w"


async def pause(bench: Bench, what: str, *, reason: str = "why") -> int:
    answer = await bench.call(SET_PAUSE, what, reason, "1")
    assert isinstance(answer, int)
    return answer


async def resume(bench: Bench, what: str) -> int:
    answer = await bench.call(SET_PAUSE, what, "", "")
    assert isinstance(answer, int)
    return answer


async def taken(bench: Bench, *queues: str) -> list[str]:
    return [run.lease.run_id for run in (await bench.claim(queues=queues or (QUEUE,))).runs]


async def test_a_pause_is_one_field_and_gone_when_it_ends(bench: Bench) -> None:
    before = await bench.values()
    assert await pause(bench, "q:app:q") == 1
    assert changes(before, await bench.values()) == {"paused": {"q:app:q": f"{bench.now} why"}}
    assert await pause(bench, "q:app:q", reason="other") == 0
    assert await resume(bench, "q:app:q") == 1
    assert await bench.values() == before
    assert await resume(bench, "q:app:q") == 0


async def test_a_paused_queue_keeps_its_order(bench: Bench) -> None:
    await bench.serve()
    await pause(bench, f"q:{QUEUE}")
    runs = [await bench.create() for _ in range(3)]
    assert await taken(bench) == []
    assert await taken(bench, "app:other") == []
    await resume(bench, f"q:{QUEUE}")
    assert await taken(bench) == runs


async def test_the_other_queues_of_a_worker_are_served(bench: Bench) -> None:
    await bench.serve()
    await bench.register_workflow("v", queue="v")
    await bench.register_worker("w", "v")
    await pause(bench, f"q:{QUEUE}")
    await bench.create()
    other = await bench.create("v")
    assert await taken(bench, QUEUE, "app:v") == [other]


async def test_a_paused_workflow_stands_in_line_and_lets_others_pass(bench: Bench) -> None:
    await bench.serve("w", "v")
    await pause(bench, "w:w")
    waiting = [await bench.create("w") for _ in range(3)]
    other = await bench.create("v")
    assert await taken(bench) == [other]
    assert await bench.ids(LINE) == waiting
    async with bench.listening(f"worker:{WORKER}") as ear:
        assert await resume(bench, "w:w") == 1
        assert ear is not None
    assert await bench.ids(LINE) == []
    assert await taken(bench) == waiting


@pytest.mark.parametrize("limit", [None, 1])
async def test_nobody_gives_slots_to_a_paused_workflow(bench: Bench, limit: int | None) -> None:
    await bench.serve(max_concurrency=limit)
    first = await bench.running()
    await pause(bench, "w:w")
    waiting = await bench.create()
    assert await taken(bench) == []
    assert await bench.ids(LINE) == [waiting]
    await bench.settle(first)
    await bench.register_workflow(max_concurrency=limit)
    await bench.scripts.recover(10, b"{}")
    assert await bench.ids(LINE) == [waiting]
    await resume(bench, "w:w")
    assert await taken(bench) == [waiting]


async def test_an_interrupted_run_goes_on_under_a_paused_workflow_and_not_in_a_paused_queue(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await pause(bench, "w:w")
    await bench.scripts.release([lease])
    assert await taken(bench) == [lease.run_id]
    bench.now += LEASE_MS
    await bench.scripts.recover(10, b"{}")
    await pause(bench, f"q:{QUEUE}")
    assert await taken(bench) == []
    await resume(bench, f"q:{QUEUE}")
    assert await taken(bench) == [lease.run_id]


async def test_suspects_and_strays_of_a_paused_queue_stay(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    for _ in range(2):
        bench.now += LEASE_MS
        await bench.scripts.recover(10, b"{}")
        await taken(bench)
    bench.now += LEASE_MS * 2
    await bench.register_worker("v", worker="w2")
    stray = await bench.create()
    assert (await bench.claim(worker="w2")).runs == []
    await pause(bench, f"q:{QUEUE}")
    assert await taken(bench) == []
    await resume(bench, f"q:{QUEUE}")
    assert stray in await taken(bench)
    assert lease.run_id != stray


async def test_resuming_a_queue_rings_its_workers(bench: Bench) -> None:
    await bench.serve()
    await pause(bench, f"q:{QUEUE}")
    async with bench.listening(f"worker:{WORKER}") as ear:
        await taken(bench)
        await bench.create()
        await taken(bench)
        await ear.heard()
        await resume(bench, f"q:{QUEUE}")
        assert await ear.heard() == [(f"worker:{WORKER}", "bell")]
