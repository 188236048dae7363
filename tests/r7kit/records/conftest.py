"""A store with a stream and tasks of the test's own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from r7kit.records.store import RecordOptions, TaskStore
from tests.r7kit.records.raw import Raw


@pytest.fixture
async def store(redis_url: str, prefix: str) -> AsyncIterator[TaskStore]:
    """A store of the shared server with a stream of the test's own."""
    store = TaskStore(redis_url, RecordOptions(stream=f"{prefix}:events", task_ttl_s=1000, deleted_ttl_s=100))
    yield store
    await store.close()


@pytest.fixture
async def raw(redis_url: str, store: TaskStore) -> AsyncIterator[Raw]:
    """What stands in Redis, read without the store."""
    raw = Raw(redis_url, store.options.stream)
    yield raw
    await raw.close()


@pytest.fixture
def task_id() -> str:
    """A uuid."""
    return secrets.token_hex(16)
