"""On which shard things live. Scripts compute the same (`workflow_shard.lua`, `other_shard.lua`)."""

from __future__ import annotations

import hashlib
from typing import Final

MAX_SHARDS: Final = 256
"""The most shards of a prefix; each costs an idle worker some commands, so more would serve nobody."""

_FIRST: Final = 13
_END: Final = 16


def shard_of_name(name: str, shards: int) -> int:
    """Where a workflow, or the lock of a mutex, lives.

    Args:
        name: of the workflow, or the mutex's key.
        shards: how many there are.
    """
    return int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:8], 16) % shards


def shard_of_run(stored: str) -> int:
    """The shard that a stored run id names; it may be none that there is."""
    return int(stored[_FIRST:_END], 16)


def on_shard(stored: str, shard: int) -> str:
    """The same id, naming a shard."""
    return f"{stored[:_FIRST]}{shard:03x}{stored[_END:]}"
