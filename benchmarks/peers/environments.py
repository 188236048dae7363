"""The peers' environments: a virtual environment each, or a node_modules, made when first needed.

They lie under a cache folder that git ignores. Releases are pinned in the catalogue, so that a table can be made again.
What can't be installed is not left out: the reason comes back as `NotInstalledError` and stands in the report.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.catalogue import Peer

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CACHE: Final = ROOT / ".bench-peers"

_MAKE_VENV: Final = ROOT / "tools" / "make-venv.sh"
_PROGRAMS: Final = ROOT / "benchmarks" / "peers" / "programs"
_INSTALL_WITHIN_S: Final = 900.0
_SHOWN: Final = 300
"""How much of an installer's last words goes into the reason, characters."""


class NotInstalledError(Exception):
    """A peer's environment can't be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer's programs run.

    Attributes:
        command: what starts a program; the role and the settings follow.
        variables: its environment variables.
        versions: of the peer and what it stands on, for the report.
    """

    command: tuple[str, ...]
    variables: dict[str, str]
    versions: str


def prepare(peer: Peer, cache: Path) -> Environment:
    """Make a peer's environment, unless it stands already.

    Raises:
        NotInstalledError: it can't be made.
    """
    if peer.runtime == "node":
        return _node(peer, cache)
    if not peer.requirements:  # ours: as it is installed here
        return _python(peer, sys.executable)
    directory = cache / peer.environment
    _once(directory, peer.requirements, lambda: _make_venv(directory, peer.requirements))
    return _python(peer, str(directory / "bin" / "python"))


def _python(peer: Peer, python: str) -> Environment:
    # What is in the working directory is not importable (-P); the repository is, for the programs' own package.
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    program = f"benchmarks.peers.programs.{peer.program}"
    return Environment((python, "-P", "-m", program), variables, _python_versions(python, peer.shown_packages))


def _node(peer: Peer, cache: Path) -> Environment:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalledError("node and npm are not on this machine's PATH")
    directory = cache / peer.environment
    _once(directory, peer.requirements, lambda: _make_node_modules(npm, directory, peer.requirements))
    version = _output([node, "--version"]).strip().lstrip("v")
    found = [f"node {version}", *(f"{name} {_npm_version(directory, name)}" for name in peer.shown_packages)]
    variables = {**os.environ, "NODE_PATH": str(directory / "node_modules"), "NODE_ENV": "production"}
    return Environment((node, str(_PROGRAMS / f"{peer.program}.js")), variables, ", ".join(found))


def _make_venv(directory: Path, requirements: tuple[str, ...]) -> None:
    _run([str(_MAKE_VENV), sys.executable, str(directory)])
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *requirements])


def _make_node_modules(npm: str, directory: Path, requirements: tuple[str, ...]) -> None:
    directory.mkdir(parents=True)
    (directory / "package.json").write_text('{"private": true}\n', "utf-8")
    _run([npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(directory), *requirements])


def _once(directory: Path, requirements: tuple[str, ...], make: Callable[[], None]) -> None:
    """Make an environment, unless it stands with just these requirements."""
    stamp = directory / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    make()
    stamp.write_text(wanted, "utf-8")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotInstalledError(f"{command[0]}: {exc}") from exc
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise NotInstalledError(f"{Path(command[0]).name} ended with {done.returncode}: {said[-_SHOWN:]}")


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


_VERSIONS: Final = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = [f"{platform.python_implementation()} {platform.python_version()}"]
for name in sys.argv[1:]:
    try:
        found.append(f"{name} {version(name)}")
    except PackageNotFoundError:
        found.append(f"no {name}")
print(", ".join(found))
"""


def _python_versions(python: str, packages: tuple[str, ...]) -> str:
    return _output([python, "-c", _VERSIONS, *packages]).strip()


def _npm_version(directory: Path, name: str) -> str:
    package = json.loads((directory / "node_modules" / name / "package.json").read_text("utf-8"))
    return str(package["version"])
