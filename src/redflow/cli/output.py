"""What the commands print. Results go to stdout, everything else to stderr.

Nothing here is wrapped or cut to the width of the terminal but panels, so that lines can be read by programs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from redflow.cli.wire import NotStarted, Ready


def line(text: str) -> None:
    """A line of a result."""
    print(text, flush=True)


def notice(text: str, style: str = "") -> None:
    """A line for people."""
    _stderr().print(Text(text, style), soft_wrap=True)


def refusal(text: str) -> None:
    """The line that says why a command can't be carried out."""
    notice(f"redflow: {text}", "red")


def panel(title: str, text: str) -> None:
    """A panel with something that needs attention."""
    _stderr().print(Panel(Text(text), title=Text(title), title_align="left", border_style="red", expand=False))


def _stderr() -> Console:
    # A new one each time: it looks at sys.stderr and the terminal's width as they are now.
    return Console(stderr=True, highlight=False)
