"""Writes that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from redflow.engines.redis.batch import PART, Batcher


@pytest.mark.parametrize("count", [1, PART, PART + 1])
async def test_a_batch_that_cannot_be_sent_fails_all_who_wait_for_it(count: int) -> None:
    def write(items: list[int]) -> Awaitable[list[int]]:
        raise ValueError("no such command")

    batcher = Batcher(write, lambda item: 1)
    ends = await asyncio.gather(*[batcher.submit(n) for n in range(count)], return_exceptions=True)
    assert [str(end) for end in ends] == ["no such command"] * count
