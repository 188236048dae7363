"""Fixtures and checks that every test shares."""

from __future__ import annotations

import gc
import logging
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.clusters import RedisCluster
from tests.support.invariants import check_invariants
from tests.support.keyspace import connection_to
from tests.support.servers import ServerKind, ServerOptions, ServerProcess, find_binary, selected_kind


class _ForgottenErrors(logging.Handler):
    """Collects asyncio's complaints about errors that nobody looked at ("... was never retrieved")."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.messages.append(f"{record.getMessage()}\n{error!r}" if error else record.getMessage())


_forgotten = _ForgottenErrors()
_FORGOTTEN = "forgotten_errors"


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores Ctrl-C on behalf of what it starts in the background, and so would every program tested here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("asyncio").addHandler(_forgotten)
    if shards := os.environ.get("REDFLOW_TEST_SHARDS"):  # for the programs that tests start, too
        os.environ["REDFLOW_SHARDS"] = shards


def pytest_report_header(config: pytest.Config) -> str:
    kind = selected_kind()
    version = subprocess.run([find_binary(kind), "--version"], check=True, capture_output=True, text=True).stdout
    return f"server: {kind} ({version.strip()})"


def pytest_testnodedown(node: object) -> None:
    """With `-n` the tests run in other processes: what these have collected fails the session here."""
    _forgotten.messages += getattr(node, "workeroutput", {}).get(_FORGOTTEN, [])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    # A task in a reference cycle complains only when it is collected, maybe long after its test.
    gc.collect()
    to_tell = getattr(session.config, "workeroutput", None)
    if to_tell is not None:
        to_tell[_FORGOTTEN] = _forgotten.messages
    elif _forgotten.messages:
        writer = session.config.get_terminal_writer()
        writer.line("\nasyncio reported errors that nobody retrieved:\n" + "\n".join(_forgotten.messages), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def no_forgotten_errors() -> Iterator[None]:
    """Fail a test during which asyncio reported an exception that nobody retrieved."""
    yield
    messages = _forgotten.messages[:]
    _forgotten.messages.clear()
    if messages:
        pytest.fail("asyncio reported errors that nobody retrieved:\n" + "\n".join(messages))


@pytest.fixture(scope="session")
def server_kind() -> ServerKind:
    """The kind of server that this run of the suite is on."""
    return selected_kind()


@pytest.fixture(scope="session")
def server(server_kind: ServerKind) -> Iterator[ServerProcess]:
    """The server that tests share; one that stops, fills or reconfigures a server takes `private_server`."""
    with ServerProcess(server_kind) as process:
        yield process


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """URL of the shared server; with REDFLOW_TEST_CLUSTER=1 of a cluster of three, for tests that run on both."""
    if os.environ.get("REDFLOW_TEST_CLUSTER"):
        cluster: RedisCluster = request.getfixturevalue("shared_cluster")
        return cluster.url
    server: ServerProcess = request.getfixturevalue("server")
    return server.url


@pytest.fixture(scope="session")
def shared_cluster(server_kind: ServerKind) -> Iterator[RedisCluster]:
    """The cluster that tests share with REDFLOW_TEST_CLUSTER=1."""
    with RedisCluster(server_kind) as cluster:
        yield cluster


@pytest.fixture
def private_server(server_kind: ServerKind) -> Iterator[Callable[[ServerOptions], ServerProcess]]:
    """Start a server of the test's own: `private_server(ServerOptions(appendonly=True))`."""
    processes: list[ServerProcess] = []

    def start(options: ServerOptions) -> ServerProcess:
        process = ServerProcess(server_kind, options)
        processes.append(process)
        process.start()
        return process

    yield start
    for process in processes:
        process.stop()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix that no other test has; it tells which test wrote a key."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    return f"{name}-{secrets.token_hex(4)}"


@pytest.fixture
def invariants(redis_url: str) -> Callable[[str], Awaitable[None]]:
    """Check every key under a prefix of the shared server; a test awaits it with its prefix at the end."""

    async def check(prefix: str) -> None:
        connection = connection_to(redis_url)
        try:
            await check_invariants(connection, prefix)
        finally:
            await connection.close()

    return check
