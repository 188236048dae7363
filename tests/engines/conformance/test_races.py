"""Races end in one outcome that every reader agrees on; `python -m benchmarks.races` runs them by the ten thousand."""

from __future__ import annotations

import asyncio

import pytest

from redflow import workflow
from redflow.domain.event import EventRef
from redflow.domain.step import StepRecord
from redflow.engines.redis.journal import RedisJournal
from redflow.types import JsonData
from tests.support.races import KINDS, Kind, Races
from tests.support.world import Context, World, eventually


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
async def test_every_reader_agrees_and_both_sides_win(world: World, kind: Kind) -> None:
    tally = await Races(world.client, world.url).run(kind, 200, at_a_time=10)
    assert tally.faults == []
    assert tally.wins.total() == 200
    assert {side for side in kind.sides if tally.share(side) >= 0.1} == set(kind.sides)


async def test_an_event_that_comes_as_its_wait_ends_stands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder's clock says that time is over, the event was faster: its emitter was told so, hence it counts."""
    awake, told, ahead_ms = asyncio.Event(), list[str](), list[int]()
    close, now = RedisJournal.close_wait, RedisJournal.now_ms

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> JsonData:
        waking = asyncio.ensure_future(awake.wait())
        event, _ = await asyncio.gather(ctx.step.wait_for_event("s", "e", "k", "1h"), waking)
        return event

    async def late(journal: RedisJournal, step: StepRecord, ref: EventRef) -> bool:
        emitted = await world.client.emit_event_detailed("e", 1, correlation_key="k")
        told.extend(emitted["resumed_run_ids"])
        awake.set()
        return await close(journal, step, ref)

    async def waits() -> int:
        return int(await world.redis.zcard(f"{world.keys.base}waiting:1:e:k"))

    monkeypatch.setattr(RedisJournal, "close_wait", late)
    monkeypatch.setattr(RedisJournal, "now_ms", lambda journal: now(journal) + sum(ahead_ms))
    worker = await world.worker()
    handle = await world.start()
    await eventually(waits, "the open wait")
    ahead_ms.append(2 * 3_600_000)
    worker._executor.look_again(handle.id.removeprefix("run_").replace("-", ""))
    result = await handle.result()
    assert told == [handle.id]
    assert result["data"] == 1
