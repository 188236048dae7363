"""remove_workflows: drops the metadata of workflows that an app no longer has."""

from __future__ import annotations

from tests.support.scripts import Bench, changes

QUIET_MS = 30_000


async def test_only_what_the_registry_lost_is_dropped(bench: Bench) -> None:
    for name in ("kept", "lost", "lost too"):
        await bench.register_workflow(name)
    await bench.register_workflow("foreign", app="other")
    before = await bench.values()
    assert sorted(await bench.remove_workflows("kept", "never there")) == ["lost", "lost too"]
    assert changes(before, await bench.values()) == {
        "meta:lost": None,
        "meta:lost too": None,
        "metas": {"kept", "foreign"},
    }


async def test_sent_again_it_finds_nothing_more(bench: Bench) -> None:
    await bench.register_workflow("lost")
    assert await bench.remove_workflows() == ["lost"]
    assert await bench.remove_workflows() == []
    assert await bench.values() == {}


async def test_what_a_live_worker_lists_is_kept(bench: Bench) -> None:
    """Two services that share an app keep each other's workflows."""
    await bench.register_workflow("theirs")
    await bench.register_worker("theirs", worker="w2", alive_ms=QUIET_MS)
    assert await bench.remove_workflows() == []
    bench.now += QUIET_MS
    assert await bench.remove_workflows() == []
    bench.now += QUIET_MS + 1
    assert await bench.remove_workflows() == ["theirs"]


async def test_what_a_worker_listed_that_left_a_moment_ago_is_kept(bench: Bench) -> None:
    """Both services are deployed at once: one stops, the other starts, and must not drop what comes back."""
    await bench.register_workflow("theirs")
    await bench.register_worker("theirs", worker="w2")
    await bench.unregister_worker(worker="w2")
    bench.now += QUIET_MS
    assert await bench.remove_workflows() == []
    bench.now += 1
    assert await bench.remove_workflows() == ["theirs"]


async def test_runs_of_a_workflow_that_is_dropped_stay(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    ready = await bench.create()
    await bench.unregister_worker()
    bench.now += QUIET_MS + 1
    assert await bench.remove_workflows() == ["w"]
    assert await bench.ids("ready:app:q") == [ready]
    assert await bench.settle(lease) == {}
