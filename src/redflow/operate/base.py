"""What the namespaces have in common: the engine's part for operators, and what every call checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from redflow.domain.names import check_key, near_names
from redflow.domain.paging import page_limit
from redflow.engine import Engine
from redflow.engine_operations import Operations
from redflow.errors import NotFoundError, NotSupportedError
from redflow.handle import RunReader

LARGEST_PAGE: Final = 200
"""The most items of one page."""


class OperatedClient(RunReader, Protocol):
    """What the namespaces need of the client they belong to."""

    @property
    def engine(self) -> Engine:
        """Where the state is kept."""
        ...

    @property
    def app(self) -> str | None:
        """Name of the application."""
        ...


class Namespace:
    """A part of the client.

    Args:
        client: the client.
    """

    def __init__(self, client: OperatedClient) -> None:
        self._client = client

    @property
    def _engine(self) -> Operations:
        operations = self._client.engine.operations
        if operations is None:
            raise NotSupportedError("the engine of this client has nothing for operators; Redis does")
        return operations


def checked_reason(reason: object) -> str:
    """A reason, "" for a blank one.

    Raises:
        ValueError: it is no text, too long, or has control characters.
    """
    blank = isinstance(reason, str) and not reason.strip()
    return "" if blank else check_key(reason, what="reason")


def checked_page(limit: object) -> int:
    """How many items a page is to have: 1 to 200, 50 for what is no number."""
    return page_limit(limit, largest=LARGEST_PAGE)


def not_found(what: str, name: str, known: Sequence[str] = ()) -> NotFoundError:
    """There is no such thing; names that look like it are told."""
    near = near_names(name, list(known))
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return NotFoundError(f"there is no {what} {name!r}{hint}")
