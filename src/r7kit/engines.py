"""The engine of the running event loop, as the settings say."""

from __future__ import annotations

from r7kit._loops import PerLoop
from r7kit.config import Settings, current
from r7kit.runtime import FlowEngine
from r7kit.runtimes import engine_module


async def _close(engine: FlowEngine) -> None:
    await engine.close()


_engines: PerLoop[Settings, FlowEngine] = PerLoop(
    lambda settings: engine_module(settings.engine).open_engine(settings), _close
)


async def current_engine(settings: Settings | None = None) -> FlowEngine:
    """The engine that the settings mean, shared by all of this event loop; closed when the loop ends.

    Args:
        settings: None: those that hold now.

    Raises:
        ImportError: the engine needs an extra that is not installed; the message says which.
    """
    return await _engines.get(settings or current())


async def close_engines() -> None:
    """Close the engines of this event loop now; later uses open new ones."""
    await _engines.close()
