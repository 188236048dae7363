"""The garbage collector of a process that does nothing but work off runs."""

from __future__ import annotations

import gc
from typing import Final

_NEW_OBJECTS: Final = 10_000
"""After so many new containers the youngest are looked at, and not after 700: a hundred runs under way are more."""
_ROUNDS: Final = (20, 50)


def spare_collector() -> None:
    """Make the collector look at less, and less often; call it when everything is imported.

    What is there by then (classes, functions, compiled models) stays for good, so it is taken out of its sight. Runs
    themselves leave no reference cycles behind; it is still there for those of user code.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *_ROUNDS)
