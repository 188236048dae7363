"""Lists outside of the system that runs append to, one file for each place of each list.

A place is taken by whoever is first: so a run that was given up, and wakes long after, can't write over what others
appended since. It is what users are told to do with what they write elsewhere from a step.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class TakenError(Exception):
    """Somebody else has the place behind what was read; the message tells who."""


class Lists:
    """All lists of one world.

    Args:
        directory: of the world; the lists have one below it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "lists"
        self._directory.mkdir(exist_ok=True)

    def read(self, key: str) -> list[int]:
        """What the list has now."""
        found: list[int] = []
        with contextlib.suppress(FileNotFoundError):
            while True:
                found.append(int(self._place(key, len(found)).read_text("ascii")))
        return found

    def append(self, key: str, before: list[int], number: int) -> list[int]:
        """Put a number behind what was read; again by the same run changes nothing.

        Raises:
            TakenError: another number is there.
        """
        place = self._place(key, len(before))
        mine = self._directory / f"{number}.{os.getpid()}"
        mine.write_text(str(number), "ascii")
        try:
            os.link(mine, place)
        except FileExistsError:
            if (other := int(place.read_text("ascii"))) != number:
                raise TakenError(str(other)) from None
        finally:
            mine.unlink()
        return [*before, number]

    def _place(self, key: str, at: int) -> Path:
        return self._directory / f"{key}-{at}"
