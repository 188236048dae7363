"""A progress bar on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from redflow.types import BulkProgress


class ProgressBar:
    """Shows how far a bulk job is; a context manager.

    Args:
        what: what it does.
    """

    def __init__(self, what: str) -> None:
        parts = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*parts, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> ProgressBar:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take it away."""
        self._progress.stop()

    def show(self, progress: BulkProgress) -> None:
        """Show how far it is; a total that is not exact is no end to run to."""
        total = max(progress["total"], progress["seen"]) if progress["exact"] else None
        self._progress.update(self._task, completed=progress["seen"], total=total)
