"""The doctor on real servers: what they lose, what this user may not do, and that nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files

import pytest
from redis.asyncio import Redis

from redflow import RedflowClient, create_client
from redflow.engines.redis.doctor import TRIED
from redflow.types import DoctorReport
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import eventually, impatient

Start = Callable[[ServerOptions], ServerProcess]
LIMITED = "app on >pw ~p* resetchannels &p* +@all -@dangerous -@admin"


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[RedflowClient]:
    client = create_client(url=url, prefix="p")
    try:
        yield client
    finally:
        await client.close()


async def report_on(url: str) -> DoctorReport:
    async with client_of(url) as client:
        return await client.doctor()


def as_app(server: ServerProcess) -> str:
    return f"redis://app:pw@127.0.0.1:{server.port}"


def checks(report: DoctorReport) -> set[tuple[str, str]]:
    return {(finding["check"], finding["level"]) for finding in report["findings"]}


async def test_without_persistence_everything_is_lost(private_server: Start) -> None:
    server = private_server(ServerOptions())
    report = await report_on(server.url)
    assert ("persistence", "problem") in checks(report)
    assert "EVERYTHING" in report["losses"]["server process dies"]
    assert report["unseen"] == []
    assert report["server"] == f"redis://127.0.0.1:{server.port}"
    assert re.match(r"(Redis|Valkey) \d+\.\d+\.\d+$", report["version"])
    redis = Redis.from_url(server.url)
    assert await redis.dbsize() == 0, "the doctor leaves nothing behind"
    await redis.aclose()


async def test_a_log_that_is_synced_at_each_write(private_server: Start) -> None:
    server = private_server(ServerOptions(appendonly=True, maxmemory=1 << 30))
    report = await report_on(server.url)
    assert report["losses"]["server process dies"] == "nothing"
    assert {check for check, level in checks(report) if level != "note"} <= {"version"}


async def test_an_eviction_policy_and_a_full_server(private_server: Start) -> None:
    server = private_server(ServerOptions(maxmemory=1 << 21, config=("maxmemory-policy allkeys-lru",)))
    found = checks(await report_on(server.url))
    assert {("eviction", "problem"), ("memory", "warning")} <= found


async def test_a_replica_and_its_master(private_server: Start) -> None:
    master = private_server(ServerOptions(appendonly=True))
    replica = private_server(ServerOptions(config=(f"replicaof 127.0.0.1 {master.port}",)))

    async def loss() -> str:
        return (await report_on(master.url))["losses"]["disk or server is gone"]

    await eventually(loss, "a replica in step", until=lambda text: "1 replica has" in text)
    assert ("role", "problem") in checks(await report_on(replica.url))


async def test_a_limited_user_is_told_what_could_not_be_seen(private_server: Start) -> None:
    server = private_server(ServerOptions(users=(LIMITED,)))
    report = await report_on(as_app(server))
    assert [text.split()[0] for text in report["unseen"]] == ["INFO", "CONFIG"]
    assert "access" not in {check for check, _ in checks(report)}, report["findings"]
    assert report["losses"]["server process dies"].startswith("unknown")


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ("-zadd", "ZADD"),
        ("-del", "DEL"),
        ("-publish", "PUBLISH"),
        ("-subscribe", "SUBSCRIBE"),
        ("-multi", "MULTI and EXEC"),
        ("-evalsha -eval", "EVALSHA and EVAL"),
        ("-hincrby -spop", "SPOP"),
        ("resetchannels", "SUBSCRIBE"),
    ],
)
async def test_a_command_that_is_denied_is_named(private_server: Start, rule: str, named: str) -> None:
    server = private_server(ServerOptions(users=(f"{LIMITED} {rule}",)))
    report = await report_on(as_app(server))
    said = [finding["text"] for finding in report["findings"] if finding["check"] == "access"]
    assert any(f"may not use {named}" in text for text in said), said
    assert not report["healthy"]
    assert "pw" not in " ".join(said)


async def test_keys_of_others(private_server: Start) -> None:
    server = private_server(ServerOptions(users=("app on >pw ~other* &* +@all",)))
    assert ("access", "problem") in checks(await report_on(as_app(server)))


async def test_no_server(private_server: Start) -> None:
    server = private_server(ServerOptions())
    server.kill()
    async with client_of(server.url) as client:
        with pytest.raises(Exception, match=str(server.port)):
            await impatient(client).doctor()


def test_every_command_of_the_scripts_is_tried() -> None:
    used: set[str] = set()

    def look(directory: object) -> None:
        for entry in directory.iterdir():  # type: ignore[attr-defined]
            if entry.is_dir():
                look(entry)
            else:
                used.update(re.findall(r"redis\.p?call\('([A-Z]+)'", entry.read_text("utf-8")))

    look(files("redflow.engines.redis").joinpath("lua"))
    assert used <= {text.split()[0] for text in TRIED}
