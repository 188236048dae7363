"""What the commands print. Results and progress go to stdout, refusals and errors to stderr.

But for panels nothing is wrapped or cut to the width of the terminal, so that lines can be read by programs.
Texts from elsewhere are never taken for rich's markup.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from redflow import __version__
from redflow.cli.texts import json_text, safe
from redflow.cli.wire import NotStarted, Ready
from redflow.engines.redis.embedded import EmbeddedServer
from redflow.types import DoctorReport, JsonData


def line(text: str) -> None:
    """A line of a result."""
    print(text, flush=True)


def lines(texts: Iterable[str]) -> None:
    """Lines of a result, such as a table."""
    for text in texts:
        print(text)
    sys.stdout.flush()


def notice(text: str, style: str = "", *, err: bool = False) -> None:
    """A line for people."""
    from rich.console import Console  # late: it takes longer than many commands
    from rich.text import Text

    # A new console each time: it looks at the stream and the terminal as they are now.
    Console(stderr=err, highlight=False).print(Text(safe(text, lines=True), style), soft_wrap=True)


def refusal(text: str) -> None:
    """The line that says why a command can't be carried out."""
    notice(f"redflow: {text}", "red", err=True)


# --- dev and server ---------------------------------------------------------------------------------------------


def server_ready(server: EmbeddedServer) -> None:
    """The bundled server answers."""
    notice(f"server {server.pid} is ready, its data in {server.directory}; Ctrl-C ends it")
    notice(f"  {server.url}", "bold")
    notice(f"  {server.unix_url}")


def dashboard_ready(url: str, actions: bool) -> None:
    """The dashboard is served."""
    notice(f"dashboard {'' if actions else '(read-only) '}is ready; Ctrl-C ends it")
    notice(f"  {url}", "bold")


def dev_started(url: str | None, prefix: str | None, dashboard: str | None) -> None:
    """The head of a `dev` session; `url` is what other shells need, None if the user gave it."""
    if dashboard is not None:
        notice(f"dashboard: {dashboard}", "bold")
    notice(f"redflow dev {__version__}; Ctrl-C ends it")
    if url is not None:
        notice("for another shell:")
        notice(f"  export REDIS_URL={url}", "bold")
        if prefix is not None:
            notice(f"  export REDFLOW_PREFIX={prefix}", "bold")


def dev_obstacle(obstacle: NotStarted) -> None:
    """The worker can't start until the source is changed."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    text = f"{(obstacle.detail or obstacle.text).rstrip()}\n\nWaiting for a change of the source."
    console = Console(stderr=True, highlight=False)
    console.print(Panel(Text(text), title=Text(obstacle.text), title_align="left", border_style="red"))


def dev_reloads(files: Sequence[str]) -> None:
    """Source was changed, the worker is replaced."""
    here = Path.cwd()
    paths = [Path(file) for file in files]
    names = [str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in paths]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    notice(f"{', '.join(names[:3])}{more} changed: reloading", "yellow")


# --- worker processes -------------------------------------------------------------------------------------------


class WorkerLines:
    """What happens to worker processes, a line each."""

    def __init__(self, *, err: bool = False) -> None:
        self._err = err

    def worker_ready(self, pid: int, ready: Ready) -> None:
        """A worker process claims."""
        workflows = f"{len(ready.workflows)} workflow{'s' if len(ready.workflows) != 1 else ''}"
        queues = ", ".join(ready.queues) or "none"
        text = f"worker {pid} is ready: {workflows} ({', '.join(ready.workflows)}), queues {queues}, on {ready.server}"
        notice(text, "green", err=self._err)

    def worker_died(self, pid: int, code: int, why: str, pause_s: float) -> None:
        """A worker process ended though nobody asked; it is replaced after the pause."""
        notice(f"worker {pid} ended: {why or _end_text(code)}; another one in {pause_s:g} s", "yellow", err=True)

    def worker_hangs(self, pid: int) -> None:
        """All threads of a worker process hang."""
        notice(
            f"worker {pid}: all threads hang in steps that were given up; ending, to be started again", "red", err=True
        )

    def worker_drained(self, pid: int) -> None:
        """A worker process was drained and has ended; it is not replaced."""
        notice(f"worker {pid} was drained and has ended", err=self._err)

    def stopping(self, grace_s: float) -> None:
        """The end has begun."""
        text = f"stopping: runs have {grace_s:g} s to end, the rest is handed back (again: hand back now)"
        notice(text, err=self._err)

    def worker_killed(self, pid: int) -> None:
        """A worker process had to be killed."""
        text = f"worker {pid} did not end and was killed; its runs go on elsewhere when their leases have run out"
        notice(text, "yellow", err=True)


def _end_text(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


# --- run --------------------------------------------------------------------------------------------------------


def json_line(value: JsonData) -> None:
    """A result as one line of JSON."""
    line(json_text(value))


def next_page(cursor: str | None) -> None:
    """How to get the page that follows, if there is one; on stderr, since it is none of what was asked for."""
    if cursor is not None:
        notice(f"more: --cursor {cursor}", err=True)


def changed(key: str, name: str, what: str, done: bool, as_json: bool) -> None:
    """What came of an action that may find nothing to change, such as a pause.

    Args:
        key: what JSON calls the name.
        name: of what was acted on.
        what: what it is now: paused, resumed.
        done: whether it was not so before.
        as_json: for programs.
    """
    if as_json:
        json_line({key: name, what: True, "changed": done})
    else:
        line(safe(f"{name}: {what}" if done else f"{name}: nothing to change"))


def run_output(value: JsonData) -> None:
    """The output of a run."""
    line(json_text(value, indent=2))


def run_failed(run_id: str, error: JsonData) -> None:
    """A run failed: its error, with the traceback if one is stored."""
    fields = error if isinstance(error, dict) else {}
    name, message, stack = (fields.get(field) for field in ("name", "message", "stack"))
    notice(f"run {run_id} failed: {name or 'Error'}: {message or 'unknown'}", "red", err=True)
    if isinstance(stack, str):
        notice(stack.rstrip(), "dim", err=True)


def run_canceled(run_id: str, text: str) -> None:
    """A run was canceled."""
    notice(f"run {run_id} was canceled: {text}", "yellow", err=True)


def run_lasts(run_id: str, timeout_s: float) -> None:
    """A run has not ended in time."""
    notice(f"run {run_id} has not ended within {timeout_s:g} s; it goes on", "yellow", err=True)


# --- doctor -----------------------------------------------------------------------------------------------------

_COLOURS = {"problem": "red", "warning": "yellow", "note": ""}


def diagnosis(report: DoctorReport) -> None:
    """What the doctor found, for people."""
    notice(f"{report['server']}: {report['version']}", "bold")
    notice("What would be lost now, if")
    for event, loss in report["losses"].items():
        notice(f"  the {event}: {loss}")
    for finding in report["findings"]:
        notice(f"{finding['level']}: {finding['text']} [{finding['remedy']}]", _COLOURS[finding["level"]])
    for what in report["unseen"]:
        notice(f"not visible: {what}")
    if report["healthy"]:
        notice("Nothing to warn of.", "green")
