"""The data directory of an embedded server: its permissions, its socket, and who may run a server on it.

Two lock files (`flock`) say who that is; they stay for good, only the locks on them come and go:

- `server.lock` is held by whoever runs a server here, and the server process inherits it. While any server
  lives on these files nobody else gets the lock, whatever became of its owner; so two servers never write
  one log. Its text is a record (JSON) that says where the server listens.
- `owner.lock` is held by the owner alone. The kernel drops it in the moment the owner dies.

A second process that finds `server.lock` taken attaches when `owner.lock` is taken too and the server
answers. When the owner is dead, its server is about to be ended by its guard: the second process waits for
`server.lock` and takes over. No step looks at a process id, which another program (or another container) may
have by now.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import sys
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from redflow.engines.redis.embedded_binary import EmbeddedServerError

if sys.platform != "win32":
    import fcntl

SERVER_LOCK: Final = "server.lock"
OWNER_LOCK: Final = "owner.lock"
SOCKET: Final = "server.sock"
LOG: Final = "server.log"

_MAX_SOCKET_PATH: Final = 100
"""Longest socket path, bytes: the kernel's limit is 104 (macOS) or 108 (Linux) with the final NUL."""


class PrivateFd:
    """A file descriptor that stays in this process: neither `exec` nor a forked child of ours keeps it.

    Needed since a lock and a pipe live as long as anybody holds them: a forked child would keep a dead owner
    alive.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _private_fds.add(self)

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._fd

    def close(self) -> None:
        """Close it, once; a forked child has done so already."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_private_fds: weakref.WeakSet[PrivateFd] = weakref.WeakSet()


def _close_private_fds() -> None:
    for private in list(_private_fds):
        private.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_private_fds)


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What `server.lock` says about the server.

    Attributes:
        pid: process id of the owner.
        server_pid: process id of the server.
        socket: path of its socket.
        port: the port of 127.0.0.1 it also listens on, or None.
        started: when it was started, ms since the epoch.
        server: name and version, for people.
    """

    pid: int
    server_pid: int
    socket: str
    port: int | None
    started: int
    server: str

    @classmethod
    def from_json(cls, text: str) -> ServerRecord | None:
        """The record, or None for a text that is none: empty, half written, or from another version."""
        try:
            data: object = json.loads(text)
        except ValueError:
            return None
        match data:
            case {
                "pid": int(pid),
                "server_pid": int(server_pid),
                "socket": str(path),
                "port": None | int() as port,
                "started": int(started),
                "server": str(server),
            }:
                return cls(pid, server_pid, path, port, started, server)
            case _:
                return None


class DirectoryLock:
    """Both locks of a data directory, held by this process; see the module's text."""

    def __init__(self, server: PrivateFd, owner: PrivateFd) -> None:
        self._server = server
        self._owner = owner

    @classmethod
    def try_acquire(cls, directory: Path) -> DirectoryLock | None:
        """Take both locks and clear the record, or return None when somebody has one of them.

        Raises:
            EmbeddedServerError: the directory's files can't be locked.
        """
        server = _open_locked(directory / SERVER_LOCK)
        if server is None:
            return None
        lock = cls(server, server)
        try:
            # First the record: a reader that finds the owner's lock taken must not find an old record.
            lock.write_record(None)
            # Not free only while somebody looks whether the owner lives; the caller tries again anyway.
            owner = _open_locked(directory / OWNER_LOCK)
        except BaseException:
            server.close()
            raise
        if owner is None:
            server.close()
            return None
        lock._owner = owner
        return lock

    @property
    def inheritable_fd(self) -> int:
        """The descriptor of `server.lock`, for the server process to hold too."""
        return self._server.fileno()

    def write_record(self, record: ServerRecord | None) -> None:
        """Say where the server listens; None says that there is no server to attach to.

        Raises:
            OSError: the record can't be written.
        """
        text = "" if record is None else json.dumps(asdict(record))
        os.ftruncate(self._server.fileno(), 0)
        os.pwrite(self._server.fileno(), text.encode(), 0)

    def release(self) -> None:
        """Give up both locks (a server that still lives keeps `server.lock`)."""
        self._owner.close()
        self._server.close()


