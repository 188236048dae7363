"""Narrows what a server answered to what a verb's contract promises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard, TypeVar

from redflow.errors import PayloadDecodeError, RedflowError

T = TypeVar("T")

Reply = None | int | bytes | list["Reply"]
"""What a server answers."""

log = logging.getLogger("redflow")


class BrokenRecordError(RedflowError):
    """What is stored is not what any version of redflow writes."""


def fault_of(exc: BaseException) -> str:
    """What is wrong with a record, without any of its content, which may be a payload."""
    if isinstance(exc, UnicodeDecodeError):
        return f"no UTF-8 at byte {exc.start} of {len(exc.object)}"
    return f"{type(exc).__name__}: {exc}"[:300]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a broken record makes of its readers into one error that names it.

    Raises:
        BrokenRecordError
        PayloadDecodeError: it isn't the record that is broken, but what is encrypted in it.
    """
    try:
        yield
    except PayloadDecodeError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError) as exc:
        raise BrokenRecordError(f"the stored record of {what} is broken: {fault_of(exc)}") from exc


def readable(what: str, read: Callable[[], T]) -> T | None:
    """What is read; None for a record that is broken, which is logged: it takes no other one along."""
    try:
        with reading(what):
            return read()
    except (BrokenRecordError, PayloadDecodeError) as exc:
        log.error("%s; it is left out", exc)
        return None


def as_list(reply: Reply) -> list[Reply]:
    """The reply as a list.

    Raises:
        RedflowError: it is something else, so the server runs another version of the script.
    """
    if isinstance(reply, list):
        return reply
    raise _unexpected(reply, "a list")


def as_int(reply: Reply) -> int:
    """The reply as an integer; text of one is accepted, since Lua and scores give either."""
    if isinstance(reply, int):
        return reply
    if isinstance(reply, bytes):
        return int(float(reply))
    raise _unexpected(reply, "an integer")


def as_bytes(reply: Reply) -> bytes:
    """The reply as bytes."""
    if isinstance(reply, bytes):
        return reply
    raise _unexpected(reply, "text")


def as_text(reply: Reply) -> str:
    """The reply as text."""
    return as_bytes(reply).decode()


def as_pairs(reply: Reply) -> list[tuple[str, str]]:
    """A flat list of texts as pairs."""
    texts = iter([part.decode() if isinstance(part, bytes) else as_text(part) for part in as_list(reply)])
    return list(zip(texts, texts, strict=True))


def time_or_none(reply: Reply) -> int | None:
    """A time in ms, where empty text means none."""
    return None if reply in (b"", None) else as_int(reply)


def as_fields(reply: Reply) -> dict[bytes, bytes]:
    """A flat list of names and values as a dict."""
    flat = as_list(reply)
    if _all_bytes(flat):
        one_by_one = iter(flat)
        return dict(zip(one_by_one, one_by_one, strict=True))
    return {
        as_bytes(name): value if isinstance(value, bytes) else str(value).encode()
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def _all_bytes(flat: list[Reply]) -> TypeGuard[list[bytes]]:
    return set(map(type, flat)) == {bytes}


def as_reasons(flat: list[Reply]) -> dict[int, str]:
    """What a batch verb tells of single items: index -> reason."""
    return {as_int(index): as_text(reason) for index, reason in zip(flat[::2], flat[1::2], strict=True)}


def _unexpected(reply: Reply, wanted: str) -> RedflowError:
    return RedflowError(f"unexpected reply from the server: {wanted} was expected, got {str(reply)[:200]!r}")
