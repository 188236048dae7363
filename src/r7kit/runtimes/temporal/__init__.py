"""Task flows on Temporal. Needs the extra `temporal`.

from r7kit.runtimes.temporal import TemporalOptions, set_temporal_options
set_temporal_options(TemporalOptions(payload_codec=MyEncryption(), interceptors=[TracingInterceptor()]))
"""

from __future__ import annotations

import importlib

from r7kit.config import Settings
from r7kit.runtime import FlowEngine, FlowServer

try:
    importlib.import_module("temporalio.workflow")
except ImportError as exc:
    raise ImportError(
        "the engine `temporal` needs temporalio, which is not installed: install the extra redflow[temporal], or "
        'choose the other engine with configure(engine="redflow") or R7KIT_ENGINE=redflow'
    ) from exc

from r7kit.runtimes.temporal.options import TemporalOptions, set_temporal_options

__all__ = ["TemporalOptions", "open_engine", "open_server", "set_temporal_options"]


def open_engine(settings: Settings) -> FlowEngine:
    """The client side, for the running event loop."""
    from r7kit.runtimes.temporal.engine import TemporalEngine

    return TemporalEngine(settings)


def open_server(settings: Settings) -> FlowServer:
    """The worker side."""
    from r7kit.runtimes.temporal.server import TemporalServer

    return TemporalServer(settings)
