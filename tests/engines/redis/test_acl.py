"""The core of redflow under the shipped ACL: a user with the prefix and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from redflow import config
from tests.docs.pages import read_page
from tests.support.core_scenarios import CORE, Scenario, name_of
from tests.support.invariants import check_invariants
from tests.support.keyspace import connection_to
from tests.support.servers import ServerKind, ServerOptions, ServerProcess
from tests.support.world import World, eventually

FILE = files("redflow.engines.redis").joinpath("redflow.acl").read_text("utf-8")
USER = next(line for line in FILE.splitlines() if line.startswith("user "))


def rule_for(prefix: str) -> str:
    """The shipped rule, for another prefix and with a password."""
    return USER.removeprefix("user ").replace(config.DEFAULT_PREFIX, prefix).replace("CHANGE-ME", "pw")


@pytest.fixture(scope="module")
def limited_server(server_kind: ServerKind) -> Iterator[ServerProcess]:
    with ServerProcess(server_kind, ServerOptions(users=(rule_for("mine"),))) as server:
        yield server


def as_user(server: ServerProcess) -> str:
    return f"redis://redflow:pw@127.0.0.1:{server.port}"


@pytest.mark.parametrize("scenario", CORE, ids=name_of)
async def test_the_core_works(limited_server: ServerProcess, prefix: str, scenario: Scenario) -> None:
    world = World(as_user(limited_server), f"mine:{prefix}", direct=limited_server.url)
    judge = connection_to(limited_server.url)  # it looks at everything, which the user may not
    try:
        await scenario(world)
        await world.stop_workers()
        await check_invariants(judge, world.prefix)
    finally:
        await world.close()
        await judge.close()


@pytest.mark.parametrize(
    "command",
    ["INFO", "KEYS *", "CONFIG GET save", "FLUSHALL", "GET others", "PUBLISH others x", "ACL LIST", "DEBUG x"],
)
async def test_nothing_else_does(limited_server: ServerProcess, command: str) -> None:
    redis = Redis.from_url(as_user(limited_server))
    with pytest.raises(NoPermissionError):
        await redis.execute_command(*command.split())  # type: ignore[no-untyped-call]
    await redis.aclose()


async def test_the_doctor_finds_nothing_missing(limited_server: ServerProcess) -> None:
    world = World(as_user(limited_server), "mine:doctor", direct=limited_server.url)

    async def access() -> list[str]:
        return [f["text"] for f in (await world.client.doctor())["findings"] if f["check"] == "access"]

    assert await eventually(access, "what is denied", until=lambda _: True) == []
    await world.close()


def test_the_docs_show_the_file() -> None:
    assert USER in read_page("docs/how-to/limit-the-redis-user.md")
