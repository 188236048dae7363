"""What a worker says of a server that is out of reach: not a line for each of its duties and each of their tries."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from redflow.errors import ConnectionError

log = logging.getLogger("redflow")

_EVERY_S: Final = 5.0


class Complaints:
    """The complaints of all who use one server: while it is out of reach one line in five seconds speaks for all."""

    def __init__(self) -> None:
        self._told_at = float("-inf")

    def tell(self, text: str, *args: object) -> None:
        """Log a warning that ends with the error, its last argument."""
        if isinstance(args[-1], ConnectionError):
            now = monotonic()
            if now - self._told_at < _EVERY_S:
                log.debug(text, *args)
                return
            self._told_at = now
        log.warning(text, *args)
