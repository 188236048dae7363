"""defer_event: keeps an event pending after a pass that failed."""

from __future__ import annotations

from tests.support.event_scripts import accept, defer, deliver, event, unfinished
from tests.support.scripts import T0, Bench, changes


async def test_the_next_pass_and_the_error_are_noted(bench: Bench) -> None:
    await unfinished(bench)
    bench.now += 7
    before, record = await bench.values(), await event(bench)
    assert await defer(bench, delay_ms=250, error='{"name":"Error"}') == 2
    noted = record | {"le": '{"name":"Error"}', "pp": "2"}
    assert changes(before, await bench.values()) == {"event:e1": noted, "outbox": {"e1": T0 + 7 + 250}}


async def test_each_failure_counts_and_the_last_error_stays(bench: Bench) -> None:
    await unfinished(bench)
    assert [await defer(bench, error=error) for error in ("1", "2")] == [2, 3]
    assert (await deliver(bench)).final
    assert (await event(bench)).items() >= {"le": "2", "pp": "4", "fan": "completed"}.items()


async def test_an_event_that_is_complete_stays_so(bench: Bench) -> None:
    await accept(bench)
    before = await bench.values()
    assert await defer(bench) == 0
    assert changes(before, await bench.values()) == {}


async def test_an_event_that_is_gone_leaves_nothing(bench: Bench) -> None:
    assert await defer(bench) == 0
    assert await bench.values() == {}