def read_record(directory: Path) -> ServerRecord | None:
    """The record of the server that runs here, or None when there is none (yet)."""
    try:
        return ServerRecord.from_json((directory / SERVER_LOCK).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def owner_alive(directory: Path) -> bool:
    """Whether the process that owns the server here lives."""
    try:
        probe = _open_locked(directory / OWNER_LOCK, shared=True)
    except FileNotFoundError:
        return False
    if probe is None:
        return True
    probe.close()
    return False


def prepare_directory(directory: Path) -> None:
    """Make the data directory, or check one that is there: only this user may get at the data.

    A directory that this makes, that is empty or that holds data of ours gets mode 0700. Another one keeps
    its mode (it may be somebody's home); our files in it are 0600 anyway.

    Raises:
        EmbeddedServerError: it can't be made, is no directory, or others may write to it.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            _check_existing(directory)
        else:
            # Data of a running system does not belong into a repository.
            (directory / ".gitignore").write_text("*\n", encoding="ascii")
    except OSError as exc:
        raise EmbeddedServerError(f"the data directory {directory} can't be used: {exc}") from exc


def choose_socket(directory: Path) -> Path:
    """Where the server shall listen; to be called by the holder of the lock only.

    The socket stands in the data directory where it can: its path may be too long for a socket, or the file
    system may have none (a folder that a virtual machine shares). Then it stands in a directory of ours,
    mode 0700, under the system's directory for temporary files.

    Raises:
        EmbeddedServerError: there is no place for a socket.
    """
    reasons: list[str] = []
    for candidate in _socket_candidates(directory):
        path = os.fsencode(candidate)
        if len(path) > _MAX_SOCKET_PATH:
            reasons.append(f"{candidate} is longer than {_MAX_SOCKET_PATH} bytes")
            continue
        try:
            if candidate.parent != directory:
                _make_private(candidate.parent)
            candidate.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(path)
            candidate.unlink()
        except OSError as exc:
            reasons.append(f"{candidate}: {exc}")
            continue
        return candidate
    raise EmbeddedServerError(f"there is no place for the server's socket: {'; '.join(reasons)}")


def remove_socket(path: Path, directory: Path) -> None:
    """Remove a socket that its server left behind, and the directory that was made for it."""
    path.unlink(missing_ok=True)
    if path.parent != directory:
        path.parent.rmdir()


def _socket_candidates(directory: Path) -> Iterable[Path]:
    yield directory / SOCKET
    # The same directory for every start, so that a killed owner leaves one and not many.
    name = f"redflow-{os.geteuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    yield Path(tempfile.gettempdir(), name, SOCKET)
    yield Path("/tmp", name, SOCKET)


def _make_private(directory: Path) -> None:
    """Make a directory in a place where others may write; one that is there must be ours alone."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        found = directory.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
        if not ours:
            raise PermissionError(f"{directory} is there and belongs to somebody else") from None


def _check_existing(directory: Path) -> None:
    names = {entry.name for entry in directory.iterdir()}
    if not names or SERVER_LOCK in names:
        directory.chmod(0o700)
    elif directory.stat().st_mode & 0o022:
        raise PermissionError("other users may write to it; choose a directory of its own for the data")


def _open_locked(path: Path, *, shared: bool = False) -> PrivateFd | None:
    """Open a lock file and lock it without waiting; None when somebody else holds it."""
    flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
    file = PrivateFd(os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as exc:
        file.close()
        raise EmbeddedServerError(
            f"{path} can't be locked ({exc}): put the data on a file system with locks, best a local one"
        ) from exc
    return file
