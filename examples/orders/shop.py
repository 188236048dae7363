"""The world around the workflow: the catalogue, the bank, the outbox.

Bank and outbox do what such services do in reality: they take an idempotency key and carry out each key once,
however often they are asked. That makes a step safe that runs a second time because its worker died after the
effect, but before the result was stored. Each request is in their books, the refused repetitions too.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path

from pydantic.dataclasses import dataclass

from examples.orders.appendonly import AppendOnlyFile


@dataclass(frozen=True, slots=True)
class Product:
    """An article: its name, its price in cents, and whether there is any left."""

    name: str
    cents: int
    in_stock: bool = True


PRODUCTS = {
    "CUP-WHITE": Product("Cup, white", 1_290),
    "CUP-BLUE": Product("Cup, blue", 1_290),
    "TEAPOT-1L": Product("Teapot, 1 l", 4_950),
    "PLATE-27": Product("Plate, 27 cm", 1_690),
    "BOWL-15": Product("Bowl, 15 cm", 1_150),
    "TRAY-OAK": Product("Tray, oak", 5_400),
    "TEA-SENCHA": Product("Sencha, 100 g", 1_490),
    "TEA-ASSAM": Product("Assam, 250 g", 1_780),
    "KETTLE-STEEL": Product("Kettle, steel", 7_900),
    "TABLE-OAK": Product("Tea table, oak", 34_900, in_stock=False),
}

BUSY_BANK_CARD = "tok_busy_bank"
"""Cards of this bank can't be charged at the first try."""


@dataclass(frozen=True, slots=True)
class Request:
    """A line in the books of the bank or of the outbox.

    Attributes:
        key: the idempotency key.
        done: whether it was carried out; False for the repetition of a key.
        cents: the amount charged; 0 in the outbox.
        text: the mail; "" at the bank.
    """

    key: str
    done: bool
    cents: int = 0
    text: str = ""


class Books:
    """The append-only books of a service that carries out each key once, also over processes.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unreadable = 0
        """Fragments of lines found by the last `read`."""

    def carry_out(self, key: str, *, cents: int = 0, text: str = "") -> Request:
        """Carry out a request, unless its key is in the books: then note the repetition.

        Returns:
            The request as it was carried out, now or before. Blocks: call it in a thread.
        """
        book = AppendOnlyFile(self._path, Request)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            earlier = next((entry for entry in book.read_new() if entry.key == key and entry.done), None)
            entry = Request(key, earlier is None, cents, text)
            book.append(entry)
            return earlier or entry
        finally:
            os.close(lock)
            book.close()

    def read(self) -> list[Request]:
        """All requests, in their order."""
        book = AppendOnlyFile(self._path, Request)
        try:
            entries = book.read_new()
            self.unreadable = book.unreadable
            return entries
        finally:
            book.close()


def latency_s(order: str, service: str, shortest_ms: int, longest_ms: int) -> float:
    """How long a service takes for an order, seconds: different for each, the same in every run of the demo."""
    span = longest_ms - shortest_ms + 1
    return (shortest_ms + zlib.crc32(f"{order}/{service}".encode()) % span) / 1000
