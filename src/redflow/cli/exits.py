"""How commands end: their exit codes, and a refusal as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redflow.errors import RedflowError, UnknownWorkflowError

OK: Final = 0
"""Done; a server or worker was ended by a signal, in order."""

RUN_FAILED: Final = 1
"""`run --wait`: the run failed."""

WARNED: Final = 1
"""`doctor`: there is a problem or a warning."""

PARTLY: Final = 1
"""`runs cancel` and `runs retry` of named runs: some could not be."""

REFUSED: Final = 2
"""The command can't be carried out: bad usage, no server, no such module or workflow. One line says why."""

RUN_CANCELED: Final = 3
"""`run --wait`: the run was canceled."""

RUN_LASTS: Final = 4
"""`run --wait --timeout`: the run has not ended in time; it goes on."""

WORKER_DRAINED: Final = 69
"""A worker process that was told to claim nothing more and to end has; it is not replaced. Its command exits with 0."""

WORKER_HANGS: Final = 70
"""`worker`: all threads of a worker process hang; start the command again."""

INTERRUPTED: Final = 130
"""Ctrl-C while `run --wait` was waiting; the run goes on."""


PIPE_CLOSED: Final = 141
"""Whoever read the output has left; as a shell tells of a program that SIGPIPE ended."""


class Refused(Exception):
    """A command can't be carried out; the text is the one line that says why. Never holds a password."""


def one_line(error: BaseException) -> str:
    """What an error of ours says, on one line.

    Lists and log excerpts in longer texts follow on lines of their own: a list is joined, a log left in its file.
    """
    text = str(error).partition("; it said:\n")[0]
    text = re.sub(r":\s*\n\s*", ": ", text)
    text = re.sub(r"\s*\n\s*", ", ", text.strip())
    if isinstance(error, UnknownWorkflowError) and error.near_names:
        text += f" (did you mean {' or '.join(error.near_names)}?)"
    return text or type(error).__name__


@contextmanager
def refusals() -> Iterator[None]:
    """What redflow itself refuses in the body (a server, a value, a name) becomes `Refused`.

    Only for bodies that call nothing but redflow: a ValueError from elsewhere would lose its traceback.
    """
    try:
        yield
    except (RedflowError, ValueError, TypeError) as exc:
        raise Refused(one_line(exc)) from exc
