"""`redflow server`: the bundled server in the foreground."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
import redis

from tests.cli.programs import Programs
from tests.support.servers import PORTS


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is free but for who asks the kernel for any."""
    for number in reversed(PORTS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
        yield number
        return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_keeps_the_data(programs: Programs, port: int, number: signal.Signals) -> None:
    for expected in (None, b"1"):
        program = programs.start("server", "--port", str(port))
        program.wait_for(rf"^  redis://127.0.0.1:{port}$")
        program.wait_for(r"^  unix:///.*/.redflow/server.sock$")
        pid = int(program.wait_for(r"server (\d+) is ready")[1])
        with redis.Redis(port=port) as client:
            assert client.get("kept") == expected
            client.set("kept", 1)
        program.send(number)
        assert program.wait() == 0
        assert program.err == []
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_port_that_is_taken(programs: Programs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, program = programs.run("server", "--port", str(port))
    assert (code, program.out, len(program.err)) == (2, [], 1), program.text
    program.wait_for(f"^redflow: .*port {port} of 127.0.0.1 is taken by another program. Log: /")


def test_a_directory_that_has_a_server(programs: Programs, port: int) -> None:
    program = programs.start("server", "--port", str(port), "--dir", "data")
    program.wait_for("is ready")
    for other in (port, port - 1):
        code, refused = programs.run("server", "--port", str(other), "--dir", "data")
        assert (code, refused.out, len(refused.err)) == (2, [], 1), refused.text
        refused.wait_for("^redflow: a server for .* runs already")
    with redis.Redis(port=port) as client:
        assert client.ping()
    assert program.interrupt() == 0


def test_a_directory_that_can_not_be_used(programs: Programs, port: int) -> None:
    programs.write("file", "")
    code, program = programs.run("server", "--port", str(port), "--dir", "file/data")
    assert (code, program.out, len(program.err)) == (2, [], 1), program.text
    program.wait_for("^redflow: the data directory .*file/data can't be used")
