"""The commands, put together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from redflow.cli import events, output, queues, repair, runs, schedules, workers
from redflow.cli.dashboard import dashboard
from redflow.cli.dev import dev
from redflow.cli.doctor import doctor
from redflow.cli.exits import INTERRUPTED, PIPE_CLOSED, REFUSED, Refused
from redflow.cli.export import export
from redflow.cli.run import run
from redflow.cli.server import server
from redflow.cli.stats import stats
from redflow.cli.tail import tail
from redflow.cli.version import version
from redflow.cli.worker import worker

P = ParamSpec("P")

app = typer.Typer(
    help="Durable workflows in plain Python, with their state in Redis.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback of ours is a bug; with the values of variables it might show a password.
    pretty_exceptions_enable=False,
)


def _answering(command: Callable[P, int]) -> Callable[P, None]:
    """A command whose result is its exit code, and whose refusals are one line on stderr."""

    @wraps(command)
    def answered(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except Refused as exc:
            output.refusal(str(exc))
            code = REFUSED
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            # Whoever read the output has left (`| head`): nobody is to be told, neither when Python flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = PIPE_CLOSED
        raise typer.Exit(code)

    return answered


def _group(name: str, help_text: str, **commands: Callable[..., int]) -> None:
    """A command with commands of its own."""
    group = typer.Typer(help=help_text, no_args_is_help=True)
    for own_name, command in commands.items():
        group.command(own_name)(_answering(command))
    app.add_typer(group, name=name)


_group(
    "runs",
    "Look at runs and repair them.",
    list=runs.list_runs,
    show=runs.show,
    tail=tail,
    explain=runs.explain,
    failures=runs.failures,
    cancel=repair.cancel,
    retry=repair.retry,
    rerun=repair.rerun,
    export=export,
)
_group("events", "Look at events and emit them.", list=events.list_events, show=events.show, emit=events.emit)
_group(
    "workflows",
    "Registered workflows; pause and resume.",
    list=queues.list_workflows,
    pause=queues.pause_workflow,
    resume=queues.resume_workflow,
)
_group(
    "queues",
    "Queues and their lines; pause and resume.",
    list=queues.list_queues,
    pause=queues.pause_queue,
    resume=queues.resume_queue,
)
_group(
    "schedules",
    "Cron triggers; pause, resume, fire now.",
    list=schedules.list_schedules,
    pause=schedules.pause,
    resume=schedules.resume,
    fire=schedules.fire,
)
_group(
    "workers", "Live workers; drain and resume.", list=workers.list_workers, drain=workers.drain, resume=workers.resume
)

for _command in (dev, dashboard, worker, run, stats, doctor, server, version):
    app.command()(_answering(_command))
