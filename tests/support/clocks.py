"""Wall clocks that a test shifts: of a worker process, or of a server."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

_SHIM: Final = Path(__file__).with_name("clock_shim.c")
_NS: Final = 1_000_000_000


def compiler() -> str | None:
    """The C compiler, without which no clock can be shifted; None if there is none, or no LD_PRELOAD."""
    return shutil.which("cc") if sys.platform == "linux" else None


@cache
def _library(directory: Path) -> Path:
    """The shim, built."""
    library = directory / "clock_shim.so"
    command = [compiler() or "cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(_SHIM), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Clock:
    """The wall clock of one process, or of several that are given the same.

    Args:
        directory: where its file and the shim are put.
        name: of the file.
        by_s: how far it is shifted at first, seconds.
    """

    def __init__(self, directory: Path, name: str = "clock", by_s: float = 0.0) -> None:
        self._path = directory / name
        self._library = _library(directory)
        self._path.write_bytes(struct.pack("=q", 0))
        self.jump_to(by_s)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to have this clock."""
        return {"LD_PRELOAD": str(self._library), "REDFLOW_TEST_CLOCK": str(self._path)}

    def jump_to(self, by_s: float) -> None:
        """Shift it by so many seconds from the true time, at once, also in processes that run."""
        file = os.open(self._path, os.O_WRONLY)
        os.pwrite(file, struct.pack("=q", int(by_s * _NS)), 0)
        os.close(file)
