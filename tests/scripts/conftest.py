"""The bench of the script tests; after each test it checks the invariants."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scripts import Bench


@pytest.fixture
async def bench(redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """The scripts of a prefix of the test's own, with the time as a value."""
    bench = Bench(redis_url, prefix)
    yield bench
    await bench.close()
