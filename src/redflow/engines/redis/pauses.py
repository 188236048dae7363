"""How a pause is stored."""

from __future__ import annotations

from redflow.types import Pause


def pause_of(raw: object) -> Pause | None:
    """A stored pause, `<since ms> <reason>`."""
    if not isinstance(raw, bytes):
        return None
    since, _, reason = raw.decode(errors="replace").partition(" ")
    pause: Pause = {"since": int(since) if since.isdigit() else 0}
    if reason:
        pause["reason"] = reason
    return pause
