"""What a worker asks before it begins: whether the server would remove the state of runs when it is full."""

from __future__ import annotations

import logging

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.replies import as_text
from redflow.errors import ConnectionError, RedflowError, ServerTooOldError

log = logging.getLogger("redflow")


async def refuse_eviction(connection: Connection) -> None:
    """Refuse a server that may remove any key, warn of one that may remove keys with an end; one look, at the start.

    A user that may not use INFO is let pass: it can't be known.

    Raises:
        ConnectionError: the server's maxmemory-policy is one of `allkeys-*`, or it can't be reached.
    """
    try:
        told = as_text(await connection.read("INFO", "memory"))
    except (ConnectionError, ServerTooOldError):
        raise
    except RedflowError:
        return
    lines = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("maxmemory_policy:")]
    policy = lines[0] if lines else "noeviction"
    if policy.startswith("allkeys-"):
        raise ConnectionError(
            f"{connection.address} can't be used: its maxmemory-policy is {policy}, so when it is full it removes the "
            "state of runs. Set it: CONFIG SET maxmemory-policy noeviction, and in its configuration file"
        )
    if policy != "noeviction":
        log.warning(
            "%s: maxmemory-policy is %s, so when it is full it removes what has an end, such as waits for events and "
            "idempotency keys; it should be noeviction",
            connection.address,
            policy,
        )
