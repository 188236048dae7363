"""Several processes and one data directory: attach, die, take over; real processes and real kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from redflow.engines.redis.embedded import (
    EmbeddedServer,
)
from redflow.engines.redis.embedded_directory import read_record
from tests.engines.redis.embedded.starters import Starters, read, wait_gone, write


def test_a_second_process_attaches(directory: Path, starters: Starters, server: EmbeddedServer) -> None:
    server.start()
    write(server.url, "one")
    other = starters.start(directory)
    assert other.report == {"owner": False, "url": server.unix_url, "pid": server.pid}
    other.end()
    assert server.answers()

    third = starters.start(directory)
    third.kill()
    assert read(server.url) == "one"


def test_a_second_object_in_the_process_attaches(server: EmbeddedServer, binary: Path) -> None:
    server.start()
    other = EmbeddedServer(server.directory, binary=binary)
    other.start()
    assert (other.owner, other.url, other.pid) == (False, server.url, server.pid)
    assert repr(other) == f"<EmbeddedServer {server.directory} (attached)>"
    other.stop()
    assert server.answers()


@pytest.mark.parametrize("end", ["kill", "exit", "kill with a forked child"])
def test_a_dead_owner_leaves_no_orphan_and_the_next_start_takes_over(
    directory: Path, starters: Starters, server: EmbeddedServer, end: str
) -> None:
    owner = starters.start(directory, fork=end == "kill with a forked child")
    assert owner.report["owner"] is True
    attached = starters.start(directory)
    assert attached.report["owner"] is False
    url = str(owner.report["url"])
    write(url, "one")

    if end == "exit":
        owner.end("just exit")
    else:
        owner.kill()
    # At once: the old server may still be about to end.
    server.start()
    assert server.owner
    assert server.pid != owner.server_pid
    assert read(server.url) == "one"
    wait_gone(owner.server_pid)

    # The place is the same, so whoever had attached goes on after a reconnect.
    assert server.url == url
    assert read(url) == "one"


def test_a_forked_child_that_stops_leaves_the_server_alone(directory: Path, starters: Starters) -> None:
    owner = starters.start(directory, fork=True)
    assert owner.report["child owns"] == "n"
    assert read(str(owner.report["url"])) is None
    owner.end()
    wait_gone(owner.server_pid)


def test_many_starters_at_once_make_one_owner(directory: Path, starters: Starters) -> None:
    made = [starters.make(directory) for _ in range(4)]
    for starter in made:
        starter.begin()
    reports = [starter.wait_started().report for starter in made]
    assert sorted(bool(report["owner"]) for report in reports) == [False, False, False, True]
    assert len({(report["url"], report["pid"]) for report in reports}) == 1


def test_starters_race_for_the_place_of_a_dead_owner(directory: Path, starters: Starters) -> None:
    owner = starters.start(directory)
    write(str(owner.report["url"]), "one")
    made = [starters.make(directory) for _ in range(3)]
    owner.kill()
    for starter in made:
        starter.begin()
    reports = [starter.wait_started().report for starter in made]
    assert sorted(bool(report["owner"]) for report in reports) == [False, False, True]
    assert len({report["pid"] for report in reports}) == 1
    assert read(str(reports[0]["url"])) == "one"


def test_an_attached_object_takes_over_when_it_starts_again(
    directory: Path, starters: Starters, server: EmbeddedServer
) -> None:
    owner = starters.start(directory)
    server.start()
    assert not server.owner
    owner.kill()
    wait_gone(owner.server_pid)
    assert not server.answers()
    server.start()
    assert server.owner


def test_a_record_that_is_no_record_is_ignored(directory: Path, server: EmbeddedServer) -> None:
    directory.mkdir()
    for text in ("", "{", "[]", '{"pid": 1}', '{"pid": "1", "socket": 3}'):
        (directory / "server.lock").write_text(text)
        assert read_record(directory) is None
    server.start()
    assert server.owner


@pytest.mark.parametrize("own", [None, "glibc.malloc.tcache_count=9"])
def test_the_allocator_is_set_up_for_the_server_unless_somebody_did(
    directory: Path, tmp_path: Path, binary: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    told = tmp_path / "told"  # not from /proc: the server writes its title over its environment
    spy = tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\necho "$GLIBC_TUNABLES" >{told}\nexec {binary} "$@"\n', "utf-8")
    spy.chmod(0o755)
    server = EmbeddedServer(directory, binary=spy)
    server.start()
    server.stop()
    assert told.read_text("utf-8").strip() == (own or "glibc.malloc.tcache_count=1000:glibc.malloc.mxfast=0")
