"""What a worker asks before it begins: whether the server would remove the state of runs when it is full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.replies import as_text
from redflow.errors import ConnectionError, RedflowError, ServerTooOldError, ShardMismatchError

log = logging.getLogger("redflow")

_PATIENCE_S: Final = 0.5
"""How long another shard than home is asked."""


async def refuse_eviction(connections: Sequence[Connection]) -> None:
    """Refuse servers that may remove any key, warn of those that may remove keys with an end; one look, at the start.

    A user that may not use INFO is let pass, and so is a shard that is out of reach: it can't be known.

    Args:
        connections: to home, and to the other shards.

    Raises:
        ConnectionError: the maxmemory-policy of one is `allkeys-*`, or home can't be reached.
    """
    home, *others = connections
    told = await asyncio.gather(
        _policy(home, None), *(_policy(other, _PATIENCE_S) for other in others), return_exceptions=True
    )
    if isinstance(told[0], BaseException):
        raise told[0]
    for policy in sorted({policy for policy in told if isinstance(policy, str)} - {"noeviction"}):
        if policy.startswith("allkeys-"):
            raise ConnectionError(
                f"{home.address} can't be used: its maxmemory-policy is {policy}, so when it is full it removes the "
                "state of runs. Set it: CONFIG SET maxmemory-policy noeviction, and in its configuration file"
            )
        log.warning(
            "%s: maxmemory-policy is %s, so when it is full it removes what has an end, such as waits for events and "
            "idempotency keys; it should be noeviction",
            home.address,
            policy,
        )


async def _policy(connection: Connection, patience_s: float | None) -> str:
    try:
        told = as_text(await connection.read("INFO", "memory", patience_s=patience_s))
    except (ConnectionError, ServerTooOldError, ShardMismatchError):
        raise
    except RedflowError:
        return "noeviction"
    lines = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("maxmemory_policy:")]
    return lines[0] if lines else "noeviction"
