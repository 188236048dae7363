"""Servers and modules that can't be used: one line, exit code 2, no password."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cli.here import Here
from tests.cli.programs import Programs
from tests.support.servers import ServerOptions, ServerProcess

COMMANDS = {
    "run": ("run", "hello", "--wait"),
    "worker": ("worker", "flows", "--processes", "2"),
    "dev": ("dev", "flows"),
}
FLOWS = """
from redflow import workflow

@workflow("hello")
async def hello(ctx):
    return 1
"""


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, programs: Programs) -> Callable[[str], str]:
    """Runs a command with a URL that it must refuse; returns its line."""

    def refused(url: str) -> str:
        programs.write("flows.py", FLOWS)
        code, program = programs.run(*COMMANDS[request.param], "--url", url)
        assert code == 2, program.text
        beside = [line for line in program.out if not line.startswith(("dashboard: ", "redflow dev "))]
        assert not beside, program.text
        assert len(program.err) == 1, program.text
        assert program.err[0].startswith("redflow: ")
        return program.err[0]

    return refused


@contextmanager
def listener(answer: Callable[[bytes], bytes] | None) -> Iterator[int]:
    """A port where something answers each command by its name; None: it hangs up."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):  # a client that hangs up
            while answer is not None and (data := connection.recv(65536)):
                names = re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)", data)
                connection.sendall(b"".join(map(answer, names)))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def redis_6_0(name: bytes) -> bytes:
    hello = b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.0.16\r\n"
    return hello if name == b"HELLO" else b"+OK\r\n"


def test_no_server(command: Callable[[str], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert re.search(rf"can't reach .*127.0.0.1:{port}", command(f"redis://:s3cret@127.0.0.1:{port}"))


def test_a_wrong_password(
    command: Callable[[str], str], private_server: Callable[[ServerOptions], ServerProcess]
) -> None:
    server = private_server(ServerOptions(requirepass="right"))
    line = command(f"redis://:wr0ng@127.0.0.1:{server.port}")
    assert re.search(rf"127.0.0.1:{server.port}.* refuses the user name or password", line)
    assert "wr0ng" not in line


def test_a_missing_password(here: Here, private_server: Callable[[ServerOptions], ServerProcess]) -> None:
    server = private_server(ServerOptions(requirepass="right"))
    assert "password" in here.refused("run", "hello", "--url", f"redis://127.0.0.1:{server.port}")


def test_a_server_without_hello(command: Callable[[str], str]) -> None:
    with listener(lambda name: b"-ERR unknown command `%b`, with args beginning with: \r\n" % name) as port:
        assert "older than 6.0; redflow needs Redis >= 6.2" in command(f"redis://127.0.0.1:{port}")


def test_a_server_of_6_0(here: Here) -> None:
    with listener(redis_6_0) as port:
        line = here.refused("run", "hello", "--url", f"redis://127.0.0.1:{port}")
        assert "runs Redis 6.0.16; redflow needs Redis >= 6.2" in line


def test_something_else_that_listens(here: Here) -> None:
    with listener(lambda name: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        line = here.refused("run", "x", "--url", f"redis://127.0.0.1:{port}")
        assert re.search(f"can't reach redis://127.0.0.1:{port}: Protocol error", line, re.IGNORECASE)


def test_something_that_hangs_up(here: Here) -> None:
    with listener(None) as port:
        assert f"can't reach redis://127.0.0.1:{port}: " in here.refused(
            "run", "x", "--url", f"redis://127.0.0.1:{port}"
        )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "no scheme"),
        ("http://:s3cret@cache", "'http://...@cache': its scheme is not known. Accepted forms: redis://"),
        ("redis://:s3cret@cache:port", "a port must be a number"),
        ("redis://user:s3cret?x@cache", "bad server URL"),
        ("redis://cache?password=s3cret&foo=1", "foo is not known"),
        ("", "it is empty"),
    ],
)
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_bad_url(here: Here, arguments: tuple[str, ...], url: str, said: str) -> None:
    line = here.refused(*arguments, "--url", url)
    assert re.search(said, line), line
    assert "s3cret" not in line


