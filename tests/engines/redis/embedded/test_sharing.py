"""All clients of a process share one embedded server."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from redflow.engines.redis.embedded import (
    EmbeddedServerError,
    ensure_embedded,
)
from redflow.engines.redis.embedded_directory import owner_alive
from tests.engines.redis.embedded.starters import Starters, read, wait_gone, write


async def test_clients_share_one_server_and_the_last_stops_it(directory: Path) -> None:
    servers = await asyncio.gather(*[ensure_embedded(directory) for _ in range(5)])
    assert len({id(server) for server in servers}) == 1
    server = servers[0]
    assert server.owner
    for _ in range(4):
        await server.release()
        assert server.answers()
    await server.release()
    assert not server.answers()
    assert not owner_alive(directory)

    again = await ensure_embedded(directory)
    assert again.owner
    await again.release()


async def test_two_directories_are_two_servers(tmp_path: Path) -> None:
    one, other = await asyncio.gather(ensure_embedded(tmp_path / "1"), ensure_embedded(tmp_path / "2"))
    write(one.url, "one")
    assert read(other.url) is None
    await one.release()
    assert other.answers()
    await other.release()


async def test_sharing_takes_over_from_a_dead_owner(directory: Path, starters: Starters) -> None:
    owner = starters.start(directory)
    attached = await ensure_embedded(directory)
    assert not attached.owner
    assert await ensure_embedded(directory) is attached
    owner.kill()
    wait_gone(owner.server_pid)

    server = await ensure_embedded(directory)
    assert server.owner
    for _ in range(2):
        await attached.release()
    assert server.answers()
    await server.release()
    assert not server.answers()


def join_threads(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join()


async def test_a_cancelled_caller_leaves_no_server(directory: Path) -> None:
    task = asyncio.create_task(ensure_embedded(directory))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(join_threads, "redflow-embedded-start")
    assert await asyncio.to_thread((directory / "server.log").exists)
    await asyncio.to_thread(join_threads, "redflow-embedded-undo")
    assert not owner_alive(directory)


async def test_a_failure_to_start_reaches_every_caller(directory: Path) -> None:
    await asyncio.to_thread(directory.touch)
    results = await asyncio.gather(*[ensure_embedded(directory) for _ in range(2)], return_exceptions=True)
    assert [type(result) for result in results] == [EmbeddedServerError, EmbeddedServerError]
