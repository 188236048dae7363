"""Tells when Python source changes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from typing import Final

from watchfiles import PythonFilter, awatch

from redflow.cli import output

_LOOK_MS: Final = 500
"""When a new watch looks for what changed before it began, ms."""


class SourceWatch:
    """Watches the Python files in some directories, without those below.

    A change counts from `begin()` on, also in directories that are added later.

    Attributes:
        changed: set when a file was written, added or removed.
        files: which ones, as far as is known by then.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.files: list[str] = []
        self._directories: frozenset[str] = frozenset()
        self._since_ns = 0
        self._seen: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Forget changes up to now: somebody starts to read the files."""
        self._since_ns = time.time_ns()
        self.files = []
        self.changed.clear()

    def add(self, directories: Iterable[str]) -> None:
        """Watch these directories as well."""
        more = self._directories.union(directories)
        if more == self._directories:
            return
        self._directories = more
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._watch(), name="redflow-watch")

    async def close(self) -> None:
        """Watch nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        directories = _existing(self._directories)
        try:
            await self._listen(directories, poll=False)
        except (OSError, RuntimeError) as exc:  # the system's limit of watched directories, or a file system without
            output.notice(f"changes of the source can't be notified ({exc}); looking for them instead", err=True)
            await self._listen(directories, poll=True)

    async def _listen(self, directories: list[str], *, poll: bool) -> None:
        looked_back = False
        async for changes in awatch(
            *directories,
            watch_filter=PythonFilter(),
            recursive=False,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            force_polling=poll or None,
        ):
            files = {file for _, file in changes}
            if not looked_back:
                # The watch works now. What was written between the start of the reader and this moment gave no event.
                looked_back = True
                files |= self._written_since()
            if files:
                self.files = sorted(files.union(self.files))
                self.changed.set()

    def _written_since(self) -> set[str]:
        """Files that were written since `begin`, each version of a file once.

        The time of the last change of the file's entry is compared: a file that was moved here has an old time of
        its content. It may lie in the future, on a file system of another machine, and must not count for ever.
        """
        written: set[str] = set()
        for file, changed_ns in self._source_files():
            if changed_ns > self._since_ns and self._seen.get(file) != changed_ns:
                self._seen[file] = changed_ns
                written.add(file)
        return written

    def _source_files(self) -> Iterable[tuple[str, int]]:
        for directory in _existing(self._directories):
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.endswith(".py") and entry.is_file():
                        yield entry.path, entry.stat().st_ctime_ns


def _existing(directories: Iterable[str]) -> list[str]:
    return [directory for directory in directories if os.path.isdir(directory)]
