"""Connecting to Temporal."""

from __future__ import annotations

import atexit
import gc
import time
from typing import Final

from temporalio.client import Client

from r7kit.config import Settings
from r7kit.exceptions import TemporalNotConnected
from r7kit.runtimes.temporal.converter import data_converter
from r7kit.runtimes.temporal.options import Keywords, TemporalOptions, temporal_options

_SETTLE_S: Final = 0.1


@atexit.register
def _settle() -> None:
    """Let the threads of temporalio's core come to rest before the interpreter is taken down.

    One that waits for the interpreter's lock at that moment, to drop a finished call, aborts the process: exit code 134
    after all work was done. It gets the lock here.
    """
    gc.collect()
    time.sleep(_SETTLE_S)


async def connect(settings: Settings, options: TemporalOptions | None = None) -> Client:
    """A client of the server that the settings name.

    Raises:
        TemporalNotConnected: it can't be reached.
    """
    options = options or temporal_options()
    arguments: Keywords = {
        "namespace": settings.temporal_namespace,
        "api_key": settings.temporal_api_key,
        "tls": options.tls if options.tls is not None else settings.temporal_tls,
        "data_converter": data_converter(options.payload_codec),
        "interceptors": list(options.interceptors),
        "plugins": list(options.plugins),
        **options.client_options,
    }
    try:
        return await Client.connect(settings.temporal_address, **arguments)
    except RuntimeError as exc:  # what the SDK raises for everything that goes wrong here
        raise TemporalNotConnected(
            f"Temporal at {settings.temporal_address} can't be reached (namespace {settings.temporal_namespace!r}): "
            f"{exc}"
        ) from exc
