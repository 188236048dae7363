"""What the doctor makes of a server's own words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redflow.domain.doctor import ServerFacts, diagnose

GOOD = ServerFacts(
    address="redis://x",
    info={
        "redis_version": "8.2.2",
        "role": "master",
        "aof_enabled": "1",
        "aof_last_write_status": "ok",
        "maxmemory": "4000000000",
        "used_memory": "1000000",
        "maxmemory_policy": "noeviction",
        "master_repl_offset": "1000",
        "slave0": "ip=10.0.0.2,port=6379,state=online,offset=940,lag=0",
        "rdb_changes_since_last_save": "17",
        "rdb_last_save_time": "1000",
    },
    config={
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "min-replicas-to-write": "1",
    },
    version="8.2.2",
    server="redis",
    time_ms=1_060_000,
    here_ms=1_060_001,
)


def info(**changes: str | None) -> ServerFacts:
    merged = {**(GOOD.info or {}), **changes}
    return replace(GOOD, info={name: value for name, value in merged.items() if value is not None})


def config(facts: ServerFacts = GOOD, /, **changes: str) -> ServerFacts:
    return replace(facts, config={**(GOOD.config or {}), **{n.replace("_", "-"): v for n, v in changes.items()}})


def test_a_server_without_fault() -> None:
    report = diagnose(GOOD)
    assert (report["healthy"], report["findings"], report["unseen"]) == (True, [], [])
    assert report["version"] == "Redis 8.2.2"
    assert report["losses"] == {
        "server process dies": "nothing, as long as the disk keeps up with the log; else what it had not taken yet",
        "machine dies": "up to 2 seconds of changes",
        "disk or server is gone": "what 1 replica has not taken yet: 60 bytes now",
    }


NO_AOF = info(aof_enabled="0")

FINDINGS = [
    (info(role="slave"), "role", "problem", "is a replica"),
    (replace(GOOD, denied={"ZADD": "NOPERM no zadd"}), "access", "problem", "ZADD: NOPERM no zadd"),
    (config(maxmemory_policy="allkeys-lru"), "eviction", "problem", "allkeys-lru"),
    (replace(info(maxmemory_policy="volatile-lru"), config=None), "eviction", "problem", "volatile-lru"),
    (config(appendfsync="no"), "fsync", "warning", "appendfsync is no"),
    (info(aof_last_write_status="err"), "fsync", "problem", "refuses writes"),
    (info(aof_last_bgrewrite_status="err"), "fsync", "warning", "rewrite"),
    (NO_AOF, "persistence", "problem", "no persistence"),
    (config(NO_AOF, save="3600 1"), "persistence", "warning", "only snapshots"),
    (replace(NO_AOF, config=None), "persistence", "warning", "only snapshots"),
    (info(aof_enabled="0", rdb_last_bgsave_status="err"), "persistence", "problem", "last snapshot failed"),
    (info(slave0=None), "replica", "note", "only copy"),
    (info(slave1="ip=10.0.0.3,port=1,state=wait_bgsave,offset=0"), "replica", "warning", "10.0.0.3:1 is not in step"),
    (config(min_replicas_to_write="0"), "replica", "note", "cut off"),
    (info(maxmemory="0"), "memory", "note", "maxmemory is not set"),
    (info(maxmemory="100000000", used_memory="90000000"), "memory", "warning", "90 % of maxmemory"),
    (info(maxmemory="20000000"), "memory", "warning", "only 20000000 bytes"),
    (replace(GOOD, time_ms=1_065_000), "clock", "note", "differ by 5.0 s"),
    (replace(GOOD, here_ms=1_160_000), "clock", "warning", "differ by 100.0 s"),
]


@pytest.mark.parametrize(("facts", "check", "level", "said"), FINDINGS, ids=[row[3] for row in FINDINGS])
def test_findings(facts: ServerFacts, check: str, level: str, said: str) -> None:
    report = diagnose(facts)
    found = [f for f in report["findings"] if f["check"] == check and said in f["text"]]
    assert [f["level"] for f in found] == [level]
    assert found[0]["remedy"]
    assert report["healthy"] == (level == "note")


LOSSES = [
    (config(appendfsync="always"), "nothing", "nothing, if the disk honours fsync"),
    (config(appendfsync="no"), "as long as", "operating system"),
    (replace(GOOD, config=None), "as long as", "not visible which"),
    (NO_AOF, "EVERYTHING", "EVERYTHING"),
    (config(NO_AOF, save="3600 1"), "17 changes since the snapshot 60 s ago", "17 changes"),
    (replace(NO_AOF, config=None), "if snapshots are made at all", "17 changes"),
    (replace(GOOD, info=None), "unknown", "unknown"),
]


@pytest.mark.parametrize(("facts", "process", "machine"), LOSSES)
def test_losses(facts: ServerFacts, process: str, machine: str) -> None:
    losses = diagnose(facts)["losses"]
    assert process in losses["server process dies"]
    assert machine in losses["machine dies"]


def test_the_loss_of_a_disk() -> None:
    assert "no replica is connected" in diagnose(info(slave0=None))["losses"]["disk or server is gone"]
    behind = info(slave0="ip=x,port=1,state=wait_bgsave,offset=0")
    assert "no replica is in step" in diagnose(behind)["losses"]["disk or server is gone"]


@pytest.mark.parametrize(
    ("server", "version", "open"),
    [
        ("redis", "6.2.19", True), ("redis", "6.2.20", False), ("redis", "7.0.15", True), ("redis", "7.2.10", True),
        ("redis", "7.2.11", False), ("redis", "7.4.5", True), ("redis", "7.4.6", False), ("redis", "8.0.3", True),
        ("redis", "8.0.4", False), ("redis", "8.2.1", True), ("redis", "8.2.2", False), ("redis", "8.4.0", False),
        ("valkey", "7.2.10", True), ("valkey", "8.0.6", False), ("valkey", "8.1.3", True), ("valkey", "8.1.4", False),
        ("valkey", "9.0.0", False), ("redis", "", False), ("redis", "odd", False),
    ],
)  # fmt: skip
def test_known_holes(server: str, version: str, open: bool) -> None:
    facts = replace(GOOD, server=server, version=version, info=None)
    found = [f["text"] for f in diagnose(facts)["findings"] if f["check"] == "version"]
    assert len(found) == open
    assert all(version in text and "CVE-2025-49844" in text for text in found)


def test_what_it_could_not_see_is_said() -> None:
    report = diagnose(replace(GOOD, info=None, config=None))
    assert report["healthy"]
    assert [text.split()[0] for text in report["unseen"]] == ["INFO", "CONFIG"]
