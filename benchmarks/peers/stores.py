"""What the systems keep their state in: a fresh one for each measurement, so that nobody inherits anything."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.harness import BenchmarkError, Persistence
from benchmarks.peers.environments import ROOT, NotInstalledError
from tests.support.servers import PORTS, ServerKind, ServerOptions, ServerProcess

_START_WITHIN_S: Final = 60.0
_POSTGRES_USER: Final = "postgres"


@dataclass(frozen=True, slots=True)
class Store:
    """A running store.

    Attributes:
        url: where it is.
        redis: whether it is a Redis, which can be watched.
        settings: what a reader should know of it: version, fsync.
        size: bytes of its data; None if that can't be told.
    """

    url: str
    redis: bool
    settings: str
    size: Callable[[], int] | None = None


@contextmanager
def redis_store(server: ServerKind, persistence: Persistence) -> Iterator[Store]:
    """A Redis or Valkey of its own, on TCP."""
    appendonly = persistence != "none"
    config = (f"appendfsync {persistence}",) if appendonly else ()
    with ServerProcess(server, ServerOptions(appendonly=appendonly, config=config)) as process:
        told = f"{_redis_version(process.url)}, appendonly {f'yes, appendfsync {persistence}' if appendonly else 'no'}"
        yield Store(process.url, True, told, lambda: _redis_size(process.url))


@contextmanager
def sqlite_store(persistence: Persistence) -> Iterator[Store]:
    """A folder for a SQLite file."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as directory:
        path = Path(directory) / "dbos.sqlite"
        synchronous = "off" if persistence == "none" else "full"
        told = f"sqlite {sqlite3.sqlite_version}, synchronous {synchronous}, journal_mode wal"
        yield Store(f"sqlite:///{path}", False, told, lambda: _sqlite_size(path))


@contextmanager
def postgres_store(persistence: Persistence) -> Iterator[Store]:
    """A Postgres of its own, of Debian's package, on a free port; as user `postgres` if we are root.

    Raises:
        NotInstalledError: there is none and it can't be installed.
        BenchmarkError: it does not start.
    """
    binaries = _postgres_binaries()
    user = _POSTGRES_USER if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="bench-peers-", dir="/tmp"))
    try:
        if user is not None:
            shutil.chown(directory, user)
        data, port = directory / "data", free_port()
        _as(user, [str(binaries / "initdb"), "-D", str(data), "-U", _POSTGRES_USER, "-A", "trust", "-E", "UTF8"])
        careful = "on" if persistence != "none" else "off"
        options = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": directory,
            "fsync": careful,
            "synchronous_commit": "on" if persistence == "always" else "off",
            "full_page_writes": careful,
            "max_connections": 300,
            "shared_buffers": "512MB",
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), *arguments]
        with _daemon(command, directory / "log", user, stop=signal.SIGINT, answers=lambda: _listens(port)):
            version = _as(None, [str(binaries / "postgres"), "--version"]).split()[2]
            told = f"postgres {version}, " + ", ".join(
                f"{name} {options[name]}" for name in ("fsync", "synchronous_commit", "full_page_writes")
            )
            url = f"postgresql://{_POSTGRES_USER}@127.0.0.1:{port}/postgres"
            yield Store(url, False, told, lambda: _postgres_size(binaries, url))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def temporal_store(python: Path) -> Iterator[Store]:
    """Temporal's dev server, of the peer's own environment; it keeps its state in memory."""
    binary = python.parent / "temporal"
    if not binary.is_file():
        raise NotInstalledError(f"there is no {binary.name} beside {python}")
    directory = Path(tempfile.mkdtemp(prefix="bench-peers-", dir="/tmp"))
    try:
        port = free_port()
        command = [str(binary), "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error"]
        # Where the server keeps namespaces and history: the dev server's default is a database in memory.
        with _daemon(command, directory / "log", None, stop=signal.SIGTERM, answers=lambda: _listens(port)):
            version = _as(None, [str(binary), "--version"]).strip()
            yield Store(f"127.0.0.1:{port}", False, f"{version}, in memory")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _redis_version(url: str) -> str:
    with Redis.from_url(url) as redis:
        facts = redis.info("server")
    name = str(facts.get("server_name", "redis"))
    return f"{name} {facts.get(f'{name}_version', facts['redis_version'])}"


def _redis_size(url: str) -> int:
    """Bytes that the server has allocated, without the buffers of connections."""
    with Redis.from_url(url) as redis:
        facts = redis.info("memory")
    used: int = facts["used_memory"] - facts["mem_clients_normal"]
    return used


def _sqlite_size(path: Path) -> int:
    """Bytes of the file, with all that its log holds written into it."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def _postgres_size(binaries: Path, url: str) -> int:
    """Bytes of the database's files, once what is dead in them has been cleared for reuse."""
    psql = [str(binaries / "psql"), "--no-psqlrc", "-At", url]
    _as(None, [*psql, "-c", "VACUUM"])
    return int(_as(None, [*psql, "-c", "SELECT pg_database_size('postgres')"]))


def free_port() -> int:
    """A port that nobody listens on, outside of the range of outgoing connections."""
    for port in random.sample(PORTS, 100):  # not the same for two who look at once
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchmarkError("no port is free")


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found and (on_path := shutil.which("initdb")):
        found = [Path(on_path)]
    if not found:
        command = [str(ROOT / "tools" / "apt-install.sh"), "pg_ctlcluster", "postgresql"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise NotInstalledError(f"Postgres: {(done.stderr or done.stdout).strip()[-300:]}")
    return found[-1].parent


def _as(user: str | None, command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, user=user, cwd="/", check=False)
    if done.returncode:
        raise BenchmarkError(f"{Path(command[0]).name}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _daemon(
    command: list[str], log: Path, user: str | None, *, stop: signal.Signals, answers: Callable[[], bool]
) -> Iterator[None]:
    """Run a server until the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user, cwd="/", start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_WITHIN_S
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{command[0]} does not start: {log.read_text('utf-8', 'replace')[-500:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
