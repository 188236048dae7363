"""subscribe_workflow: makes a workflow subscribe to exactly the events of its triggers."""

from __future__ import annotations

from tests.support.event_scripts import accept, subscribe
from tests.support.scripts import Bench, changes


async def test_triggers_and_contracts_are_stored(bench: Bench) -> None:
    await bench.register_workflow()
    before = await bench.values()
    assert await subscribe(bench, "w", ("t1", "paid", "{}"), ("t2", "paid", "{}"), ("t3", "sent", "-")) == ["ok"]
    changed = changes(before, await bench.values())
    meta = changed.pop("meta:w")
    assert isinstance(meta, dict)
    assert meta["events"] == '[["paid","t1"],["paid","t2"],["sent","t3"]]'
    assert changed == {
        "subs:paid": {"t1": "w", "t2": "w"},
        "subs:sent": {"t3": "w"},
        "subscribed": {"paid", "sent"},
        "contract:paid": "{}",
        "contract:sent": "-",
    }


async def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    await bench.register_workflow()
    await subscribe(bench, "w", ("t1", "paid", "-"))
    before = await bench.values()
    assert await subscribe(bench, "w", ("t1", "paid", "-")) == ["ok"]
    assert changes(before, await bench.values()) == {}


async def test_another_contract_is_refused_and_changes_nothing(bench: Bench) -> None:
    await bench.register_workflow()
    await bench.register_workflow("other")
    await subscribe(bench, "w", ("t1", "paid", "{}"))
    before = await bench.values()
    wanted = [("t2", "sent", "-"), ("t3", "paid", "-")]
    assert await subscribe(bench, "other", *wanted) == ["conflict", "paid"]
    assert changes(before, await bench.values()) == {}
    assert await subscribe(bench, "other", ("t3", "paid", "{}")) == ["ok"]
    assert (await bench.values())["subs:paid"] == {"t1": "w", "t3": "other"}


async def test_what_is_not_wanted_any_more_goes_and_its_contract_too(bench: Bench) -> None:
    await bench.register_workflow()
    before = await bench.values()
    await subscribe(bench, "w", ("t1", "paid", "{}"), ("t2", "paid", "{}"))
    assert await subscribe(bench, "w", ("t2", "paid", "{}")) == ["ok"]
    assert (await bench.values())["subs:paid"] == {"t2": "w"}
    assert await subscribe(bench, "w") == ["ok"]
    assert changes(before, await bench.values()) == {}
    assert await subscribe(bench, "w", ("t2", "paid", "-")) == ["ok"]  # with another contract


async def test_a_trigger_moves_to_another_event(bench: Bench) -> None:
    await bench.register_workflow()
    await subscribe(bench, "w", ("t1", "paid", "-"))
    assert await subscribe(bench, "w", ("t1", "sent", "-")) == ["ok"]
    values = await bench.values()
    assert (values["subs:sent"], values["subscribed"]) == ({"t1": "w"}, {"sent"})
    assert not {"subs:paid", "contract:paid"} & values.keys()


async def test_the_triggers_of_other_workflows_stay(bench: Bench) -> None:
    await bench.register_workflow()
    await bench.register_workflow("other")
    await subscribe(bench, "w", ("t1", "paid", "-"))
    await subscribe(bench, "other", ("t2", "paid", "-"))
    assert await subscribe(bench, "w") == ["ok"]
    values = await bench.values()
    assert (values["subs:paid"], values["subscribed"], values["contract:paid"]) == ({"t2": "other"}, {"paid"}, "-")


async def test_an_event_with_history_keeps_its_contract(bench: Bench) -> None:
    await bench.register_workflow()
    await subscribe(bench, "w", ("t1", "paid", "{}"))
    await accept(bench)
    assert await subscribe(bench, "w") == ["ok"]
    values = await bench.values()
    assert values["contract:paid"] == "{}"
    assert not {"subs:paid", "subscribed"} & values.keys()
    assert await subscribe(bench, "w", ("t1", "paid", "-")) == ["conflict", "paid"]
