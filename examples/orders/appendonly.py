"""Files that several processes append to and that survive `kill -9` of any of them.

A record is one line of JSON, written with one system call to a file opened with O_APPEND: records of different
processes never mix, and their order in the file is the order in which they were written. A process that is killed
within the call may leave the beginning of a line behind. Each record therefore begins on a line of its own, so
that a fragment spoils nothing but itself; readers count fragments and leave them out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

RecordT = TypeVar("RecordT")


class AppendOnlyFile(Generic[RecordT]):
    """One such file; also reads what was added since it last looked.

    Args:
        path: made when missing, with its directories.
        record: the type of its records, a dataclass or a pydantic model.

    Attributes:
        unreadable: how many fragments were read so far.
    """

    def __init__(self, path: Path, record: type[RecordT]) -> None:
        self._adapter: TypeAdapter[RecordT] = TypeAdapter(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._read_to = 0
        self._rest = b""
        self.unreadable = 0

    def append(self, record: RecordT) -> None:
        """Add a record.

        Raises:
            OSError: it could not be written whole.
        """
        line = b"\n" + self._adapter.dump_json(record) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("a record could be written in part only; is the disk full?")

    def read_new(self) -> list[RecordT]:
        """The records that were added since the last call, those of other processes too."""
        data = self._rest
        while chunk := os.pread(self._file, 1 << 20, self._read_to):
            self._read_to += len(chunk)
            data += chunk
        *lines, self._rest = data.split(b"\n")
        records: list[RecordT] = []
        for line in filter(None, lines):
            try:
                records.append(self._adapter.validate_json(line))
            except ValidationError:
                self.unreadable += 1
        return records

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
