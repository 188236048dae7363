"""`redflow doctor`: what it prints and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.cli.here import Here
from tests.support.servers import ServerOptions, ServerProcess


def test_it_warns_of_a_server_without_persistence(
    here: Here, private_server: Callable[[ServerOptions], ServerProcess]
) -> None:
    server = private_server(ServerOptions(requirepass="s3cret"))
    code, out, err = here.run("doctor", "--url", server.url)
    assert (code, err) == (1, "")
    assert f"127.0.0.1:{server.port}: " in out
    assert "server process dies: EVERYTHING" in out
    assert "problem: there is no persistence" in out
    assert "s3cret" not in out
    code, out, _ = here.run("doctor", "--json", "--url", server.url)
    report = json.loads(out)
    assert (code, report["healthy"]) == (1, False)
    assert set(report) == {"server", "version", "losses", "findings", "unseen", "healthy"}


def test_a_limited_user_is_fine(here: Here, private_server: Callable[[ServerOptions], ServerProcess]) -> None:
    server = private_server(ServerOptions(users=("app on >pw ~p* resetchannels &p* +@all -@dangerous -@admin",)))
    code, out, _ = here.run("doctor", "--url", f"redis://app:pw@127.0.0.1:{server.port}", "--prefix", "p")
    assert "not visible: INFO" in out
    assert code == (1 if "warning: " in out else 0)
    assert "pw" not in out


def test_no_server(here: Here) -> None:
    assert "127.0.0.1:1" in here.refused("doctor", "--url", "redis://127.0.0.1:1")
