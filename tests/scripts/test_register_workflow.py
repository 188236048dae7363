"""register_workflow: writes a workflow's metadata and lets its parked runs in."""

from __future__ import annotations

from dataclasses import replace

from tests.support.scripts import QUEUE, T0, Bench, changes

META = {"app": "app", "queue": "q", "max_attempts": "3", "meta": "{}", "updated": str(T0)}


async def test_the_metadata_is_written_as_given(bench: Bench) -> None:
    assert await bench.register_workflow(max_concurrency=4, max_attempts=5, version=7, meta='{"a":1}') == ["ok"]
    assert await bench.values() == {
        "meta:w": META | {"max_concurrency": "4", "max_attempts": "5", "version": "7", "meta": '{"a":1}'},
        "metas": {"w"},
    }


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.register_workflow(max_concurrency=4, version=7)
    before = await bench.values()
    assert await bench.register_workflow(max_concurrency=4, version=7) == ["ok"]
    assert changes(before, await bench.values()) == {}


async def test_a_limit_that_is_gone_is_removed(bench: Bench) -> None:
    await bench.register_workflow(max_concurrency=4)
    bench.now += 1
    await bench.register_workflow()
    assert (await bench.values())["meta:w"] == META | {"updated": str(T0 + 1)}


# -- versions and apps ---------------------------------------------------------------------------------------------


async def test_an_older_worker_never_overwrites_a_newer_one(bench: Bench) -> None:
    await bench.register_workflow(version=10)
    before = await bench.values()
    assert await bench.register_workflow(queue="old", version=9) == ["older"]
    assert changes(before, await bench.values()) == {}
    assert await bench.register_workflow(queue="same", version=10) == ["ok"]
    assert await bench.register_workflow(queue="new", version=11) == ["ok"]
    assert (await bench.snapshot()).hash("meta:w")["version"] == "11"


async def test_a_client_without_a_version_is_never_older(bench: Bench) -> None:
    await bench.register_workflow(version=10)
    assert await bench.register_workflow(queue="new") == ["ok"]
    meta = (await bench.snapshot()).hash("meta:w")
    assert (meta["queue"], meta["version"]) == ("new", "10")


async def test_a_name_that_a_live_app_serves_is_refused(bench: Bench) -> None:
    await bench.register_workflow(app="first")
    await bench.register_worker("w", app="first", alive_ms=1000)
    before = await bench.values()
    assert await bench.register_workflow(app="second") == ["other_app", "first"]
    assert changes(before, await bench.values()) == {}
    assert await bench.register_workflow(app="first", queue="x") == ["ok"]


async def test_the_name_of_an_app_that_is_gone_is_free(bench: Bench) -> None:
    await bench.register_workflow(app="first")
    await bench.register_worker("w", app="first", alive_ms=1000)
    await bench.register_worker("other", worker="w2", app="first")  # alive, but doesn't run it
    bench.now += 1001
    assert await bench.register_workflow(app="second") == ["ok"]
    await bench.register_worker("w", worker="w3", app="second")
    await bench.unregister_worker(worker="w3")
    assert await bench.register_workflow(app="third") == ["ok"]


# -- parked runs ---------------------------------------------------------------------------------------------------


async def test_parked_runs_enter_their_queues_in_order(bench: Bench) -> None:
    runs = [await bench.create(queue=queue) for queue in ("q", "", "app:q", "q")]
    canceled = await bench.create(queue="q")
    await bench.scripts.cancel(canceled, "")
    before, record = await bench.values(), await bench.record(runs[0])
    assert await bench.register_workflow() == ["ok"]
    after = await bench.values()
    del record["u"]
    assert after[f"run:{runs[0]}"] == record | {"q": QUEUE}
    assert await bench.field(runs[1], "q") == "app:default"
    assert await bench.ids("ready:app:q") == [runs[0], runs[2], runs[3]]
    assert await bench.ids("ready:app:default") == [runs[1]]
    assert changes(before, after).keys() == {
        *[f"run:{run}" for run in runs],
        "parked:w",
        "ready:app:q",
        "ready:app:default",
        "meta:w",
        "metas",
        "queues",
        "seq",
    }
    assert "parked:w" not in after
    assert await bench.ids("queues") == ["app:default"]


async def test_one_call_lets_200_in_and_says_that_there_are_more(bench: Bench) -> None:
    for _ in range(5):
        await bench.scripts.create([replace(bench.order(), queue="q") for _ in range(50)], None)
    assert await bench.register_workflow(version=3) == ["more"]
    assert len(await bench.ids("ready:app:q")) == 200
    assert await bench.register_workflow(version=3) == ["ok"]
    assert len(await bench.ids("ready:app:q")) == 250
    assert await bench.ids("ready:app:q") == sorted(await bench.ids("ready:app:q"))


async def test_an_idle_worker_is_rung_for_them(bench: Bench) -> None:
    await bench.create(queue="q")
    await bench.register_worker("w")
    await bench.claim()
    async with bench.listening("worker:w1") as ear:
        await bench.register_workflow()
        assert await ear.heard() == [("worker:w1", "bell")]


# -- limits --------------------------------------------------------------------------------------------------------


async def test_a_higher_limit_lets_runs_start(bench: Bench) -> None:
    await bench.serve(max_concurrency=1)
    await bench.running()
    waiting = [await bench.create() for _ in range(3)]
    await bench.claim()
    await bench.register_workflow(max_concurrency=3)
    assert await bench.ids("ready:app:q") == waiting[:2]
    await bench.register_workflow()
    assert await bench.ids("ready:app:q") == waiting
    assert not {"lined", "lined:w"} & (await bench.values()).keys()


async def test_a_lower_limit_stops_nobody_and_lets_nobody_start(bench: Bench) -> None:
    await bench.serve(max_concurrency=3)
    leases = [await bench.running() for _ in range(3)]
    waiting = [await bench.create() for _ in range(2)]
    bench.lowered.add("w")
    await bench.register_workflow(max_concurrency=1)
    await bench.claim()
    for lease in leases[:2]:
        await bench.settle(lease)
        assert (await bench.claim()).runs == []
    await bench.settle(leases[2])
    assert [run.lease.run_id for run in (await bench.claim()).runs] == waiting[:1]
    bench.lowered.clear()
