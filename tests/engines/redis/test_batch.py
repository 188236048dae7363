"""Writes that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from redflow.engines.redis.batch import BATCH_CAP, PART, Batcher


@pytest.mark.parametrize("count", [1, PART, PART + 1])
async def test_a_batch_that_cannot_be_sent_fails_all_who_wait_for_it(count: int) -> None:
    def write(items: list[int]) -> Awaitable[list[int]]:
        raise ValueError("no such command")

    batcher = Batcher(write, lambda item: 1)
    ends = await asyncio.gather(*[batcher.submit(n) for n in range(count)], return_exceptions=True)
    assert [str(end) for end in ends] == ["no such command"] * count


async def test_the_next_batch_waits_for_the_last_unless_it_is_full() -> None:
    """With one batch in flight what comes meanwhile gathers; a full batch leaves in any case."""
    sizes: list[int] = []
    answered: list[asyncio.Future[None]] = []

    def write(items: list[int]) -> Awaitable[list[int]]:
        sizes.append(len(items))
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answered.append(gate)

        async def reply() -> list[int]:
            await gate
            return items

        return reply()

    batcher = Batcher(write, lambda item: 1, in_flight=1)
    waiting = [batcher.submit(n) for n in range(PART)]
    waiting += [batcher.submit(n) for n in range(PART, 2 * PART)]
    assert sizes == [PART]
    waiting += [batcher.submit(n) for n in range(2 * PART, PART + BATCH_CAP)]
    assert sizes == [PART, BATCH_CAP], "a full one does not wait"
    waiting.append(batcher.submit(-1))
    await asyncio.sleep(0)
    assert sizes == [PART, BATCH_CAP]
    for gate in answered[:]:
        gate.set_result(None)
    await asyncio.gather(*waiting[:-1])
    await asyncio.sleep(0)
    assert sizes == [PART, BATCH_CAP, 1]
    answered[-1].set_result(None)
    assert await asyncio.gather(*waiting) == [*range(PART + BATCH_CAP), -1]
