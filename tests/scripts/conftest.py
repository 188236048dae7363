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


@pytest.fixture
async def home(redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """Shard 0 of three."""
    bench = Bench(redis_url, prefix, 0, 3)
    yield bench
    await bench.close()


@pytest.fixture
async def here(redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """Shard 1 of the same three."""
    bench = Bench(redis_url, prefix, 1, 3)
    yield bench
    await bench.close()


@pytest.fixture
async def there(redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """Shard 2 of the same three."""
    bench = Bench(redis_url, prefix, 2, 3)
    yield bench
    await bench.close()
