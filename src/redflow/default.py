"""The process-wide default client, used by `defn.run` and wherever no client is given."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from redflow.definitions import set_client_provider

if TYPE_CHECKING:
    from redflow.client import RedflowClient

_lock = threading.Lock()
_client: RedflowClient | None = None


def get_default_client() -> RedflowClient:
    """The default client; the first call makes it with `create_client()`, which opens no connection."""
    global _client
    with _lock:
        if _client is None:
            # Here and not above: the client module exports this function.
            from redflow.client import create_client

            _client = create_client()
        return _client


def set_default_client(client: RedflowClient | None) -> None:
    """Replace the default client.

    Args:
        client: the client to use from now on; None has a new one made at the next use. The former one is not
            closed.
    """
    global _client
    with _lock:
        _client = client


set_client_provider(get_default_client)
