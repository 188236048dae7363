"""Task flows on redflow's own engine: Redis is all it needs, the embedded one included."""

from __future__ import annotations

from r7kit.config import Settings
from r7kit.runtime import FlowEngine, FlowServer
from r7kit.runtimes.redflow.engine import RedflowEngine
from r7kit.runtimes.redflow.server import RedflowServer

__all__ = ["open_engine", "open_server"]


def open_engine(settings: Settings) -> FlowEngine:
    """The client side, for the running event loop."""
    return RedflowEngine(settings)


def open_server(settings: Settings) -> FlowServer:
    """The worker side."""
    return RedflowServer(settings)