def test_a_bad_url_in_the_environment(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis:/cache")
    for name in ("run", "worker"):
        assert "bad server URL 'redis:/cache'" in here.refused(*COMMANDS[name])


def test_a_bad_prefix(here: Here) -> None:
    for arguments in COMMANDS.values():
        assert "prefix" in here.refused(*arguments, "--prefix", "a{b}")


# --- modules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["worker", "dev"])
@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("no_such_module", "there is no module no_such_module: no_such_module is neither in .* nor installed"),
        ("shop.missing", "there is no module shop.missing: shop.missing is not found"),
        ("plain", "plain defines no workflow"),
    ],
)
def test_a_module_that_is_not_there_or_empty(
    programs: Programs, redis_url: str, prefix: str, name: str, module: str, said: str
) -> None:
    programs.write("shop/__init__.py", "")
    programs.write("plain.py", "x = 1\n")
    code, program = programs.run(name, module, "--url", redis_url, "--prefix", prefix)
    assert code == 2, program.text
    assert len(program.err) == 1, program.text
    program.wait_for(f"redflow: {said}")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_like_it", r"ModuleNotFoundError: No module named 'nothing_like_it' \(shop/flows.py, line 1\)"),
        ("def f(:\n", r"SyntaxError: .* \(shop/flows.py, line 1\)"),
        ("\n1 / 0", r"ZeroDivisionError: division by zero \(shop/flows.py, line 2\)"),
        ("raise ValueError('one\\ntwo')", r"ValueError: one \(shop/flows.py, line 1\)"),
        ("raise SystemExit(3)", r"SystemExit: 3 \(shop/flows.py, line 1\)"),
        (
            "import redflow\nasync def f(ctx): ...\nredflow.define_workflow('x', handler=f, max_attempts=-1)",
            r"ValueError: .*max_attempts.*\(shop/flows.py, line 3\)",
        ),
    ],
)
def test_a_module_that_breaks(programs: Programs, redis_url: str, prefix: str, source: str, said: str) -> None:
    programs.write("shop/flows.py", source)
    code, program = programs.run("worker", "shop.flows", "--url", redis_url, "--prefix", prefix)
    assert code == 2, program.text
    assert len(program.err) == 1, program.text
    program.wait_for(f"redflow: can't import shop.flows: {said}")


def test_a_definition_that_is_not_served(programs: Programs, redis_url: str, prefix: str) -> None:
    programs.write("flows.py", FLOWS.replace('"hello"', '"hello", queue="x\\x07"'))
    code, program = programs.run("worker", "flows", "--url", redis_url, "--prefix", prefix)
    assert code == 2, program.text
    assert len(program.err) == 1, program.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.py",), "there is no file missing.py"),
        (("no/such/dir",), "there is no file no/such/dir"),
        (("./empty",), "the directory ./empty is no package"),
        (("./data.txt",), "./data.txt is no Python file"),
        (("two-words.py",), "two-words.py can't be imported"),
        (("two-words",), "'two-words' is neither the name of a module"),
        (("shop:app",), "did you mean shop.app"),
        (("flows", "--queues", " , "), "--queues names no queue"),
        (("flows", "--app", "x" * 300), "app"),
    ],
)
def test_arguments_that_can_not_be_meant(here: Here, programs: Programs, arguments: tuple[str, ...], said: str) -> None:
    programs.write("empty/readme.txt", "")
    programs.write("data.txt", "")
    programs.write("two-words.py", "")
    assert re.search(said, here.refused("worker", *arguments))


def test_port_with_a_server_of_ones_own(here: Here) -> None:
    assert "--port" in here.refused("dev", "flows", "--url", "redis://127.0.0.1", "--port", "7000")


def test_bad_usage_is_exit_code_2_too(here: Here) -> None:
    for arguments in (("worker",), ("run",), ("worker", "flows", "--processes", "0"), ("nonsense",)):
        code, out, err = here.run(*arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
