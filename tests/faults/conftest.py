"""Worlds whose workers are processes, each fault test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.worker_process import Effects, WorkerProcess
from tests.support.world import World, judged


class StartProcess(Protocol):
    """Starts a worker process in the test's world."""

    def __call__(
        self,
        *,
        lease_ms: int = 400,
        die_at: str = "",
        concurrency: int = 10,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> WorkerProcess: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A prefix of the shared server; its keys are judged at the end."""
    async with judged(World(redis_url, prefix)) as world:
        yield world


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """What the processes of this test did."""
    return Effects(tmp_path / "effects")


@pytest.fixture
def process(redis_url: str, prefix: str, effects: Effects) -> Iterator[StartProcess]:
    """Start worker processes; they are gone at the end."""
    started: list[WorkerProcess] = []

    def start(
        *,
        lease_ms: int = 400,
        die_at: str = "",
        concurrency: int = 10,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        process = WorkerProcess(
            url or redis_url,
            prefix,
            effects,
            lease_ms=lease_ms,
            die_at=die_at,
            concurrency=concurrency,
            environment=environment,
        )
        started.append(process)
        return process

    yield start
    for each in started:
        each.discard()
